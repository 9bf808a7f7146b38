"""The energy of one inference: one set of counts under one profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from snnc.energy.ann import Absent
from snnc.energy.breakeven import break_even
from snnc.energy.charge import (
    Band,
    Counted,
    Item,
    Result,
    charge,
    price_of,
    priced,
    summarise,
    times,
    total,
)
from snnc.energy.count import QUANTITIES, Counts, Routing
from snnc.energy.prices import Case, ImagePasses, Price, Profile
from snnc.energy.quantity import LINES, Part, Quantity, Term
from snnc.energy.sampled import Sampled
from snnc.errors import unreachable

NORMAL_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
CHIP = "chip"  # where quantities that belong to no layer happen


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval of a mean over samples: the mean, plus or minus 1.96 standard errors."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The ordinary network under the same prices: multiply-accumulates times e_mac."""

    name: str
    macs: float
    energy: Band
    tie_spikes_per_neuron: float | None  # where both cost the same; None: nowhere


@dataclass(frozen=True, kw_only=True)
class AbsentBaseline:
    """A baseline that cannot be given, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The energy (or the operations) of one inference under one profile.

    `input_once` and `input_per_step` price the multiply-accumulates on the image, computed
    once and kept or computed at every step; `image_passes` says which of the two is in
    `items`. Both are None where the profile has no price for them.
    """

    profile: Profile
    counts: Counts
    items: tuple[Item, ...]
    result: Result
    sampling: Interval | None  # of the sum of `items`; None for a single sample
    input_once: Band | None
    input_per_step: Band | None
    baselines: tuple[Baseline | AbsentBaseline, ...]  # empty unless the profile offers one

    @property
    def image_passes(self) -> ImagePasses:
        """How often the image is multiplied: as the run did it, else as the profile says."""
        return _image_passes(self.counts, self.profile)

    @property
    def parts(self) -> dict[Part, Band]:
        """The sum of the items of each part that has any."""
        found = dict.fromkeys(item.part for item in self.items)
        return {part: total(each for each in self.items if each.part is part) for part in found}


def estimate(counts: Counts, profile: Profile) -> Estimate:
    """Price counts under a profile."""
    passes = _passes(_image_passes(counts, profile), counts.steps)
    items, unpriced = charge(counted(counts, passes), profile)
    macs = sum(bundle.events.mean for bundle in counts.bundles if bundle.reads_image)
    mac = profile.prices.get(Term.MAC)
    return Estimate(
        profile=profile,
        counts=counts,
        items=items,
        result=summarise(items, unpriced),
        sampling=_sampling(counts, profile, passes, total(items).nominal),
        input_once=times(macs, mac) if isinstance(mac, Price) else None,
        input_per_step=times(counts.steps * macs, mac) if isinstance(mac, Price) else None,
        baselines=_baselines(counts, profile, items),
    )


def counted(counts: Counts, passes: int) -> tuple[Counted, ...]:
    """List every quantity of a run, place by place; the image is multiplied `passes` times."""
    found = [
        Counted(
            quantity=bundle.quantity,
            where=bundle.name,
            count=bundle.events.mean * (passes if bundle.reads_image else 1),
        )
        for bundle in counts.bundles
    ]
    for each in counts.populations:
        for quantity, amount in (
            (Quantity.NEURON_ACTIVE, each.active),
            (Quantity.NEURON_INACTIVE, each.inactive),
            (Quantity.SPIKES, each.spikes),
        ):
            found.append(Counted(quantity=quantity, where=each.name, count=amount.mean))
    routing = _routing(counts)
    for quantity, known in (
        (Quantity.HOPS_EW, routing.hops_ew if routing else None),
        (Quantity.HOPS_NS, routing.hops_ns if routing else None),
        (Quantity.STEPS, float(counts.steps)),
        (Quantity.CHIP_SECONDS, _chip_seconds(counts)),
    ):
        found.append(Counted(quantity=quantity, where=CHIP, count=known))
    return tuple(found)


