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
from snnc.semantics import neuron
from snnc.targets.api import legalize
from snnc_targets.loihi import bounds, limits, mapping, plan
from snnc_targets.loihi.lowering import USUAL, Image
from snnc_targets.loihi.target import LOIHI2, TARGET


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


def codes(program, target=TARGET):
    return [(issue.layer, issue.code) for issue in target.issues(program)]


def limit_of(issue):
    return issue.code, issue.need, issue.limit


BIAS = TARGET.configured({"image": "bias"})
GRADED = TARGET.configured({"image": "graded"})


def test_a_program_within_every_limit_has_no_issue():
    assert codes(two(threshold=64 * 131071 + 1, decay=4095, bias=integers([-4096]))) == []


def test_a_weight_beyond_eight_bits_is_refused():
    assert codes(program(layer("a", INPUT, [[127, -127]]))) == []
    assert codes(program(layer("a", INPUT, [[128, 0]]))) == [("a", "weight-range")]
    (issue,) = TARGET.issues(program(layer("a", INPUT, [[128, 0]])))  # the host has no exponent
    assert issue.problem == "a weight reaches 128 in magnitude, the limit is 127"
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


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        ([[127 * 128], [-128]], None),  # 127 and -1, times 2**7
        ([[254], [-2]], None),
        ([[254], [3]], 254),  # no multiple of 2
        ([[127 * 128], [4]], 127 * 128),  # no multiple of 128
        ([[128 * 128], [0]], 128 * 128),  # there is no exponent of 8
    ],
)
def test_weights_of_a_bundle_may_share_a_power_of_two(weight, found):
    two_layers = program(layer("a", INPUT, [[1, 2]]), layer("b", "a", weight))
    issues = TARGET.issues(two_layers)
    if found is None:
        assert issues == ()
    else:
        (issue,) = issues
        assert limit_of(issue) == ("weight-range", found, 127)
        assert "multiples of 2**e, e up to 7" in issue.problem


def test_a_current_beyond_24_bits_names_the_neuron_and_the_bound():
    weight = np.zeros((3, 2))
    weight[1] = [127, -127]
    wide = program(layer("a", INPUT, weight, bias=integers([0, -5, 0])), levels=517)
    (issue,) = TARGET.issues(wide)
    assert limit_of(issue) == ("current-range", 127 * 517 * 2 + 5, 131071)
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
        bounds.current_bounds(small, convolved), np.full((1, 2, 2), 4 * 10 * 8 + 7)
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
        threshold=64, decay=5000, bias=integers([4097]), synapses=(matrix("w", "a", [[201]]),)
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
    placed = plan.plan(program(*layers, joined), USUAL)
    assert [place.lag for place in placed] == [1, 2, 1, 3]
    assert [(b.variable, b.form.value, b.delay) for b in placed[3].bundles] == [
        ("d", "Dense", 0),
        ("d_c", "DelaySparse", 1),
    ]


def test_a_current_that_never_decays_is_refused():
    assert codes(two(current_decay=1)) == []
    (issue,) = TARGET.issues(two(current_decay=0))
    assert limit_of(issue) == ("current-decay-range", 0, 1)


