"""Operation counts: what a run did, before anyone puts a price on it.

Counts come from a `Trace` (what was delivered) and its `Program` (what is stored), and from
nowhere else. Every count is for one sample (one inference of T steps); its mean and its
spread are over the samples of the trace. No constant of any chip appears here, so the same
counts can be priced under every profile.

An addition is one spike meeting one stored non-zero synapse whose target lies inside the
output. Synapses that read the image meet numbers instead of spikes: each non-zero code
times non-zero weight is one multiply-accumulate, counted for one pass over the image. What
is kept of such a pass decides whether a device repeats it at every step; profiles say which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from snnc.energy.ann import AnnCounts
from snnc.energy.quantity import Quantity
from snnc.energy.sampled import Sampled, sampled
from snnc.errors import InvalidSetting, unreachable
from snnc.ir.program import INPUT, Convolution, FullyConnected, Program, Synapses
from snnc.ir.weights import Csr, Shape, nonzeros
from snnc.simulate.activity import fan_out
from snnc.simulate.trace import Counts as PerStep
from snnc.simulate.trace import LayerTrace, SynapseTrace, Trace

PerSample = npt.NDArray[np.int64]  # (samples,)


class Encoding(Enum):
    """How a bundle of synapses is stored, which on some chips decides what one costs."""

    CONVOLUTION = "conv"  # shared kernels
    DENSE = "dense"  # a full matrix
    SPARSE = "sparse"  # an index for each synapse


ADDITIONS: Mapping[Encoding, Quantity] = {
    Encoding.CONVOLUTION: Quantity.SYNAPTIC_CONV,
    Encoding.DENSE: Quantity.SYNAPTIC_DENSE,
    Encoding.SPARSE: Quantity.SYNAPTIC_SPARSE,
}


@dataclass(frozen=True, kw_only=True)
class BundleCounts:
    """One bundle of synapses.

    `events` are additions of one inference; for a bundle that reads the image they are
    multiply-accumulates of one pass over it.
    """

    name: str
    population: str  # the layer, or the accumulator, that receives them
    source: str
    encoding: Encoding
    weights: int  # positions of the weight array, zero or not
    stored: int  # non-zero weights
    connections: int  # non-zero synapses between two neurons, shared kernels unrolled
    events: Sampled

    @property
    def reads_image(self) -> bool:
        """Whether the source is the encoded image, not a layer of spikes."""
        return self.source == INPUT

    @property
    def quantity(self) -> Quantity:
        """What one event is counted as."""
        return Quantity.INPUT_MACS if self.reads_image else ADDITIONS[self.encoding]


@dataclass(frozen=True, kw_only=True)
class NeuronCounts:
    """One population: spikes and membrane updates of one inference.

    An update is active when the neuron got an event in that step or has a bias. A trace does
    not record which neurons of an accumulator got one, so all its updates count as active:
    an upper bound.
    """

    name: str
    neurons: int
    spiking: bool  # False for the accumulator
    spikes: Sampled
    active: Sampled
    inactive: Sampled


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Hops of one inference between tiles of a chip's mesh; only a placement knows them."""

    hops_ew: float
    hops_ns: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one step takes, and on how many chips; only a device or its model knows."""

    step_seconds: float
    chips: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Everything that pricing needs. `routing` and `timing` are None where unknown, not 0.

    `image_every_step` says that what ran multiplies the image at every step; where it is False
    the profile decides how often that is counted. `covariance` is over the samples, between
    the quantities in `QUANTITIES` (n - 1; None for one sample): a price is linear in the counts,
    so it gives the spread of any price.
    """

    samples: int
    steps: int
    bundles: tuple[BundleCounts, ...]
    populations: tuple[NeuronCounts, ...]
    covariance: tuple[tuple[float, ...], ...] | None
    ann: AnnCounts
    routing: Routing | None = None
    timing: Timing | None = None
    image_every_step: bool = False


QUANTITIES = (
    Quantity.SYNAPTIC_CONV,
    Quantity.SYNAPTIC_DENSE,
    Quantity.SYNAPTIC_SPARSE,
    Quantity.INPUT_MACS,
    Quantity.NEURON_ACTIVE,
    Quantity.NEURON_INACTIVE,
    Quantity.SPIKES,
)  # those that differ between samples, in the order of `Counts.covariance`


