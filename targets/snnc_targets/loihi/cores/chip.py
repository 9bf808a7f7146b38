"""What one core of a chip holds, and where every number comes from.

A chip is a strict TOML file in `chips/`. `limits` are what a core runs out of, `constants` are
the numbers of the formulas in `words`. Each has a value, a unit, a source, the place in it and
one of three kinds of evidence, because hardly anything about Loihi 2 is documented: its numbers
were read off the tables that Intel's compiler printed. An unknown key, a missing one or a number
without a source is an error, and all errors of a file are reported at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from importlib import resources

from snnc.energy.table import Table
from snnc.errors import InvalidFile, Issue, Refusal, UnknownName, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1


class Evidence(Enum):
    """How well a number is known."""

    FACT = "fact"  # documented, or in public source code
    INFERRED = "inferred"  # it explains published tables, the same ones it was read off
    GUESS = "guess"  # plausible; no published number tests it


class Resource(Enum):
    """Something a core runs out of."""

    NEURONS = "neurons"  # compartments on Loihi 1
    NEURON_GROUPS = "neuron_groups"
    AXONS_IN = "axons_in"
    AXONS_OUT = "axons_out"
    SYNAPSE_WORDS = "synapse_words"
    WORDS_PER_AXON = "words_per_axon"
    AXON_MAP = "axon_map"
    TOTAL_WORDS = "total_words"


class Constant(Enum):
    """A number of the formulas that is no limit of a core."""

    CORES_PER_CHIP = "cores_per_chip"
    TILE_COLUMNS = "tile_columns"
    TILE_ROWS = "tile_rows"
    CORES_PER_TILE = "cores_per_tile"
    WORD_BITS = "word_bits"
    DELAY_BITS = "delay_bits"
    # Loihi 1
    CHIPS = "chips"
    SYNAPSES_PER_ENTRY = "synapses_per_entry"
    ENTRY_BITS = "entry_bits"
    INDEX_BITS_MIN = "index_bits_min"
    SOFT_RESET_COMPARTMENTS = "soft_reset_compartments"
    # Loihi 2
    INDEX_BITS = "index_bits"
    AXON_BITS = "axon_bits"
    KERNEL_BITS = "kernel_bits"
    STRIDE_BITS = "stride_bits"
    SYNAPSE_WORDS_2023 = "synapse_words_2023"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A number and how it is known."""

    value: int
    unit: str
    evidence: Evidence
    source: str
    locator: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A kind of chip; every core is like every other."""

    name: str
    title: str
    limits: Mapping[Resource, Known]
    constants: Mapping[Constant, Known]

    def limit(self, resource: Resource) -> int:
        """Return how much of a resource a core holds."""
        return self.limits[resource].value

    def constant(self, constant: Constant) -> int:
        """Return a number of the formulas."""
        return self.constants[constant].value

    def of_2023(self) -> Chip:
        """Return Loihi 2 as Intel's compiler of January 2023 used it: less synaptic memory."""
        older = self.constants[Constant.SYNAPSE_WORDS_2023]
        return replace(self, limits={**self.limits, Resource.SYNAPSE_WORDS: older})


_EVERY = {
    Constant.CORES_PER_CHIP,
    Constant.TILE_COLUMNS,
    Constant.TILE_ROWS,
    Constant.CORES_PER_TILE,
    Constant.WORD_BITS,
    Constant.DELAY_BITS,
}
# which numbers the model of each chip needs: no fewer, and none that nothing would read
_LIMITS: Mapping[str, set[Resource]] = {
    "loihi1": {
        Resource.NEURONS,
        Resource.AXONS_IN,
        Resource.AXONS_OUT,
        Resource.SYNAPSE_WORDS,
        Resource.WORDS_PER_AXON,
    },
    "loihi2": {
        Resource.NEURONS,
        Resource.NEURON_GROUPS,
        Resource.AXONS_IN,
        Resource.SYNAPSE_WORDS,
        Resource.AXON_MAP,
        Resource.TOTAL_WORDS,
    },
}
_CONSTANTS: Mapping[str, set[Constant]] = {
    "loihi1": {
        *_EVERY,
        Constant.CHIPS,
        Constant.SYNAPSES_PER_ENTRY,
        Constant.ENTRY_BITS,
        Constant.INDEX_BITS_MIN,
        Constant.SOFT_RESET_COMPARTMENTS,
    },
    "loihi2": {
        *_EVERY,
        Constant.INDEX_BITS,
        Constant.AXON_BITS,
        Constant.KERNEL_BITS,
        Constant.STRIDE_BITS,
        Constant.SYNAPSE_WORDS_2023,
    },
}


class InvalidChip(Refusal):
    """A chip file breaks rules of its format; each issue names the place in the file."""

    def __init__(self, origin: str, issues: tuple[Issue, ...]) -> None:
        super().__init__(f"chip file {origin} is not valid", issues)


def load(name: str) -> Chip:
    """Return the chip called `name`: loihi1 or loihi2.

    Raises:
        UnknownName: there is no such chip.
        InvalidFile, InvalidChip: its file is damaged.
    """
    if name not in _LIMITS:
        raise UnknownName("chip", name, _LIMITS)
    file = resources.files("snnc_targets.loihi.cores").joinpath("chips").joinpath(f"{name}.toml")
    return parse(file.read_text(encoding="utf-8"), f"{name}.toml")


def parse(text: str, origin: str) -> Chip:
    """Return the chip that the text of a TOML file describes.

    Raises:
        InvalidFile: it is not TOML.
        InvalidChip: it breaks rules of the format; lists all.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(f"chip file {origin} is not TOML: {error}; correct it") from error
    top = Table(data, "", [])
    chip = _chip(top)
    top.close()
    if top.issues:
        raise InvalidChip(origin, tuple(top.issues))
    return chip


def _chip(top: Table) -> Chip:
    if top.integer("schema_version") != SCHEMA:
        top.report("schema_version", "is of another schema", f"write {SCHEMA}", "version")
    name = top.text("name")
    if name and name not in _LIMITS:
        top.report("name", f"no model for {name!r}", nearest(name, _LIMITS), "name")
    sources = top.table("sources")
    cited = {key: sources.text(key) for key in sources.data}
    limits, constants = top.table("limits"), top.table("constants")
    chip = Chip(
        name=name,
        title=top.text("title"),
        limits={
            each: _known(limits.table(each.value), cited)
            for each in Resource
            if each in _LIMITS.get(name, ())
        },
        constants={
            each: _known(constants.table(each.value), cited)
            for each in Constant
            if each in _CONSTANTS.get(name, ())
        },
    )
    limits.close()
    constants.close()
    return chip


def _known(table: Table, sources: Mapping[str, str]) -> Known:
    source = table.text("source")
    if source and source not in sources:
        table.report("source", f"no source {source!r}", nearest(source, sources), "source")
    known = Known(
        value=table.integer("value"),
        unit=table.text("unit"),
        evidence=table.choice("evidence", Evidence),
        source=sources.get(source, source),
        locator=table.text("locator"),
        note=table.text("note", default=""),
    )
    table.close()
    return known
