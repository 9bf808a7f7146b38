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

from snnc.errors import InvalidGraph, InvalidSetting
from snnc.ir.graph import Graph, Reset
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import FloatArray, floats
from snnc.passes.image import ImageCoding, absorb
from snnc.passes.numbers import Bits, Numbers, width
from snnc.passes.populations import FloatPopulation, populations
from snnc.passes.quantize import NOTHING, PIXEL_LEVELS, assemble, coding_of, integer_populations
from snnc.passes.rewrite import with_ops
from snnc.passes.scale import Formats, at_scale, formats, saturating_scale
from snnc.quantization.arrivals import Emitted
from snnc.quantization.trial import Means, Trial, mean_currents
from snnc.quantization.wanted import Wanted, wanted
from snnc.semantics.encode import encode

Progress = Callable[[int, int], None]  # called with (done, total) layers

STEP = 10 ** (1 / 12)  # between the scales of the first look
REACH = 13  # steps above the scale that fits: up to ten times it, ten weights on one integer
BELOW = 3  # steps below it: weights keep their room, the threshold may land on a whole unit
FINER = 6  # scales on either side of the best, in the second look
FEW = 16  # samples of these two looks
KEPT = 4  # scales that are judged on all samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """What a search found. `quantize(graph, numbers, scales=scales, ...)` gives the program."""

    program: Program
    graph: Graph  # prepared, with the biases that the search shifted
    scales: Mapping[str, float]
    shifted: frozenset[str]  # populations whose bias was shifted
    before: Mapping[str, float]  # error of each population without a search, see `Trial.errors`
    after: Mapping[str, float]
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
    images: if it were, the search is discarded. Draws nothing: the same images give the same
    integers.

    Raises:
        InvalidGraph, InvalidSetting, UnknownName: see `quantize`.
        InvalidSetting: there is no image, or images do not fit the graph.
    """
    coding = coding_of(graph, levels)
    if len(images) == 0:
        raise InvalidSetting("calibration needs at least one image")
    if bits is None:
        bits = Bits(others=width(numbers.weight_max))  # so that weights may saturate
    codes = encode(coding.codes, images)[:, None]
    found = populations(graph, coding)
    plain = integer_populations(found, numbers, steps=graph.steps, bits=bits, scales=NOTHING)
    job = _Job(
        coding=coding,
        numbers=numbers,
        bits=bits,
        steps=graph.steps,
        wanted=wanted(graph, found, images),
        codes=codes,
    )
    before = job.errors(found, plain)
    fitted: list[_Fitted] = []
    after: dict[str, float] = {}
    emitted: dict[str, Emitted] = {INPUT: codes}
    for done, (population, default) in enumerate(zip(found, plain, strict=True)):
        progress(done, len(found))
        trial = job.trial(population, emitted)
        best, after[population.name] = job.fit(population, default, trial)
        fitted.append(best)
        if isinstance(best.integers, Layer):
            emitted[population.name] = trial.spikes(best.integers)
    progress(len(found), len(found))
    if _mean_rate_error(found, after) > _mean_rate_error(found, before):
        fitted = [
            _Fitted(population=population, integers=default)
            for population, default in zip(found, plain, strict=True)
        ]
        after = before
    return Calibrated(
        program=assemble(graph, coding, [each.integers for each in fitted]),
        graph=with_ops(
            graph, {each.population.name: each.population.bundles[0].op for each in fitted}
        ),
        scales={each.population.name: each.integers.scale for each in fitted},
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

    def errors(
        self, found: Sequence[FloatPopulation], integers: Sequence[Layer | Accumulator]
    ) -> dict[str, float]:
        """Return the error of each population when all run together."""
        emitted: dict[str, Emitted] = {INPUT: self.codes}
        errors = {}
        for population, each in zip(found, integers, strict=True):
            trial = self.trial(population, emitted)
            (errors[population.name],) = trial.errors([each])
            if isinstance(each, Layer):
                emitted[population.name] = trial.spikes(each)
        return errors

    def fit(
        self, population: FloatPopulation, default: Layer | Accumulator, trial: Trial
    ) -> tuple[_Fitted, float]:
        """Return the best integers of a population, and their error."""
        limits = self.limits(population)
        plain = _Fitted(population=population, integers=default)
        means, few = trial.means(default), trial.first(FEW)
        coarse = list(self._candidates(population, limits, _scales(population, limits), means))
        ranked = _ranked([plain, *coarse], few)
        around = _around(population, limits, ranked[0][1].integers.scale)
        fine = list(self._candidates(population, limits, around, means))
        ranked = sorted([*ranked, *_ranked(fine, few)], key=lambda each: each[0])
        best = list(dict.fromkeys(each.integers.scale for _, each in ranked))[:KEPT]
        last = _ranked([plain, *self._candidates(population, limits, best, means)], trial)
        return last[0][1], last[0][0]  # of equals the first: the one without a search

    def _candidates(
        self, population: FloatPopulation, limits: Formats, scales: Iterable[float], means: Means
    ) -> Iterator[_Fitted]:
        """Yield the integers at each scale that is possible, without and with a shifted bias."""
        for scale in dict.fromkeys(scales):
            if (integers := _possible(population, limits, scale)) is None:
                continue
            yield _Fitted(population=population, integers=integers)
            reached = mean_currents(integers, means) / scale + population.bias
            missing = floats(self.wanted.drives[population.name] - reached)
            moved = _shifted(population, missing, self.coding)
            shifted = _possible(moved, limits, scale)
            if shifted is not None and (shifted.bias != integers.bias).any():
                yield _Fitted(population=moved, integers=shifted, shifted=True)


def _possible(
    population: FloatPopulation, limits: Formats, scale: float
) -> Layer | Accumulator | None:
    """Return the integers at a scale, or None where a format or the rounding rules it out."""
    try:
        return at_scale(population, limits, scale)
    except InvalidGraph:
        return None


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
