"""Which cores of a chip a program needs, and what each of them is full of.

Every core holds neurons of one population. Layers are cut from the last to the first, because
what leaves a core depends on how many cores read it. The result names for every limit the
fullest core, so that it can be checked by hand, and for every number how well it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from snnc.errors import Issue
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Accumulator, Layer, Program

from snnc_targets.loihi.cores import loihi1, loihi2
from snnc_targets.loihi.cores.chip import Chip, Constant, Resource
from snnc_targets.loihi.cores.cut import Cut
from snnc_targets.loihi.cores.loihi2 import Rule
from snnc_targets.loihi.cores.tiles import Wiring, as_map, wiring
from snnc_targets.loihi.cores.words import Encoding
from snnc_targets.loihi.lowering import Image
from snnc_targets.loihi.plan import lag_of_each, wait


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """A program on the cores of a chip."""

    chip: Chip
    cuts: tuple[Cut, ...]  # one for each population, first to last
    issues: tuple[Issue, ...]  # everything that does not fit

    @property
    def cores(self) -> int:
        """The number of cores."""
        return sum(len(cut.cores) for cut in self.cuts)

    @property
    def chips(self) -> int:
        """The number of chips, were all their cores used."""
        return ceil(self.cores / self.chip.constant(Constant.CORES_PER_CHIP))

    @property
    def encodings(self) -> Mapping[tuple[str, str], Encoding]:
        """How each bundle on the chip is stored, by its population and its own name."""
        return {
            (cut.name, bundle.name): encoding
            for cut in self.cuts
            for bundle, encoding in zip(cut.wirings, cut.encodings, strict=True)
        }

    def fullest(self, resource: Resource) -> Cut:
        """Return the population of which a core uses the most of a resource."""
        return max(self.cuts, key=lambda cut: cut.largest(resource))


def partition(
    program: Program,
    chip: Chip,
    *,
    image: Image,
    stored: Mapping[tuple[str, str], Encoding] | None = None,
    rule: Rule = Rule.NEWER,
) -> Partition:
    """Cut every population of a program into cores.

    With `Image.GRADED` the synapses that read the image lie on the chip; else the host computes
    what they add, and their neurons need no memory for them. An accumulator is a population of
    neurons that never spike. Of Loihi 2 are `rule` and `stored`, which names the encoding of each
    bundle; without it the cheapest are chosen, as they always are on Loihi 1.
    """
    wired = _wirings(program, image)
    cuts: dict[str, Cut] = {}
    for population in reversed(program.populations):
        readers = [cuts[name] for name, each in wired.items() if _reads(each, population.name)]
        name, shape = population.name, as_map(population.shape)
        cuts[name] = _cut(chip, population, shape, wired[name], readers, stored, rule)
    ordered = tuple(cuts[population.name] for population in program.populations)
    found = [issue for cut in ordered for issue in cut.issues]
    return Partition(chip=chip, cuts=ordered, issues=(*found, *_beyond_addresses(chip, ordered)))


def too_many_chips(found: Partition, chips: int) -> list[Issue]:
    """Return an issue if a partition needs more than so many chips."""
    if found.chips <= chips:
        return []
    each = found.chip.constant(Constant.CORES_PER_CHIP)
    worst = max(found.cuts, key=lambda cut: len(cut.cores))
    return [
        Issue(
            worst.name,
            f"the program needs {found.cores} cores on {found.chips} chips of {each}, {chips} are "
            f"there; this layer takes the most, {len(worst.cores)}",
            "prune or narrow this layer first, or use more chips",
            "chips",
            need=found.chips,
            limit=chips,
        )
    ]


def _beyond_addresses(chip: Chip, cuts: Sequence[Cut]) -> list[Issue]:
    """Return an issue if there are more chips than can be addressed, where that is known."""
    known = chip.constants.get(Constant.CHIPS)
    found = Partition(chip=chip, cuts=tuple(cuts), issues=())
    return [] if known is None else too_many_chips(found, known.value)


def _reads(wirings: Sequence[Wiring], source: str) -> bool:
    return any(bundle.source == source for bundle in wirings)


def _wirings(program: Program, image: Image) -> dict[str, tuple[Wiring, ...]]:
    """Return what lies on the chip of the synapses of each population."""
    lags = lag_of_each(program, image)
    return {
        population.name: tuple(
            wiring(
                synapses,
                program.shape_of(synapses.source),
                population.shape,
                delayed=wait(synapses, population.name, lags) > 0,
            )
            for synapses in population.synapses
            if synapses.source != INPUT or image is Image.GRADED
        )
        for population in program.populations
    }


def _cut(
    chip: Chip,
    population: Layer | Accumulator,
    shape: tuple[int, int, int],
    wirings: tuple[Wiring, ...],
    readers: Sequence[Cut],
    stored: Mapping[tuple[str, str], Encoding] | None,
    rule: Rule,
) -> Cut:
    if chip.name == "loihi1":
        soft = isinstance(population, Layer) and population.reset is Reset.SUBTRACT
        return loihi1.cut(chip, population.name, shape, wirings, readers=readers, soft_reset=soft)
    name = population.name
    to_matrix = any(
        encoding is not Encoding.CONV
        for reader in readers
        for bundle, encoding in zip(reader.wirings, reader.encodings, strict=True)
        if bundle.source == name
    )
    return loihi2.cut(
        chip,
        name,
        shape,
        wirings,
        rule=rule,
        to_matrix=to_matrix,
        stored=None if stored is None else tuple(stored[name, bundle.name] for bundle in wirings),
    )
