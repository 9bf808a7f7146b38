"""Why a program has no netx file that lava-dl would run with the same spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from snnc.errors import Issue, unreachable
from snnc.frontend.netx.layers import BIAS_MAX, BIAS_MIN, DELAY_MAX, VTH_MAX
from snnc.frontend.netx.limits import current_issues
from snnc.frontend.netx.synapses import BYTE, delivered
from snnc.ir.graph import Reset
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.rules import Broken
from snnc.ir.weights import IntArray, integers, nonzeros, row_of_each, sparse, unpack
from snnc.semantics.neuron import ALIGN

_LOIHI = "quantize for loihi"


def issues(program: Program) -> list[Issue]:
    """Return every reason the program has no netx file; empty when it has one."""
    found: list[Issue] = []
    previous = INPUT
    biased = driven_by_bias(program)
    for population in program.populations:
        chained = list(_chain(population, previous))
        found += chained
        if not chained and not (biased and population is program.layers[0]):
            found += _synapses(population)
        if isinstance(population, Layer):
            found += _neuron(population)
        found += _bias(population, program.input.levels if biased and previous == INPUT else 0)
        previous = population.name
    return [*found, *current_issues(program)]


def driven_by_bias(program: Program) -> bool:
    """Return whether the first layer gives each neuron its own pixel and nothing else.

    Then it is an input layer of lava-dl, whose neurons get the image as their bias, which goes
    past the current. The bias that lava-dl adds, and the code of a black pixel, are one number
    each for all channels.
    """
    if not program.layers or len(program.populations) < 2:
        return False
    first = program.layers[0]
    if len(first.synapses) != 1 or first.synapses[0].source != INPUT:
        return False
    if first.shape != program.input.shape or first.current_decay != FORGET:
        return False
    for same in (first.bias, program.input.zero_point):
        if (same != same[0]).any():
            return False
    return _own_pixel(first.synapses[0], first.shape)


def _own_pixel(bundle: Synapses, shape: tuple[int, ...]) -> bool:
    """Return whether neuron i reads pixel i with weight 1, or each with weight -1."""
    match bundle.kind:
        case Convolution(stride=stride, padding=padding, groups=groups):
            straight = stride == (1, 1) and padding == (0, 0) and groups == shape[0]
            if not straight or bundle.weight.shape != (shape[0], 1, 1, 1):
                return False
            values = unpack(bundle.weight).reshape(-1)
        case FullyConnected():
            if len(shape) != 1 or nonzeros(bundle.weight) != shape[0]:
                return False
            pattern = sparse(unpack(bundle.weight))
            if not np.array_equal(row_of_each(pattern), pattern.indices):
                return False
            values = pattern.data
        case _:
            unreachable(bundle.kind)
    return bool((values == values[0]).all()) and abs(int(values[0])) == 1


def merged(synapses: Sequence[Synapses]) -> tuple[IntArray, IntArray]:
    """Return the weight and the delay of each synapse of matrices that do not overlap."""
    weight = np.zeros(synapses[0].weight.shape, dtype=np.int32)
    delay = np.zeros(synapses[0].weight.shape, dtype=np.int32)
    for bundle in synapses:
        values = unpack(bundle.weight)
        weight += values
        delay[values != 0] = bundle.delay
    return integers(weight), integers(delay)


def _chain(population: Layer | Accumulator, previous: str) -> Iterator[Issue]:
    """A layer reads the one before it, by one convolution or by matrices of different delays."""
    for bundle in population.synapses:
        if bundle.source != previous:
            yield Issue(
                bundle.name,
                f"reads {bundle.source!r}, in netx a layer reads the one before it: {previous!r}",
                "train a network without shortcuts",
                "not-a-chain",
            )
    matrices = [b for b in population.synapses if isinstance(b.kind, FullyConnected)]
    delays = {bundle.delay for bundle in matrices}
    if len(population.synapses) > 1 and len(delays) < len(population.synapses):
        yield Issue(
            population.name,
            "has several bundles of synapses; netx has one matrix or convolution for each layer",
            "add their weights up, where the delay is the same",
            "several-bundles",
        )
    elif len({b.source for b in matrices}) == 1 and _overlap(matrices):
        yield Issue(
            population.name,
            "connects two neurons twice, with different delays; netx has one delay for each pair",
            "keep one of the two",
            "several-delays",
        )


def _overlap(matrices: Sequence[Synapses]) -> bool:
    times = np.zeros(matrices[0].weight.shape, dtype=np.int32)
    for bundle in matrices:
        times += unpack(bundle.weight) != 0
    return bool((times > 1).any())


def _synapses(population: Layer | Accumulator) -> Iterator[Issue]:
    for bundle in population.synapses:
        if bundle.delay and isinstance(bundle.kind, Convolution):
            problem = "is a convolution with a delay, which lava-dl ignores"
            yield Issue(bundle.name, problem, "give it no delay", "conv-delay")
        if bundle.delay > DELAY_MAX:
            yield Issue(
                bundle.name,
                f"its delay is {bundle.delay}, lava-dl keeps {DELAY_MAX}",
                "use shorter delays",
                "delay-range",
                need=bundle.delay,
                limit=DELAY_MAX,
            )
    kind = population.synapses[0].kind
    match kind:
        case Convolution(stride=stride, padding=padding, groups=groups):
            kernel = population.synapses[0].weight.shape[2:]
            if (largest := max(*stride, *padding, groups, *kernel)) > BYTE:
                yield Issue(
                    population.name,
                    f"a stride, padding, kernel size or number of groups is {largest}, lava-nc "
                    f"keeps {BYTE}",
                    "use fewer groups or smaller kernels",
                    "conv-range",
                    need=largest,
                    limit=BYTE,
                )
        case FullyConnected():
            yield from _matrix(population)
        case _:
            unreachable(kind)


def _matrix(population: Layer | Accumulator) -> Iterator[Issue]:
    weight, _ = merged(population.synapses)
    try:
        held = delivered(weight.astype(np.int64))
    except Broken as broken:
        yield Issue(population.name, *broken.args)
        return
    if (held != weight).any():
        post, pre = (int(i) for i in np.argwhere(held != weight)[0])
        yield Issue(
            population.name,
            f"its weight {weight[post, pre]} from {pre} to {post} becomes {held[post, pre]} in "
            "lava-dl's 8 bits",
            "change that weight by one, or quantize to fewer bits",
            "weight-rounding",
        )


def _neuron(layer: Layer) -> Iterator[Issue]:
    if layer.reset is Reset.SUBTRACT:
        yield Issue(
            layer.name,
            "is reset by subtraction, Lava's neuron resets to zero",
            "train with reset 'zero'",
            "soft-reset",
        )
    vth, rest = divmod(layer.threshold - 1, 1 << ALIGN)
    if rest or vth > VTH_MAX:
        yield Issue(
            layer.name,
            f"its threshold is {layer.threshold}; lava-dl has 64 k + 1, with k from 0 to {VTH_MAX}",
            f"{_LOIHI}, which chooses such thresholds",
            "threshold-form",
        )


def _bias(population: Layer | Accumulator, drive: int) -> Iterator[Issue]:
    """`drive` is what the image adds to the bias, at most."""
    low, high = int(population.bias.min()) - drive, int(population.bias.max()) + drive
    if low < BIAS_MIN or high > BIAS_MAX:
        yield Issue(
            population.name,
            f"its bias can reach from {low} to {high}, lava-nc keeps {BIAS_MIN} to {BIAS_MAX}",
            f"{_LOIHI} (it lowers the scale)",
            "bias-range",
        )
