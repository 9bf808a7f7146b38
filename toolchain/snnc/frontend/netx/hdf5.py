"""Read the HDF5 of a netx file, in a process of its own.

The HDF5 library is made for files that it wrote itself. A damaged one may send it into an
endless loop or out of its memory, so `file` runs `main` as a program that can be given up:
the file comes on standard input, and its layers leave on standard output as an npz
archive whose array `index` is JSON text; see `file` for what they mean.

HDF5 can also point elsewhere: links to other files, data stored in other files. Such a file is
refused, and so is one whose arrays would not fit in memory.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnc.errors import InvalidFile, MissingDependency

NOTES = "snnc"  # beside `layer`: the text in which `snnc export` keeps what netx cannot say
REFUSED = 3  # exit status: standard error says what is wrong with the file
_ELEMENTS = 1 << 28  # of one array: more is not a network that we could hold
_MEMBERS = 4096  # of one group
_DAMAGE = (  # what h5py raises, depending on which bytes are damaged
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)

Arrays = dict[str, Any]  # the arrays that leave: "a0", "a1", ...


def h5py() -> Any:  # noqa: ANN401  (it has no types)
    """Import h5py.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import h5py as module
    except ImportError as error:
        raise MissingDependency("netx files need h5py; try: pip install 'snnc[netx]'") from error
    return module


def main() -> int:
    """Read standard input, write standard output, return the exit status."""
    module = h5py()
    arrays: Arrays = {}
    try:
        with module.File(io.BytesIO(sys.stdin.buffer.read()), "r") as file:
            index = json.dumps(_index(module, file, arrays))
    except InvalidFile as error:
        reason = str(error)
    except _DAMAGE as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = f"is damaged or no HDF5 file ({first}); export it again"
    else:
        text = np.frombuffer(index.encode(), dtype=np.uint8)
        np.savez(sys.stdout.buffer, index=text, **arrays)
        return 0
    sys.stderr.write(reason)
    return REFUSED


def _index(module: Any, file: Any, arrays: Arrays) -> dict[str, object]:  # noqa: ANN401
    if "layer" not in file:
        raise InvalidFile("has no group 'layer', so it is no netx file; pass one of lava-dl")
    layers = _group(module, file, "layer")
    names = list(_names(layers))
    if sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
        raise InvalidFile(
            f"has layers called {', '.join(sorted(names)[:5]) or 'nothing'}; netx numbers them "
            "from 0 without a gap, export it again"
        )
    notes = _value(module, file, NOTES, arrays) if NOTES in file else {"text": None}
    steps = None
    if "simulation" in file and "tSample" in (simulation := _group(module, file, "simulation")):
        steps = _value(module, simulation, "tSample", arrays)
    return {
        "records": [_record(module, layers, str(i), arrays) for i in range(len(names))],
        "steps": steps,
        "notes": notes.get("text", ""),
    }


def _record(module: Any, layers: Any, name: str, arrays: Arrays) -> dict[str, object]:  # noqa: ANN401
    group = _group(module, layers, name)
    fields: dict[str, dict[str, str]] = {}
    neuron: dict[str, dict[str, str]] | None = None
    for key in _names(group):
        if not isinstance(_member(module, group, key), module.Group):
            fields[key] = _value(module, group, key, arrays)
            continue
        inner = _group(module, group, key)
        values = {each: _value(module, inner, each, arrays) for each in _names(inner)}
        if key == "neuron":
            neuron = values
        else:
            fields.update({f"{key}/{each}": value for each, value in values.items()})
    kind = fields.pop("type", {}).get("text")
    if kind is None:
        raise InvalidFile(f"has no type in layer/{name}; export it again")
    return {"place": f"layer/{name}", "kind": kind, "fields": fields, "neuron": neuron}


def _names(group: Any) -> Iterator[str]:  # noqa: ANN401
    if len(group) > _MEMBERS:
        raise InvalidFile(f"has {len(group)} members in {group.name}, more than any network")
    yield from group.keys()


def _group(module: Any, parent: Any, name: str) -> Any:  # noqa: ANN401
    found = _member(module, parent, name)
    if not isinstance(found, module.Group):
        raise InvalidFile(f"has no group {_place(parent, name)}; export it again")
    return found


def _member(module: Any, parent: Any, name: str) -> Any:  # noqa: ANN401
    """Return a member of a group, if it lies in this file."""
    if not isinstance(parent.get(name, getlink=True), module.HardLink):
        raise InvalidFile(
            f"keeps {_place(parent, name)} in another place; netx files hold their data "
            "themselves, export it again"
        )
    return parent[name]


def _value(module: Any, parent: Any, name: str, arrays: Arrays) -> dict[str, str]:  # noqa: ANN401
    """Return a text, or the name under which an array of numbers leaves."""
    found, place = _member(module, parent, name), _place(parent, name)
    if not isinstance(found, module.Dataset):
        raise InvalidFile(f"has no array {place}; export it again")
    if found.external or found.is_virtual:
        raise InvalidFile(f"keeps {place} in another file; export it again")
    if found.shape is None or not 0 < found.size <= _ELEMENTS:
        raise InvalidFile(
            f"has {place} of shape {found.shape}; between 1 and {_ELEMENTS} values are read"
        )
    if found.dtype.kind in "SO":
        return {"text": _text(found, place)}
    if found.dtype.kind not in "iufb":
        raise InvalidFile(f"has {found.dtype} in {place}, not numbers; export it again")
    arrays[f"a{len(arrays)}"] = np.asarray(found[()])
    return {"array": f"a{len(arrays) - 1}"}


def _text(dataset: Any, place: str) -> str:  # noqa: ANN401
    if dataset.size != 1:
        raise InvalidFile(f"has several texts in {place}; export it again")
    value = np.asarray(dataset[()]).reshape(()).item()
    if isinstance(value, bytes):
        return value.decode("ascii")
    if not isinstance(value, str):
        raise InvalidFile(f"has no text in {place}; export it again")
    return value


def _place(parent: Any, name: str) -> str:  # noqa: ANN401
    return f"{parent.name.rstrip('/')}/{name}".lstrip("/")
