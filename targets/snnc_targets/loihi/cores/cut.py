"""How one population lies on cores, and what each core holds then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from snnc.errors import Issue

from snnc_targets.loihi.cores.chip import Chip, Resource
from snnc_targets.loihi.cores.tiles import Box, Map, Wiring
from snnc_targets.loihi.cores.words import Encoding

Use = Mapping[Resource, int]

REMEDY: Mapping[Resource, str] = {
    Resource.NEURONS: "make the layer smaller",
    Resource.NEURON_GROUPS: "make the layer smaller",
    Resource.AXONS_IN: "lower the fan-in: a narrower layer before it, or pruned inputs",
    Resource.AXONS_OUT: "lower the fan-out: a narrower layer after it",
    Resource.SYNAPSE_WORDS: "prune the layer, use fewer bits, or make it narrower",
    Resource.WORDS_PER_AXON: "prune the layer, or use fewer bits",
    Resource.AXON_MAP: "make the layer narrower",
    Resource.TOTAL_WORDS: "prune the layer, use fewer bits, or make it narrower",
}


@dataclass(frozen=True, kw_only=True)
class Core:
    """The neurons of one population that share a core, and what they use of it."""

    box: Box
    use: Use


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A population on cores; each core holds neurons of one population only."""

    name: str
    shape: Map
    tile: Map  # the largest box
    wirings: tuple[Wiring, ...]  # the synapses that lie on the chip
    encodings: tuple[Encoding, ...]  # of each of them
    cores: tuple[Core, ...]
    kept_words: int  # the synaptic memory if every zero were stored
    kept_cores: int  # the cores that this would take
    tried: tuple[int, ...]  # the synaptic words that each further split had to lower
    issues: tuple[Issue, ...]

    @property
    def neurons(self) -> int:
        """The size of the population."""
        return prod(self.shape)

    @property
    def words(self) -> int:
        """The synaptic memory of all its cores."""
        return sum(core.use[Resource.SYNAPSE_WORDS] for core in self.cores)

    def largest(self, resource: Resource) -> int:
        """Return the most that one of its cores uses of a resource."""
        return max(core.use.get(resource, 0) for core in self.cores)

    def binding(self, chip: Chip) -> Resource:
        """Return the resource of which its fullest core uses the largest share."""
        return max(scarce(chip), key=lambda each: share(chip, each, self.largest(each)))

    def utilisation(self, chip: Chip) -> float:
        """Return that share, as the mean over its cores."""
        return sum(fullness(chip, core) for core in self.cores) / len(self.cores)


def scarce(chip: Chip) -> tuple[Resource, ...]:
    """Return what can run out first: not groups, of which a core with one population has one."""
    return tuple(each for each in chip.limits if each is not Resource.NEURON_GROUPS)


def share(chip: Chip, resource: Resource, used: int) -> float:
    """Return how much of a core's resource is used: 1 when there is nothing left."""
    return used / chip.limit(resource)


def scarcest(chip: Chip, core: Core) -> Resource:
    """Return the resource of which a core uses the largest share."""
    return max(scarce(chip), key=lambda each: share(chip, each, core.use.get(each, 0)))


def fullness(chip: Chip, core: Core) -> float:
    """Return the largest share that a core uses of anything."""
    worst = scarcest(chip, core)
    return share(chip, worst, core.use.get(worst, 0))


def exceeded(chip: Chip, use: Use) -> tuple[Resource, ...]:
    """Return what a core would need more of than it has."""
    return tuple(each for each, used in use.items() if used > chip.limit(each))


def fits(chip: Chip, use: Use) -> bool:
    """Return whether a core has enough of everything."""
    return not exceeded(chip, use)


def too_large(chip: Chip, name: str, box: Box, use: Use) -> tuple[Issue, ...]:
    """Return the issues of a smallest tile that still does not fit a core."""
    one = "one neuron needs" if box.neurons == 1 else f"{box.neurons} neurons need"
    return tuple(
        Issue(
            name,
            f"{one} {use[each]} {chip.limits[each].unit} of a core, which has "
            f"{chip.limit(each)} ({chip.limits[each].evidence.value})",
            REMEDY[each],
            f"core-{each.value.replace('_', '-')}",
            need=use[each],
            limit=chip.limit(each),
        )
        for each in exceeded(chip, use)
    )