def recompute(case: Case, profile: Profile) -> Band:
    """Price the quantities of a worked example, and nothing else."""
    quantities = [
        Counted(quantity=quantity, where=case.name, count=count)
        for quantity, count in case.counts.items()
    ]
    return priced(summarise(*charge(quantities, profile)))


def _image_passes(counts: Counts, profile: Profile) -> ImagePasses:
    return ImagePasses.PER_STEP if counts.image_every_step else profile.image_passes


def _passes(image: ImagePasses, steps: int) -> int:
    match image:
        case ImagePasses.ONCE:
            return 1
        case ImagePasses.PER_STEP:
            return steps
        case _:
            unreachable(image)


def _routing(counts: Counts) -> Routing | None:
    """Return the hops where they are known: without spikes there are none."""
    if any(population.spikes.mean for population in counts.populations):
        return counts.routing
    return Routing(hops_ew=0.0, hops_ns=0.0)


def _chip_seconds(counts: Counts) -> float | None:
    if counts.timing is None:
        return None
    return counts.steps * counts.timing.step_seconds * counts.timing.chips


def _sampling(counts: Counts, profile: Profile, passes: int, nominal: float) -> Interval | None:
    """Return the interval of the mean energy over samples, at nominal prices.

    The energy of a sample is a linear form in its counts, g . x, so the variance of its mean
    is g' C g / n with C the covariance of the counts.
    """
    if counts.covariance is None:
        return None
    gradient = [_nominal(quantity, profile) for quantity in QUANTITIES]
    gradient[QUANTITIES.index(Quantity.INPUT_MACS)] *= passes
    variance = sum(
        a * entry * b
        for a, row in zip(gradient, counts.covariance, strict=True)
        for b, entry in zip(gradient, row, strict=True)
    )
    margin = NORMAL_95 * math.sqrt(max(variance, 0.0) / counts.samples)  # rounding may give -0
    return Interval(low=nominal - margin, high=nominal + margin)


def _nominal(quantity: Quantity, profile: Profile) -> float:
    """Return the nominal price of a quantity; 0 where it has none and so is not in the sum."""
    for line in LINES[profile.equations]:
        if line.quantity is quantity:
            _, price = price_of(line, profile)
            return price.value if isinstance(price, Price) else 0.0
    return 0.0


def _baselines(
    counts: Counts, profile: Profile, items: tuple[Item, ...]
) -> tuple[Baseline | AbsentBaseline, ...]:
    """Price the ordinary network, where the profile says in which arithmetic it can."""
    mac = profile.prices.get(Term.MAC)
    if profile.baseline is None or not isinstance(mac, Price):
        return ()
    dense = _baseline("dense", counts.ann.dense, mac, counts, items)
    match counts.ann.skipping:
        case Sampled(mean=macs):
            return dense, _baseline("zero-skipping", macs, mac, counts, items)
        case Absent(reason=reason):
            return dense, AbsentBaseline(name="zero-skipping", reason=reason)
        case _:
            unreachable(counts.ann.skipping)


def _baseline(
    name: str, macs: float, mac: Price, counts: Counts, items: tuple[Item, ...]
) -> Baseline:
    """Price one baseline, and find the activity at which the spiking network costs the same.

    Synaptic energy grows with the spikes, the rest of an arithmetic-only sum does not:
    tie = spikes x (baseline - rest) / synaptic.
    """
    energy = times(macs, mac)
    synaptic = total(item for item in items if item.part is Part.SYNAPTIC).nominal
    spare = energy.nominal - (total(items).nominal - synaptic)
    spikes = break_even(counts).spikes_per_neuron
    tie = spikes * spare / synaptic if synaptic and spare >= 0 else None
    return Baseline(name=name, macs=macs, energy=energy, tie_spikes_per_neuron=tie)
