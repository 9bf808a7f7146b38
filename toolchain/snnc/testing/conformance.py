"""The tests every target must pass. Subclass once per target, in a test file:

    class TestMyChip(TargetConformance):
        target = MyChip()

Generated programs must run bit for bit as `snnc.semantics` says. A target may refuse a
program through `issues`; Hypothesis objects if it refuses most of them.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, assume, given, settings

from snnc.ir.graph import Reset
from snnc.ir.program import FullyConnected, ImageInput, Layer, Program, SpikeCount, Synapses
from snnc.ir.weights import Dense, IntArray, integers
from snnc.semantics.network import Specified, specified
from snnc.semantics.neuron import ALIGN
from snnc.simulate.trace import Trace
from snnc.targets.api import Target, legalize
from snnc.testing.programs import runs


class TargetConformance:
    """Bit-exact agreement with the specification, or an honest refusal."""

    target: Target
    resets: tuple[Reset, ...] = tuple(Reset)
    examples: int = 200

    def test_runs_what_the_specification_says(self) -> None:
        """Every program the target accepts gives the specified spikes, events and logits."""

        @settings(
            max_examples=self.examples,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(runs(resets=self.resets))
        def agrees(case: tuple[Program, IntArray]) -> None:
            program, codes = case
            assume(not self.target.issues(program))
            agree(run_on(self.target, program, codes), specified(program, codes))

        agrees()

    def test_saturates_where_the_specification_does(self) -> None:
        """Driven far below zero, then up: only a clipped membrane recovers in time."""
        program, codes = saturating()
        assert not self.target.issues(program), "within every format of Numbers()"
        agree(run_on(self.target, program, codes), specified(program, codes))


def run_on(target: Target, program: Program, codes: IntArray) -> Trace:
    """Emit a program into a temporary directory and run it there, with all its spikes."""
    with TemporaryDirectory() as directory:
        target.emit(legalize(target, program), Path(directory))
        return target.execute(program, Path(directory), codes, raster=True)


def agree(got: Trace, want: Specified) -> None:
    """Assert that a trace is what the specification says, naming the first layer that is not."""
    for layer in got.layers:
        np.testing.assert_array_equal(
            layer.raster, want.rasters[layer.name], err_msg=f"first differing layer: {layer.name}"
        )
        per_step = want.rasters[layer.name].reshape(*layer.spikes.shape, -1).sum(axis=-1)
        np.testing.assert_array_equal(layer.spikes, per_step, err_msg=layer.name)
    assert [layer.name for layer in got.layers] == list(want.rasters)
    np.testing.assert_array_equal(got.logits, want.logits)
    np.testing.assert_array_equal(got.predictions, want.logits.argmax(axis=1))
    for synapses in got.synapses:
        name = f"{synapses.population}/{synapses.name}"
        np.testing.assert_array_equal(synapses.events, want.events[name], err_msg=name)


def saturating() -> tuple[Program, IntArray]:
    """Return a program that reaches both ends of the 24-bit membrane, with an input for it.

    `down` inhibits `floor` at every step, so that it saturates. From step 11 on `up` lifts it:
    over its threshold at step 13 if it was clipped, later if not. `up` also fills `ceiling`,
    whose soft reset leaves less behind if it was clipped: no spike at step 14.

    Every current stays within 24 bits, as a chip demands.
    """
    down = _clock("down", neurons=127, period=1)
    slow = _clock("slow", neurons=4, period=11)
    up = _driven("up", {slow: 127}, 8, Reset.SUBTRACT, neurons=600)  # a burst lasts 63 steps
    floor = _driven("floor", {down: -127, up: 127}, 30_000, Reset.ZERO)
    ceiling = _driven("ceiling", {up: 127}, 100_000, Reset.SUBTRACT)
    program = Program(
        input=ImageInput(shape=(1,), levels=1, zero_point=integers([0])),
        layers=(down, slow, up, floor, ceiling),
        readout=SpikeCount(),
        steps=16,
    )
    return program, integers([[1], [0]])


def _clock(name: str, *, neurons: int, period: int) -> Layer:
    """Return neurons that fire together every `period` steps while the input is 1."""
    weight = Dense(integers(np.ones((neurons, 1))))
    synapses = Synapses(name=name, source="input", weight=weight, kind=FullyConnected())
    return _layer(name, neurons, (synapses,), ((period - 1) << ALIGN) + 1, Reset.ZERO)


def _driven(
    name: str, weights: dict[Layer, int], level: int, reset: Reset, *, neurons: int = 1
) -> Layer:
    """Return neurons that read every neuron of some layers with the same weight."""
    synapses = tuple(
        Synapses(
            name=f"{name}.{layer.name}",
            source=layer.name,
            weight=Dense(integers(np.full((neurons, layer.size), weight))),
            kind=FullyConnected(),
        )
        for layer, weight in weights.items()
    )
    return _layer(name, neurons, synapses, ((level - 1) << ALIGN) + 1, reset)


def _layer(
    name: str, neurons: int, synapses: tuple[Synapses, ...], threshold: int, reset: Reset
) -> Layer:
    return Layer(
        name=name,
        shape=(neurons,),
        synapses=synapses,
        bias=integers(np.zeros(neurons)),
        threshold=threshold,
        decay=0,
        reset=reset,
        scale=1.0,
    )
