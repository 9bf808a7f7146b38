"""What a checkpoint says about its network, to JSON and back, strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Literal, TypeVar, get_args

from snnc.errors import InvalidSetting, SnncError, nearest
from snnc.ir.graph import Granularity, Reset
from snnc.ir.weights import Shape
from snnc.learn import surrogates
from snnc.learn.surrogates import Surrogate

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, kw_only=True)
class SpikingSettings:
    """How a network was made spiking: the arguments of `snnc.learn.spiking.to_spiking`."""

    steps: int
    reset: Reset
    keep: float
    granularity: Granularity
    surrogate: Surrogate


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """All of a checkpoint but its weights."""

    kind: Literal["ann", "snn"]
    architecture: str  # an installed name, or "module:callable"
    arguments: Mapping[str, object]  # JSON values only
    input_shape: Shape
    class_names: tuple[str, ...]
    spiking: SpikingSettings | None  # for kind "snn"
    provenance: Mapping[str, object]  # JSON values only


def header_to_json(header: Header) -> object:
    """Return the header as JSON values.

    Raises:
        InvalidSetting: arguments or provenance hold something else.
    """
    spiking = None
    if header.spiking is not None:
        spiking = {
            "steps": header.spiking.steps,
            "reset": header.spiking.reset.value,
            "keep": header.spiking.keep,
            "granularity": header.spiking.granularity.value,
            "surrogate": {
                "shape": header.spiking.surrogate.shape,
                "width": header.spiking.surrogate.width,
            },
        }
    values = {
        "kind": header.kind,
        "architecture": header.architecture,
        "arguments": dict(header.arguments),
        "input_shape": list(header.input_shape),
        "class_names": list(header.class_names),
        "spiking": spiking,
        "provenance": dict(header.provenance),
    }
    try:
        plain: object = json.loads(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidSetting(
            f"a checkpoint's arguments and provenance are JSON values: {error}; convert them"
        ) from error
    return plain


def header_from_json(value: object) -> Header:
    """Return the header that `header_to_json` turned into JSON values.

    Raises:
        ValueError: it is none; the text says where.
    """
    entries = _entries(value, "the header", [field.name for field in fields(Header)])
    shape = tuple(_expect(int, size, "input_shape") for size in _listed(entries, "input_shape"))
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(f"input_shape is {shape}")
    names = tuple(_expect(str, name, "class_names") for name in _listed(entries, "class_names"))
    spiking = None if entries["spiking"] is None else _spiking(entries["spiking"])
    kind: Literal["ann", "snn"] = "ann" if spiking is None else "snn"
    if entries["kind"] != kind:
        raise ValueError(f"kind is {entries['kind']!r}, but its settings are those of {kind!r}")
    return Header(
        kind=kind,
        architecture=_expect(str, entries["architecture"], "architecture"),
        arguments=_expect(dict, entries["arguments"], "arguments"),
        input_shape=shape,
        class_names=names,
        spiking=spiking,
        provenance=_expect(dict, entries["provenance"], "provenance"),
    )


def _spiking(value: object) -> SpikingSettings:
    entries = _entries(value, "spiking", [field.name for field in fields(SpikingSettings)])
    drawn = _entries(entries["surrogate"], "surrogate", ["shape", "width"])
    shape = _expect(str, drawn["shape"], "surrogate.shape")
    known = get_args(surrogates.Shape)
    if shape not in known:
        raise ValueError(f"surrogate.shape is {shape!r}; {nearest(shape, known)}")
    try:
        surrogate = Surrogate(known[known.index(shape)], _number(drawn["width"], "surrogate.width"))
    except SnncError as error:
        raise ValueError(str(error)) from error
    return SpikingSettings(
        steps=_expect(int, entries["steps"], "steps"),
        reset=_member(Reset, entries["reset"], "reset"),
        keep=_number(entries["keep"], "keep"),
        granularity=_member(Granularity, entries["granularity"], "granularity"),
        surrogate=surrogate,
    )


def _entries(value: object, place: str, names: list[str]) -> dict[str, Any]:
    entries: dict[str, Any] = _expect(dict, value, place)
    if set(entries) != set(names):
        raise ValueError(f"{place} has {sorted(map(str, entries))}, not {sorted(names)}")
    return entries


def _listed(entries: dict[str, Any], name: str) -> list[object]:
    return _expect(list, entries[name], name)


T = TypeVar("T")


def _expect(kind: type[T], value: object, place: str) -> T:
    if type(value) is not kind:  # bool is an int to isinstance
        raise ValueError(f"{place} is {value!r}")
    return value


def _number(value: object, place: str) -> float:
    return float(value) if type(value) is int else _expect(float, value, place)


def _member(kind: type[E], value: object, place: str) -> E:
    for member in kind:
        if member.value == value:
            return member
    raise ValueError(f"{place} is {value!r}; {nearest(str(value), [m.value for m in kind])}")
