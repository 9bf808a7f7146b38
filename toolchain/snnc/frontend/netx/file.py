"""A netx file as it is: layers, names and arrays, nothing interpreted yet.

netx is the HDF5 network format of lava-dl (`lava.lib.dl.netx`, 0.6.0):

    layer/0 ... layer/n-1          one group each, in the order of the data
        type                       "input", "conv", "dense", "flatten", ...
        shape, weight, bias, ...   arrays
        neuron/type, iDecay, ...   the neuron, if the layer has one
    simulation/tSample             the time steps of a sample, if the exporter knew them
    snnc                           what `snnc export` noted beside it; nobody else reads it
"""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidFile, MissingDependency
from snnc.frontend.netx import hdf5
from snnc.ir.files import read_bytes

PATIENCE = 60.0  # seconds: the largest networks of lava-dl's own take one
_READER = f"""
import json, sys
sys.path[:] = json.loads(sys.argv[1])  # find what this process finds, and nothing else
from {hdf5.__name__} import main
sys.exit(main())
"""
Value = npt.NDArray[Any] | str


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One layer of the file."""

    place: str  # "layer/3"
    kind: str  # its type
    fields: Mapping[str, Value]  # all but type and neuron
    neuron: Mapping[str, Value] | None  # None: the layer has no neuron


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What a netx file holds."""

    records: tuple[Record, ...]
    steps: int | None  # simulation/tSample
    notes: str | None  # what `snnc export` noted, as JSON
    content: bytes


def read_contents(path: Path, *, patience: float = PATIENCE) -> Contents:
    """Read a netx file; wait for HDF5 so many seconds.

    Raises:
        MissingDependency: h5py is not installed.
        InvalidFile: the file is missing, damaged, no netx file, or points outside of itself.
    """
    if importlib.util.find_spec("h5py") is None:
        hdf5.h5py()
        raise MissingDependency("h5py cannot be found; install it again")
    content = read_bytes(path, "a netx file")
    archive = io.BytesIO(_unpacked(path, content, patience))
    arrays: dict[str, npt.NDArray[Any]] = dict(np.load(archive, allow_pickle=False))
    index = json.loads(arrays["index"].tobytes())
    steps = None if index["steps"] is None else _value(index["steps"], arrays)
    if isinstance(steps, str) or (
        steps is not None and (steps.size != 1 or steps.dtype.kind not in "iu")
    ):
        raise InvalidFile(f"{path} has no whole number in simulation/tSample; export it again")
    return Contents(
        records=tuple(
            Record(
                place=record["place"],
                kind=record["kind"],
                fields=_values(record["fields"], arrays),
                neuron=None if record["neuron"] is None else _values(record["neuron"], arrays),
            )
            for record in index["records"]
        ),
        steps=None if steps is None else int(steps.reshape(())),
        notes=index["notes"],
        content=content,
    )


def _unpacked(path: Path, content: bytes, patience: float) -> bytes:
    """Return what a process that reads the HDF5 wrote; see `hdf5`."""
    command = [sys.executable, "-c", _READER, json.dumps(sys.path)]
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidFile(
            f"{path} is damaged: the HDF5 library did not finish within {patience:g} seconds; "
            "export it again"
        ) from error
    if done.returncode == hdf5.REFUSED:
        raise InvalidFile(f"{path} {done.stderr.decode(errors='replace')}")
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise InvalidFile(
            f"{path} is damaged: the HDF5 library failed (status {done.returncode}, {last}); "
            "export it again"
        )
    return done.stdout


def _values(
    described: Mapping[str, Mapping[str, str]], arrays: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Value]:
    return {name: _value(value, arrays) for name, value in described.items()}


def _value(described: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]]) -> Value:
    return arrays[described["array"]] if "array" in described else described["text"]
