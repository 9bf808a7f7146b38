"""Frozen dataclasses <-> JSON and named arrays, driven by their type annotations.

Every dataclass becomes an object with its class name under "type" and one key for each
field; every array becomes the name of a tensor. Decoding is strict: a missing, unknown or
ill-typed field is an error that names its place.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from snnc.errors import nearest

Tensors = dict[str, npt.NDArray[Any]]


class Undecodable(Exception):
    """The place and the fact, for the error that names the file."""


def encode(value: object, tensors: Tensors, place: str) -> object:
    """Return the JSON form of a value; put its arrays into `tensors` under their place."""
    if isinstance(value, np.ndarray):
        tensors[place] = _narrow(value)
        return {"tensor": place}
    if is_dataclass(value):
        encoded = {"type": type(value).__name__}
        for field in fields(value):
            encoded[field.name] = encode(  # type: ignore[assignment]
                getattr(value, field.name), tensors, f"{place}.{field.name}"
            )
        return encoded
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [encode(item, tensors, f"{place}.{i}") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): encode(item, tensors, f"{place}.{key}") for key, item in value.items()}
    return value


def _narrow(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Store integers in the smallest signed type that holds them."""
    if array.dtype.kind != "i" or not array.size:
        return np.asarray(array, order="C")
    low, high = int(array.min()), int(array.max())
    for width in (np.int8, np.int16, np.int32):
        limits = np.iinfo(width)
        if limits.min <= low and high <= limits.max:
            return np.asarray(array, dtype=width, order="C")
    return np.asarray(array, order="C")


def decode(hint: Any, value: object, tensors: Mapping[str, npt.NDArray[Any]], place: str) -> Any:  # noqa: ANN401
    """Return the value of type `hint` that `encode` turned into `value`.

    Raises:
        Undecodable: the value is not of that type.
    """
    hint = _resolved(hint)
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(get_args(hint), value, tensors, place)
    if origin is np.ndarray:
        return _decode_array(get_args(hint)[1], value, tensors, place)
    if origin is tuple:
        return _decode_tuple(get_args(hint), value, tensors, place)
    if origin is collections.abc.Mapping:
        return _expect(dict, value, place)
    if is_dataclass(origin or hint):
        return _decode_dataclass(origin or hint, get_args(hint), value, tensors, place)
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = {member.value: member for member in hint}
        if not isinstance(value, str) or value not in known:
            raise Undecodable(f"{place} is {value!r}; {nearest(str(value), known)}")
        return known[value]
    if hint is float and type(value) is int:
        return float(value)
    return _expect(hint, value, place)


def _resolved(hint: Any) -> Any:  # noqa: ANN401
    """Expand an alias of a `type` statement, such as numpy's NDArray from Python 3.12 on."""
    value = getattr(get_origin(hint) or hint, "__value__", None)
    if value is None:
        return hint
    arguments = get_args(hint)
    return _resolved(value[arguments] if arguments else value)


def _expect(kind: type, value: object, place: str) -> object:
    if type(value) is not kind:  # bool is an int to isinstance
        raise Undecodable(f"{place} is {type(value).__name__}, not {kind.__name__}")
    return value


def _decode_union(
    members: tuple[Any, ...], value: object, tensors: Mapping[str, npt.NDArray[Any]], place: str
) -> object:
    table = {(get_origin(member) or member).__name__: member for member in members}
    kind = _expect(dict, value, place).get("type")  # type: ignore[attr-defined]
    if kind not in table:
        raise Undecodable(f"{place} has unknown type {kind!r}; {nearest(str(kind), table)}")
    return decode(table[kind], value, tensors, place)


def _decode_dataclass(
    cls: Any,  # noqa: ANN401
    arguments: tuple[Any, ...],
    value: object,
    tensors: Mapping[str, npt.NDArray[Any]],
    place: str,
) -> object:
    entries: dict[str, object] = dict(_expect(dict, value, place))  # type: ignore[call-overload]
    if entries.pop("type", None) != cls.__name__:
        raise Undecodable(f"{place} is not a {cls.__name__}")
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    if unknown := set(entries) - set(names):
        first = min(unknown)
        raise Undecodable(f"{place} has an unknown field {first!r}; {nearest(first, names)}")
    if missing := [name for name in names if name not in entries]:
        raise Undecodable(f"{place} lacks {', '.join(missing)}")
    parameters = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    return cls(
        **{
            name: decode(
                _substitute(hints[name], parameters), entries[name], tensors, f"{place}.{name}"
            )
            for name in names
        }
    )


def _substitute(hint: Any, parameters: Mapping[Any, Any]) -> Any:  # noqa: ANN401
    free = [p for p in getattr(hint, "__parameters__", ()) if isinstance(p, TypeVar)]
    return hint[tuple(parameters[p] for p in free)] if free else hint


def _decode_tuple(
    arguments: tuple[Any, ...],
    value: object,
    tensors: Mapping[str, npt.NDArray[Any]],
    place: str,
) -> tuple[object, ...]:
    items: list[object] = list(_expect(list, value, place))  # type: ignore[call-overload]
    hints = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
    if len(hints) != len(items):
        raise Undecodable(f"{place} has {len(items)} items, not {len(hints)}")
    return tuple(
        decode(hint, item, tensors, f"{place}.{i}")
        for i, (hint, item) in enumerate(zip(hints, items, strict=True))
    )


def _decode_array(
    hint: Any,  # noqa: ANN401
    value: object,
    tensors: Mapping[str, npt.NDArray[Any]],
    place: str,
) -> npt.NDArray[Any]:
    name = _expect(dict, value, place).get("tensor")  # type: ignore[attr-defined]
    if name not in tensors:
        raise Undecodable(f"{place} names a tensor {name!r} that is not in the file")
    wanted = np.dtype(get_args(hint)[0])
    array = tensors[name]
    if array.dtype.kind != wanted.kind or array.dtype.itemsize > wanted.itemsize:
        raise Undecodable(f"{place} holds {array.dtype}, not {wanted}")
    if wanted.kind == "f" and array.dtype != wanted:
        raise Undecodable(f"{place} holds {array.dtype}, not {wanted}")
    array = array.astype(wanted)
    array.setflags(write=False)
    return array
