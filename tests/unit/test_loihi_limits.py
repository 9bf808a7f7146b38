"""What the loihi target refuses, and what it says about the rest."""

from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import NotLegal
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import Dense, integers
from snnc.targets.api import legalize
from snnc_targets.loihi import TARGET, limits, mapping, plan


def matrix(name, source, weight):
    weight = Dense(integers(weight))
    return Synapses(name=name, source=source, weight=weight, kind=FullyConnected())


def layer(name, source, weight, **changes):
    weight = np.asarray(weight)
    plain = Layer(
        name=name,
        shape=(len(weight),),
        synapses=(matrix(name, source, weight),),
        bias=integers(np.zeros(len(weight))),
        threshold=641,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )
    return replace(plain, **changes)


def program(*layers, steps=4, levels=1, readout=None):
    size = layers[0].synapses[0].weight.shape[1]
    return Program(
        input=ImageInput(shape=(size,), levels=levels, zero_point=integers(np.zeros(size))),
        layers=layers,
        readout=readout or SpikeCount(),
        steps=steps,
    )


def two(**changes):
    """Two layers of which the second, which reads spikes, has the changes."""
    return program(layer("a", INPUT, [[1, 2]]), layer("b", "a", [[3]], **changes))


def codes(program):
    return [(issue.layer, issue.code) for issue in TARGET.issues(program)]


def test_a_program_within_every_limit_has_no_issue():
    assert codes(two(threshold=64 * 131071 + 1, decay=4095, bias=integers([-4096]))) == []


def test_a_weight_beyond_eight_bits_is_refused():
    assert codes(program(layer("a", INPUT, [[127, -127]]))) == []
    assert codes(program(layer("a", INPUT, [[128, 0]]))) == [("a", "weight-range")]
    assert codes(program(layer("a", INPUT, [[0, -128]]))) == [("a", "weight-range")]


@pytest.mark.parametrize(("threshold", "legal"), [(1, True), (65, True), (64, False), (66, False)])
def test_a_hard_reset_needs_a_threshold_of_lavas_form(threshold, legal):
    assert codes(two(threshold=threshold)) == ([] if legal else [("b", "threshold-form")])


def test_a_soft_reset_takes_any_threshold_a_membrane_reaches():
    assert codes(two(threshold=66, reset=Reset.SUBTRACT)) == []
    assert codes(two(threshold=(1 << 23) - 1, reset=Reset.SUBTRACT)) == []
    assert codes(two(threshold=1 << 23, reset=Reset.SUBTRACT)) == [("b", "threshold-range")]


def test_a_threshold_beyond_its_mantissa_is_refused():
    assert codes(two(threshold=64 * 131072 + 1)) == [("b", "threshold-range")]


def test_a_decay_beyond_twelve_bits_is_refused():
    assert codes(two(decay=4096)) == [("b", "decay-range")]


@pytest.mark.parametrize(
    ("bias", "exponent"),
    [([4095], 6), ([-4096], 6), ([4096], 7), ([8190], 7), ([-8192], 7), ([4097], None)],
)
def test_a_bias_needs_a_mantissa_of_thirteen_bits(bias, exponent):
    assert limits.bias_exponent(integers(bias)) == exponent
    assert codes(two(bias=integers(bias))) == ([] if exponent else [("b", "bias-format")])


def test_one_exponent_serves_all_biases_of_a_layer():
    assert limits.bias_exponent(integers([8190, 1])) is None


def test_the_bias_of_a_layer_that_reads_the_image_travels_with_the_current():
    assert codes(program(layer("a", INPUT, [[1, 2]], bias=integers([100_001])))) == []


def test_a_current_beyond_24_bits_names_the_neuron_and_the_bound():
    weight = np.zeros((3, 2))
    weight[1] = [127, -127]
    wide = program(layer("a", INPUT, weight, bias=integers([0, -5, 0])), levels=517)
    (issue,) = TARGET.issues(wide)
    assert issue.code == "current-range"
    assert f"neuron (1,) can reach {127 * 517 * 2 + 5}" in issue.problem
    assert codes(replace(wide, input=replace(wide.input, levels=516))) == []