def count(
    program: Program,
    trace: Trace,
    *,
    ann: AnnCounts,
    encodings: Mapping[tuple[str, str], Encoding] = MappingProxyType({}),
    image_every_step: bool = False,
) -> Counts:
    """Return the operation counts of a run.

    `ann` holds those of the ordinary network that the run is to be compared with:
    `snnc.energy.ann.ann_counts` measures them, `ann_counts_of_program` has the dense ones.
    `encodings` maps (population, bundle) to how a target stores what it stores otherwise than
    the program; it and `image_every_step` come from `snnc.energy.lowering.Lowers`.

    Raises:
        InvalidSetting: the trace is empty, or of another program.
    """
    _check_same(program, trace)
    delivered = {(each.population, each.name): each for each in trace.synapses}
    activity = {layer.name: layer for layer in trace.layers}
    totals = {quantity: np.zeros(trace.samples, dtype=np.int64) for quantity in QUANTITIES}
    bundles, populations = [], []
    for population in program.populations:
        for synapses in population.synapses:
            events = _events(delivered[population.name, synapses.name])
            source = program.shape_of(synapses.source)
            kept = encodings.get((population.name, synapses.name), encoding(synapses))
            bundles.append(_bundle(synapses, population.name, source, events, kept))
            totals[bundles[-1].quantity] += events
        spikes, active = _activity(activity.get(population.name), population.size, trace)
        inactive = trace.steps * population.size - active
        totals[Quantity.SPIKES] += spikes
        totals[Quantity.NEURON_ACTIVE] += active
        totals[Quantity.NEURON_INACTIVE] += inactive
        populations.append(
            NeuronCounts(
                name=population.name,
                neurons=population.size,
                spiking=population.name in activity,
                spikes=sampled(spikes),
                active=sampled(active),
                inactive=sampled(inactive),
            )
        )
    return Counts(
        samples=trace.samples,
        steps=trace.steps,
        bundles=tuple(bundles),
        populations=tuple(populations),
        covariance=_covariance([totals[quantity] for quantity in QUANTITIES]),
        ann=ann,
        image_every_step=image_every_step,
    )


def encoding(synapses: Synapses) -> Encoding:
    """Return how a bundle is stored."""
    match synapses.kind:
        case Convolution():
            return Encoding.CONVOLUTION
        case FullyConnected():
            return Encoding.SPARSE if isinstance(synapses.weight, Csr) else Encoding.DENSE
        case _:
            unreachable(synapses.kind)


def _bundle(
    synapses: Synapses, population: str, source: Shape, events: PerSample, kept: Encoding
) -> BundleCounts:
    return BundleCounts(
        name=synapses.name,
        population=population,
        source=synapses.source,
        encoding=kept,
        weights=prod(synapses.weight.shape),
        stored=nonzeros(synapses.weight),
        connections=int(fan_out(synapses, source).sum()),
        events=sampled(events),
    )


def _events(found: SynapseTrace) -> PerSample:
    """Return the events of each sample; of one pass only where the image is the source."""
    return _over_time(found.events[:, :1] if found.source == INPUT else found.events)


def _activity(layer: LayerTrace | None, neurons: int, trace: Trace) -> tuple[PerSample, PerSample]:
    """Return the spikes and the active updates for each sample; `None` is the accumulator."""
    if layer is None:
        silent = np.zeros(trace.samples, dtype=np.int64)
        return silent, np.full(trace.samples, trace.steps * neurons, dtype=np.int64)
    return _over_time(layer.spikes), _over_time(layer.updated)


def _over_time(counts: PerStep) -> PerSample:
    over_time: PerSample = counts.sum(axis=1, dtype=np.int64)
    return over_time


def _covariance(per_sample: list[PerSample]) -> tuple[tuple[float, ...], ...] | None:
    """Return the sample covariance (n - 1) between rows, or None for a single sample."""
    if len(per_sample[0]) < 2:
        return None
    rows = np.cov(np.stack(per_sample).astype(np.float64))
    return tuple(tuple(float(entry) for entry in row) for row in rows)


def _check_same(program: Program, trace: Trace) -> None:
    if trace.samples == 0:
        raise InvalidSetting("the trace holds no samples; energy needs at least one")
    ran = {(each.population, each.name) for each in trace.synapses}
    known = {(into.name, each.name) for into in program.populations for each in into.synapses}
    sizes = {layer.name: layer.neurons for layer in trace.layers}
    if (
        ran != known
        or sizes != {layer.name: layer.size for layer in program.layers}
        or trace.steps != program.steps
    ):
        raise InvalidSetting(
            "the trace is of another program: layers, synapses or steps differ; "
            "run this program and count that trace"
        )