@pytest.mark.parametrize("current_decay", [1, 7, 512, 3000, 4095])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_bound_of_a_lasting_current_is_the_one_that_it_reaches(current_decay, steps):
    lasting = program(
        layer("a", INPUT, [[1, 2]]),
        layer("b", "a", [[-77], [5]], current_decay=current_decay, bias=integers([3, -9])),
        steps=steps,
    )
    u = v = 0
    for _ in range(steps):  # the spike comes at every step
        u, v, _ = neuron.step(
            u,
            v,
            -77,
            current_decay=current_decay,
            bias=0,
            threshold=1,
            decay=0,
            reset=Reset.ZERO,
        )
    largest = bounds.lasting_bounds(lasting, lasting.layers[1])
    assert largest[0] == -(u // 64) + 3  # in units of current, rounded up, and its bias
    assert largest[0] <= 77 * min(steps, 4096 / current_decay) + 1 + 3


def test_a_lasting_current_beyond_24_bits_names_the_neuron_the_need_and_the_limit():
    weight = np.zeros((2, 2))
    weight[1] = [127, -127]

    def summed(steps):
        lasting = layer("a", INPUT, weight, current_decay=1)
        return program(lasting, levels=100, steps=steps)

    assert codes(summed(5)) == []
    (issue,) = TARGET.issues(summed(6))
    assert (issue.layer, issue.code, issue.limit) == ("a", "current-range", 131071)
    assert 131071 < issue.need <= 6 * 254 * 100
    assert f"neuron (1,) can reach {issue.need} within 6 steps" in issue.problem
    assert codes(replace(summed(6), layers=(layer("a", INPUT, weight),))) == []


def test_a_lasting_current_does_not_carry_the_bias_so_the_neuron_must_hold_it():
    wide = layer("a", INPUT, [[1, 2]], bias=integers([100_001]))
    assert codes(program(wide)) == []
    assert codes(program(replace(wide, current_decay=512))) == [("a", "bias-format")]


def delayed(delay, *, chain=1):
    """A chain of layers and a shortcut with a delay of its own from the first to the last."""
    layers = [layer("l0", INPUT, [[1]])]
    for i in range(1, chain + 1):
        layers.append(layer(f"l{i}", f"l{i - 1}", [[1]]))
    shortcut = replace(matrix("shortcut", "l0", [[1]]), delay=delay)
    layers[-1] = replace(layers[-1], synapses=(*layers[-1].synapses, shortcut))
    return program(*layers)


def test_synapses_hold_spikes_for_other_branches_and_for_their_own_delay_up_to_63_steps():
    assert codes(delayed(63)) == []
    assert codes(delayed(59, chain=5)) == []
    (issue,) = TARGET.issues(delayed(60, chain=5))
    assert limit_of(issue) == ("delay-range", 64, 63)
    assert "wait 4 steps for the longer branch and 60 of their own" in issue.problem


def test_what_the_image_adds_must_fit_the_bias_that_holds_it():
    within = program(layer("a", INPUT, [[15, 0]], bias=integers([-270])), levels=255)
    assert codes(within, BIAS) == []
    assert limits.image_exponent(within, within.layers[0]) == 6
    beyond = program(layer("a", INPUT, [[15, 0]], bias=integers([-271])), levels=255)
    (issue,) = BIAS.issues(beyond)
    assert limit_of(issue) == ("image-bias-range", 4096, 4095)
    assert codes(beyond) == codes(beyond, GRADED) == []


def test_even_weights_and_biases_get_twice_the_room_in_a_bias():
    even = program(layer("a", INPUT, [[32, 0]], bias=integers([-30])), levels=255)
    assert codes(even, BIAS) == []
    assert limits.image_exponent(even, even.layers[0]) == 7
    odd = program(layer("a", INPUT, [[32, 0]], bias=integers([-29])), levels=255)
    assert codes(odd, BIAS) == [("a", "image-bias-range")]


def test_a_bias_holds_the_image_of_a_layer_that_also_reads_spikes():
    second = layer("b", "a", [[100]])
    both = replace(second, synapses=(*second.synapses, matrix("b.image", INPUT, [[16, 0]])))
    joined = program(layer("a", INPUT, [[1, 2]]), both, levels=255)
    assert codes(joined, BIAS) == []  # the spikes' current does not count
    assert [place.lag for place in plan.plan(joined, BIAS.how)] == [2, 3]


def test_a_lasting_current_cannot_come_as_a_bias():
    lasting = program(layer("a", INPUT, [[1, 2]], current_decay=512))
    assert codes(lasting, BIAS) == [("a", "image-lasts")]
    assert codes(lasting) == codes(lasting, GRADED) == []


def test_beside_graded_spikes_the_neuron_holds_the_bias():
    wide = program(layer("a", INPUT, [[1, 2]], bias=integers([4097])))
    (issue,) = GRADED.issues(wide)
    assert limit_of(issue) == ("bias-format", 4097, 4095)


@pytest.mark.parametrize(
    ("image", "lags"), [(Image.HOST, [1, 2, 1]), (Image.BIAS, [2, 3, 1]), (Image.GRADED, [2, 3, 2])]
)
def test_an_image_that_comes_by_a_synapse_or_a_bias_comes_a_step_later(image, lags):
    bundle = matrix("out", INPUT, [[1, 1]])
    out = Accumulator(name="out", shape=(1,), synapses=(bundle,), bias=integers([0]), scale=1.0)
    layers = (layer("a", INPUT, [[1, 2]]), layer("b", "a", [[3]]))
    found = plan.lag_of_each(program(*layers, readout=out), image)
    assert list(found.values()) == lags


def on_chip(*layers, **changes):
    """The issues of the chip, with its own way for the image."""
    return [limit_of(issue) for issue in LOIHI2.issues(program(*layers, **changes))]


def test_a_program_that_a_chip_can_run_has_no_issue_there():
    assert on_chip(layer("a", INPUT, [[1, 2]]), layer("b", "a", [[3]]), steps=8) == []


def test_a_chip_refuses_what_only_the_simulation_can_do():
    a = layer("a", INPUT, [[1, 2]])
    assert on_chip(a, steps=6) == [("steps-power-of-two", 6, None)]
    assert on_chip(replace(a, reset=Reset.SUBTRACT)) == [("soft-reset", None, None)]
    assert on_chip(a, layer("b", "a", [[0]])) == [("all-zero", None, None)]
    assert codes(program(a), LOIHI2.configured({"image": "graded"})) == []


def test_synapses_from_the_image_are_on_the_chip_only_for_graded_spikes():
    silent = program(layer("a", INPUT, [[0, 0]], bias=integers([1])), layer("b", "a", [[1]]))
    assert codes(silent, LOIHI2) == []
    assert codes(silent, LOIHI2.configured({"image": "graded"})) == [("a", "all-zero")]


def test_a_chip_refuses_delays_that_would_cross_samples_and_long_ones():
    assert [limit_of(issue) for issue in LOIHI2.issues(delayed(3))] == [
        ("delay-across-samples", 3, 0)
    ]
    assert [limit_of(issue) for issue in LOIHI2.issues(delayed(0, chain=63))] == []
    assert [limit_of(issue) for issue in LOIHI2.issues(delayed(0, chain=64))] == [
        ("delay-range", 63, 62)
    ]
    assert [limit_of(issue) for issue in LOIHI2.issues(delayed(0, chain=65))] == [
        ("delay-range", 64, 62)
    ]


def test_a_chip_refuses_maps_of_256_pixels_a_side_unless_they_are_unrolled():
    pooled = Convolution(stride=(8, 8), padding=(0, 0), groups=1)
    wide = Program(
        input=ImageInput(shape=(1, 256, 8), levels=1, zero_point=integers([0])),
        layers=tuple(
            Layer(
                name=name,
                shape=shape,
                synapses=(
                    Synapses(name=name, source=source, weight=Dense(integers(w)), kind=kind),
                ),
                bias=integers([0]),
                threshold=65,
                decay=0,
                reset=Reset.ZERO,
                scale=1.0,
            )
            for name, source, shape, w, kind in (
                (
                    "a",
                    INPUT,
                    (1, 256, 8),
                    np.ones((1, 1, 1, 1)),
                    replace(pooled, stride=(1, 1)),
                ),
                ("b", "a", (1, 32, 1), np.ones((1, 1, 8, 8)), pooled),
            )
        ),
        readout=SpikeCount(),
        steps=4,
    )
    assert [limit_of(issue) for issue in LOIHI2.issues(wide)] == [("map-side", 256, 255)]
    assert codes(wide, LOIHI2.configured({"convolutions": "sparse"})) == []


def test_a_logit_on_a_chip_is_a_membrane():
    def deep(steps):
        out = Accumulator(
            name="out",
            shape=(1,),
            synapses=(matrix("out", "a", [[127]]),),
            bias=integers([1000]),
            scale=1.0,
        )
        return program(layer("a", INPUT, [[1, 2]]), readout=out, steps=steps)

    assert codes(deep(64), LOIHI2) == []
    (issue,) = LOIHI2.issues(deep(128))
    assert limit_of(issue) == ("readout-range", 128 * 1127, 131071)


def test_the_report_says_what_a_chip_would_still_refuse():
    chip = mapping.report(two(), USUAL)
    assert chip["hardware"]["deployable"] is True
    soft = mapping.report(replace(two(reset=Reset.SUBTRACT), steps=6), USUAL)
    assert soft["hardware"]["deployable"] is False
    first, second = soft["hardware"]["obstacles"]
    assert first.startswith("program: runs 6 steps, the chip resets membranes every 2**n steps")
    assert second.startswith("b: resets by subtraction, the chip's LIF resets to zero")


def test_the_report_maps_every_layer():
    second = mapping.report(two(bias=integers([8190])), USUAL)["layers"][1]
    assert (second["process"], second["vth"], second["bias_exp"], second["lag"]) == (
        "LIFReset",
        10,
        7,
        2,
    )
    assert second["synapses"][0]["process"] == "Dense"
