"""What netx cannot say, and `snnc export` notes beside it, so that a program comes back as it was.

lava-dl does not see the notes: they lie beside the layers, where it does not look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from snnc.errors import InvalidFile
from snnc.ir.codec import Undecodable, decode, encode


class Readout(Enum):
    """What of the last layer is the answer."""

    SPIKES = "spikes"  # how often each neuron fired
    MEMBRANE = "membrane"  # what a layer that does not fire has summed at the last step


class Storage(Enum):
    """How a program holds the weights of a bundle."""

    DENSE = "dense"
    SPARSE = "sparse"  # only the weights that are not zero
    SMALLER = "smaller"  # the one of the two that takes less memory


@dataclass(frozen=True, kw_only=True)
class BundleNotes:
    """One bundle of synapses."""

    name: str
    delay: int
    storage: Storage


@dataclass(frozen=True, kw_only=True)
class PopulationNotes:
    """One layer or accumulator."""

    name: str
    scale: float
    bundles: tuple[BundleNotes, ...]


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What of a program has no place in a netx file."""

    levels: int
    zero_point: tuple[int, ...]
    steps: int
    readout: Readout
    class_names: tuple[str, ...]
    provenance: Mapping[str, object]
    populations: tuple[PopulationNotes, ...]


def written(notes: Notes) -> str:
    """Return the notes as JSON text."""
    return json.dumps(encode(notes, {}, ""), allow_nan=False)


def read(text: str) -> Notes:
    """Return the notes of a JSON text.

    Raises:
        InvalidFile: it is none that `written` wrote.
    """
    try:
        notes: Notes = decode(Notes, json.loads(text, parse_constant=_refused), {}, "notes")
        if not all(abs(number) < 1 << 31 for number in (notes.levels, *notes.zero_point)):
            raise ValueError("its image has codes beyond 32 bits")
    except (Undecodable, RecursionError, TypeError, ValueError) as error:
        raise InvalidFile(
            f"the notes that snnc left in the file are damaged ({error}); export it again"
        ) from error
    return notes


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