def test_the_current_bound_knows_the_zero_point_and_the_border_of_a_map():
    kernel = np.full((1, 1, 3, 3), -10)
    convolved = Layer(
        name="c",
        shape=(1, 2, 2),
        synapses=(
            Synapses(
                name="c",
                source=INPUT,
                weight=Dense(integers(kernel)),
                kind=Convolution(stride=(1, 1), padding=(1, 1), groups=1),
            ),
        ),
        bias=integers([-7]),
        threshold=65,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )
    image = ImageInput(shape=(1, 2, 2), levels=10, zero_point=integers([8]))
    small = Program(input=image, layers=(convolved,), readout=SpikeCount(), steps=1)
    # codes reach from -8 to 2, and of nine taps only four lie inside a 2 x 2 map
    np.testing.assert_array_equal(
        limits.current_bounds(small, convolved), np.full((1, 2, 2), 4 * 10 * 8 + 7)
    )


def test_a_readout_that_could_overflow_is_refused():
    def deep(steps):
        readout = Accumulator(
            name="out",
            shape=(1,),
            synapses=(matrix("out", "a", [[127]]),),
            bias=integers([1000]),
            scale=1.0,
        )
        return program(layer("a", INPUT, [[1, 2]]), readout=readout, steps=steps)

    assert codes(deep(7443)) == []
    assert codes(deep(7444)) == [("out", "readout-range")]


def test_a_layer_that_nothing_ties_to_the_readout_is_refused():
    loose = program(layer("a", INPUT, [[1, 2]]), layer("b", INPUT, [[1, 2]]))
    assert codes(loose) == [("a", "disconnected")]


def test_a_spike_that_must_wait_too_long_is_refused():
    chain = [layer("l0", INPUT, [[1]])]
    for i in range(1, 66):
        chain.append(layer(f"l{i}", f"l{i - 1}", [[1]]))
    last = layer("last", "l65", [[1]])
    shortcut = (*last.synapses, matrix("shortcut", "l0", [[1]]))
    assert codes(program(*chain, replace(last, synapses=shortcut))) == [("shortcut", "delay-range")]
    shortcut = (*last.synapses, matrix("shortcut", "l2", [[1]]))
    assert codes(program(*chain, replace(last, synapses=shortcut))) == []


def test_all_reasons_come_at_once_each_with_a_remedy():
    broken = two(
        threshold=64, decay=5000, bias=integers([4097]), synapses=(matrix("w", "a", [[200]]),)
    )
    with pytest.raises(NotLegal) as refused:
        legalize(TARGET, broken)
    assert {issue.code for issue in refused.value.issues} == {
        "weight-range",
        "threshold-form",
        "decay-range",
        "bias-format",
    }
    assert all(issue.remedy for issue in refused.value.issues)


def test_lag_counts_the_synapses_on_the_longest_path_of_spikes():
    layers = (
        layer("a", INPUT, [[1]]),
        layer("b", "a", [[1]]),
        layer("c", INPUT, [[1]]),
    )
    joined = layer("d", "b", [[1]])
    joined = replace(joined, synapses=(*joined.synapses, matrix("d.c", "c", [[1]])))
    placed = plan.plan(program(*layers, joined))
    assert [place.lag for place in placed] == [1, 2, 1, 3]
    assert [(b.variable, b.form.value, b.delay) for b in placed[3].bundles] == [
        ("d", "Dense", 0),
        ("d_c", "DelaySparse", 1),
    ]


def test_the_report_says_what_a_chip_would_still_refuse():
    chip = mapping.report(two())
    assert chip["hardware"]["deployable"] is True
    soft = mapping.report(replace(two(reset=Reset.SUBTRACT), steps=6))
    assert soft["hardware"]["deployable"] is False
    assert soft["hardware"]["obstacles"] == [
        "steps: T = 6; the chip resets membranes every 2**n steps only",
        "b: reset by subtraction, the chip's LIF resets to zero",
    ]


def test_the_report_maps_every_layer():
    second = mapping.report(two(bias=integers([8190])))["layers"][1]
    assert (second["process"], second["vth"], second["bias_exp"], second["lag"]) == (
        "LIFReset",
        10,
        7,
        2,
    )
    assert second["synapses"][0]["process"] == "Dense"
