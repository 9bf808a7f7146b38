"""One scale for each layer, chosen by the spikes that its integers emit.

Layers are fitted from the input on. Each sees what the integers before it emit on the
calibration images, and takes the scale (and, if that helps, a shift of its bias) with the
smallest rate error: mean |spikes - spikes of the float network| / steps. So a layer makes up
for errors upstream, which a search for small weight errors cannot. A scale that saturates
some weights is one of the candidates, and so is the one that would be taken without a search.

The shift makes the mean input of a channel that of the float network (Nagel et al., ICCV
2019, arXiv 1906.04721, section 4.2, there for activations of ordinary networks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidGraph, InvalidSetting, Issue
from snnc.ir.graph import Graph, Reset
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import FloatArray, floats
from snnc.passes.image import ImageCoding, absorb
from snnc.passes.numbers import Bits, Numbers, checked_bits, width
from snnc.passes.populations import FloatPopulation, populations
from snnc.passes.quantize import PIXEL_LEVELS, assemble, coding_of
from snnc.passes.rewrite import with_ops
from snnc.passes.scale import Exponents, Formats, at_scale, exponents, formats, saturating_scale
from snnc.quantization.arrivals import Emitted
from snnc.quantization.trial import Means, Trial, mean_currents
from snnc.quantization.wanted import Wanted, wanted
from snnc.semantics.encode import encode

Progress = Callable[[int, int], None]  # called with (done, total) layers

# Ours. Measured is the mean rate error after searches on 64 images at 3, 4 and 8 bits, of the
# digits demo and of a pruned network for Fashion-MNIST, both of 8 steps: what it becomes when
# one number is changed and the others stay.
STEP = 10 ** (1 / 12)  # between the scales of the first look; half: -11 to +11 %, twice: -6 to +13
REACH = 13  # steps above the scale that fits, to ten times it; 1: +46 % at 3 bits, 19: the same
BELOW = 3  # steps below it, so that a threshold may land on a whole unit; 0: up to +1.5 %, 6: same
FINER = 6  # scales on either side of the best, in the second look; 0: up to +12 %, 12: no better
FEW = 16  # samples of these two looks; 4: -10 to +12 %, 64: the same in twice the time
KEPT = 4  # scales that are judged on all samples; 1: up to +3 %, 16: the same
CLIPPED = (0, 1, 2)  # powers of two by which the largest weights of a bundle in a sum saturate


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """What a search found.

    `quantize(graph, numbers, scales=scales, exponents=exponents, ...)` gives the program.
    """

    program: Program
    graph: Graph  # prepared, with the biases that the search shifted
    scales: Mapping[str, float]
    exponents: Exponents  # of every bundle of synapses
    shifted: frozenset[str]  # populations whose bias was shifted
    before: Mapping[str, float] | None  # errors without a search; None if that is impossible
    after: Mapping[str, float]  # error of each population, see `Trial.errors`
    images: int


def search(
    graph: Graph,
    numbers: Numbers,
    images: npt.NDArray[np.floating],
    *,
    levels: int = PIXEL_LEVELS,
    bits: Bits | None = None,
    progress: Progress = lambda done, total: None,
) -> Calibrated:
    """Choose the scale of every layer of a prepared graph on images (samples, *shape) in [0, 1].

    The mean rate error over the layers is never larger than without a search on the same
    images: if it were, the search is discarded. A layer that rounding would silence at the
    scale that fits may still have integers at another one of the search. Draws nothing: the
    same images give the same integers.

    Raises:
        InvalidGraph: see `quantize`; a layer has no integers at any scale of the search.
        InvalidSetting, UnknownName: see `quantize`.
        InvalidSetting: there are fewer than two images, or images do not fit the graph.
    """
    coding = coding_of(graph, levels)
    if len(images) < 2:
        raise InvalidSetting(
            "calibration needs two images or more: how logits spread is a part of it"
        )
    if bits is None:
        bits = Bits(others=width(numbers.weight_max))  # so that weights may saturate
    codes = encode(coding.codes, images)[:, None]
    found = populations(graph, coding)
    checked_bits(bits, numbers, [population.name for population in found])
    job = _Job(
        coding=coding,
        numbers=numbers,
        bits=bits,
        steps=graph.steps,
        wanted=wanted(graph, found, images),
        codes=codes,
    )
    plain = job.plain(found)
    fitted, after = job.fitted(found, plain, progress)
    before = _unsearched(job, plain)
    if before is not None and _mean_rate_error(found, after) > _mean_rate_error(found, before):
        fitted, after = [each for each in plain if each is not None], before
    return Calibrated(
        program=assemble(graph, coding, [each.integers for each in fitted]),
        graph=with_ops(
            graph, {each.population.name: each.population.bundles[0].op for each in fitted}
        ),
        scales={each.population.name: each.integers.scale for each in fitted},
        exponents={name: e for each in fitted for name, e in each.exponents.items()},
        shifted=frozenset(each.population.name for each in fitted if each.shifted),
        before=before,
        after=after,
        images=len(images),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fitted:
    """A population and the integers that it became."""

    population: FloatPopulation
    integers: Layer | Accumulator
    exponents: Exponents
    shifted: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """What all layers of a search share."""

    coding: ImageCoding
    numbers: Numbers
    bits: Bits
    steps: int
    wanted: Wanted
    codes: Emitted  # (samples, 1, *shape)

    def limits(self, population: FloatPopulation) -> Formats:
        """Return the formats of a population."""
        bits = self.bits.of(population.name)
        return formats(population, self.numbers, bits=bits, steps=self.steps)

    def trial(self, population: FloatPopulation, emitted: Mapping[str, Emitted]) -> Trial:
        """Return a trial of a population with what arrives at it."""
        steps = self.steps if population.fire is None else 1
        return Trial(
            name=population.name,
            wanted=self.wanted,
            emitted=emitted,
            steps=self.steps,
            reach=self.limits(population).current_max * steps,
        )

    def plain(self, found: Sequence[FloatPopulation]) -> list[_Fitted | None]:
        """Return the integers of each population without a search; None where there are none.

        Raises:
            InvalidGraph: a population has no integers at any scale of the first look either.
        """
        plain: list[_Fitted | None] = []
        problems: list[Issue] = []
        for population in found:
            limits = self.limits(population)
            scale = saturating_scale(population, limits)
            powers = exponents(population, limits, scale)
            try:
                integers = at_scale(population, limits, scale, powers)
                plain.append(_Fitted(population=population, integers=integers, exponents=powers))
            except InvalidGraph as refusal:
                plain.append(None)
                if _first_possible(population, limits) is None:
                    problems += refusal.issues
        if problems:
            raise InvalidGraph(problems)
        return plain

    def errors(self, fitted: Sequence[_Fitted]) -> dict[str, float]:
        """Return the error of each population when all run together."""
        emitted: dict[str, Emitted] = {INPUT: self.codes}
        errors = {}
        for each in fitted:
            name = each.population.name
            trial = self.trial(each.population, emitted)
            (errors[name],) = trial.errors([each.integers])
            if isinstance(each.integers, Layer):
                emitted[name] = trial.spikes(each.integers)
        return errors

    def fitted(
        self,
        found: Sequence[FloatPopulation],
        plain: Sequence[_Fitted | None],
        progress: Progress,
    ) -> tuple[list[_Fitted], dict[str, float]]:
        """Return the best integers of each population behind those before it, and the errors."""
        fitted: list[_Fitted] = []
        errors: dict[str, float] = {}
        emitted: dict[str, Emitted] = {INPUT: self.codes}
        for done, (population, default) in enumerate(zip(found, plain, strict=True)):
            progress(done, len(found))
            trial = self.trial(population, emitted)
            best, errors[population.name] = self.fit(population, default, trial)
            fitted.append(best)
            if isinstance(best.integers, Layer):
                emitted[population.name] = trial.spikes(best.integers)
        progress(len(found), len(found))
        return fitted, errors

    def fit(
        self, population: FloatPopulation, default: _Fitted | None, trial: Trial
    ) -> tuple[_Fitted, float]:
        """Return the best integers of a population, and their error."""
        limits = self.limits(population)
        plain = [] if default is None else [default]
        like = _first_possible(population, limits) if default is None else default.integers
        assert like is not None  # noqa: S101 - `plain` refuses a population without integers
        means, few = trial.means(like), trial.first(FEW)
        coarse = list(self._candidates(population, limits, _scales(population, limits), means))
        ranked = _ranked([*plain, *coarse], few)
        around = _around(population, limits, ranked[0][1].integers.scale)
        fine = list(self._candidates(population, limits, around, means))
        ranked = sorted([*ranked, *_ranked(fine, few)], key=lambda each: each[0])
        best = list(dict.fromkeys(each.integers.scale for _, each in ranked))[:KEPT]
        last = _ranked([*plain, *self._candidates(population, limits, best, means)], trial)
        return last[0][1], last[0][0]  # of equals the first: the one without a search

    def _candidates(
        self, population: FloatPopulation, limits: Formats, scales: Iterable[float], means: Means
    ) -> Iterator[_Fitted]:
        """Yield the integers at each scale that is possible, without and with a shifted bias."""
        for scale in dict.fromkeys(scales):
            for powers in _powers(population, limits, scale):
                yield from self._at(population, limits, scale, powers, means)

    def _at(
        self,
        population: FloatPopulation,
        limits: Formats,
        scale: float,
        powers: Exponents,
        means: Means,
    ) -> Iterator[_Fitted]:
        """Yield the integers at a scale and exponents, without and with a shifted bias."""
        if (integers := _possible(population, limits, scale, powers)) is None:
            return
        yield _Fitted(population=population, integers=integers, exponents=powers)
        reached = mean_currents(integers, means) / scale + population.bias
        missing = floats(self.wanted.drives[population.name] - reached)
        moved = _shifted(population, missing, self.coding)
        shifted = _possible(moved, limits, scale, powers)
        if shifted is not None and (shifted.bias != integers.bias).any():
            yield _Fitted(population=moved, integers=shifted, exponents=powers, shifted=True)


def _powers(population: FloatPopulation, limits: Formats, scale: float) -> Iterator[Exponents]:
    """Yield the exponents at which nothing saturates, then those at which more and more does."""
    seen: list[Exponents] = []
    for clipped in CLIPPED:
        powers = exponents(population, limits, scale, clipped=clipped)
        if powers not in seen:
            seen.append(powers)
            yield powers


def _possible(
    population: FloatPopulation, limits: Formats, scale: float, powers: Exponents
) -> Layer | Accumulator | None:
    """Return the integers at a scale, or None where a format or the rounding rules it out."""
    try:
        return at_scale(population, limits, scale, powers)
    except InvalidGraph:
        return None


def _first_possible(population: FloatPopulation, limits: Formats) -> Layer | Accumulator | None:
    """Return the integers at one scale of the first look, or None where none is possible."""
    found = (
        _possible(population, limits, scale, powers)
        for scale in _scales(population, limits)
        for powers in _powers(population, limits, scale)
    )
    return next((integers for integers in found if integers is not None), None)


def _unsearched(job: _Job, plain: Sequence[_Fitted | None]) -> dict[str, float] | None:
    """Return the errors without a search, or None where a population needs one."""
    fitted = [each for each in plain if each is not None]
    return job.errors(fitted) if len(fitted) == len(plain) else None


def _ranked(candidates: Sequence[_Fitted], trial: Trial) -> list[tuple[float, _Fitted]]:
    """Return candidates with their errors, the best first; equals stay in their order."""
    if not candidates:
        return []
    errors = trial.errors([each.integers for each in candidates])
    return sorted(zip(errors, candidates, strict=True), key=lambda each: each[0])


def _scales(population: FloatPopulation, limits: Formats) -> Iterator[float]:
    """Yield the scales of the first look, each also where the threshold is a whole unit."""
    fitting = saturating_scale(population, limits)
    for power in range(-BELOW, REACH):
        yield from _both(population, min(fitting * STEP**power, limits.scale_max))


def _around(population: FloatPopulation, limits: Formats, best: float) -> Iterator[float]:
    """Yield the scales of the second look: within one step of the first's best."""
    for offset in range(-FINER, FINER + 1):
        if offset:
            scale = best * STEP ** (offset / (FINER + 1))
            yield from _both(population, min(scale, limits.scale_max))


def _both(population: FloatPopulation, scale: float) -> Iterator[float]:
    """Yield a scale, and the nearest that makes the threshold an integer, if that matters.

    A soft reset keeps six more bits of the threshold, so a whole unit is nothing special.
    """
    yield scale
    fire = population.fire
    if fire is not None and fire.reset is Reset.ZERO:
        level = round(scale * float(fire.threshold))
        if level >= 1:
            yield level / float(fire.threshold)


def _shifted(population: FloatPopulation, by: FloatArray, coding: ImageCoding) -> FloatPopulation:
    """Return a population with more bias on its first synapses."""
    first = population.bundles[0]
    op = replace(first.op, bias=floats(first.op.bias + by))
    weight, bias = absorb(op, coding) if first.source == INPUT else (op.weight, op.bias)
    moved = replace(first, op=op, weight=weight, bias=bias)
    return replace(population, bundles=(moved, *population.bundles[1:]))


def _mean_rate_error(found: Sequence[FloatPopulation], errors: Mapping[str, float]) -> float:
    return float(np.mean([errors[each.name] for each in found if each.fire is not None]))
