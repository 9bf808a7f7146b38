"""The torch twin against the specification, bit for bit, and its gradient against algebra."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snnc import twin, twin_currents
from snnc.errors import InvalidProgram, InvalidSetting
from snnc.ir.graph import Reset
from snnc.ir.program import (
    FORGET,
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
from snnc.ir.weights import Dense, convert, integers
from snnc.learn.surrogates import TRIANGLE, Surrogate
from snnc.semantics.encode import encode
from snnc.semantics.network import specified
from snnc.semantics.neuron import V_MAX, leak
from snnc.simulate import reference
from snnc.simulate.currents import currents
from snnc.testing.programs import generate, programs, runs
from snnc.twin import IntegerTwin, _leak, run
from snnc.twin_bounds import reach
from snnc.twin_currents import _unfolded, current


def equal_to_the_specification(program, codes):
    expected = specified(program, codes)
    trace = run(program, codes, raster=True)
    for layer in trace.layers:
        np.testing.assert_array_equal(layer.raster, expected.rasters[layer.name])
    np.testing.assert_array_equal(trace.logits, expected.logits)
    np.testing.assert_array_equal(trace.predictions, expected.logits.argmax(axis=1))


def louder(program: Program, factor: int) -> Program:
    """Multiply all weights, so that membranes reach 24 bits and saturate."""

    def scaled(population):
        return replace(
            population,
            synapses=tuple(
                replace(s, weight=convert(s.weight, lambda w: w * np.int32(factor), np.int32))
                for s in population.synapses
            ),
        )

    readout = program.readout
    return replace(
        program,
        layers=tuple(scaled(layer) for layer in program.layers),
        readout=scaled(readout) if isinstance(readout, Accumulator) else readout,
    )


def same_trace(ours, theirs):
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.predictions, theirs.predictions)
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert (mine.name, mine.neurons) == (other.name, other.neurons)
        np.testing.assert_array_equal(mine.spikes, other.spikes)
        np.testing.assert_array_equal(mine.updated, other.updated)
        np.testing.assert_array_equal(mine.raster, other.raster)
    for mine, other in zip(ours.synapses, theirs.synapses, strict=True):
        assert (mine.population, mine.name) == (other.population, other.name)
        np.testing.assert_array_equal(mine.events, other.events)


@pytest.mark.parametrize("hundred", range(20))
def test_two_thousand_programs_run_like_the_numpy_simulator(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        program, codes = generate(seed)
        ours = run(program, codes, raster=True)
        same_trace(ours, reference.run(program, codes, raster=True))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(runs())
def test_the_twin_spikes_like_the_specification(run_of):
    equal_to_the_specification(*run_of)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(runs(leaks=(1, 300, 4095)), st.sampled_from([600, 5000, 40000]))
def test_the_twin_saturates_like_the_specification(run_of, factor):
    program, codes = run_of
    equal_to_the_specification(louder(program, factor), codes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs(), st.data())
def test_the_twin_reads_float_images_like_the_encoder(program, data):
    half_codes = st.integers(0, 2 * program.input.levels).map(
        lambda k: k / (2 * program.input.levels)  # exact halves are rounded to even
    )
    images = data.draw(
        hnp.arrays(
            np.float32, (2, *program.input.shape), elements=half_codes | st.floats(0, 1, width=32)
        )
    )
    expected = specified(program, encode(program.input, images)).logits

    logits = IntegerTwin(program, TRIANGLE)(torch.from_numpy(images))

    assert logits.dtype == torch.float64
    np.testing.assert_array_equal(logits.numpy(), expected)


@pytest.fixture
def without_onednn():
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags warns about TF32
    yield
    torch._C._set_mkldnn_enabled(True)


@pytest.mark.usefixtures("without_onednn")
def test_the_twin_is_exact_without_onednn_too():
    """Without oneDNN, PyTorch would choose NNPACK's Winograd kernels for 16 samples and more."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-100, 101, (8, 6, 3, 3)).astype(np.float32)
    bundle = Synapses(
        name="w",
        source=INPUT,
        weight=Dense(integers(weight)),
        kind=Convolution(stride=(1, 1), padding=(1, 1), groups=1),
    )
    x = rng.integers(0, 2, (32, 6, 9, 9)).astype(np.float32)
    exact = currents(bundle, (6, 9, 9), x.astype(np.int32))
    found = current(bundle, torch.from_numpy(weight), torch.from_numpy(x))
    np.testing.assert_array_equal(found.numpy(), exact.reshape(32, -1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(runs(samples=(3, 6)))
def test_samples_in_several_batches_give_one_trace(run_of):
    program, codes = run_of
    whole = run(program, codes, raster=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "BUDGET", 1)  # one sample at a time
        patch.setattr(twin_currents, "UNFOLDED", 1)
        same_trace(run(program, codes, raster=True), whole)
        assert all(layer.raster is None for layer in run(program, codes, raster=False).layers)


def test_no_samples_give_an_empty_trace():
    program, codes = generate(0)
    trace = run(program, codes[:0], raster=True)
    assert trace.samples == 0
    assert trace.logits.shape == (0, program.classes)
    assert [layer.raster.shape for layer in trace.layers] == [
        (0, program.steps, *layer.shape) for layer in program.layers
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("hundred", range(3))
def test_a_gpu_runs_like_the_numpy_simulator(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        program, codes = generate(seed)
        ours = run(program, codes, raster=True, device=torch.device("cuda"))
        same_trace(ours, reference.run(program, codes, raster=True))


@pytest.mark.parametrize("groups", [1, 2])
def test_unfolded_maps_give_the_exact_currents_in_float32(groups):
    """Where a GPU would run: the product is a matrix product there and here."""
    rng = np.random.default_rng(groups)
    weight = rng.integers(-127, 128, (8, 6 // groups, 3, 2)).astype(np.float32)
    kind = Convolution(stride=(2, 1), padding=(1, 0), groups=groups)
    bundle = Synapses(name="w", source=INPUT, weight=Dense(integers(weight)), kind=kind)
    x = rng.integers(-255, 256, (5, 6, 9, 8)).astype(np.float32)
    found = _unfolded(torch.from_numpy(x), torch.from_numpy(weight), kind)
    exact = currents(bundle, (6, 9, 8), x.astype(np.int32))
    np.testing.assert_array_equal(found.numpy(), exact.reshape(5, -1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(programs(), st.sampled_from(["triangle", "exp", "box", "straight_through"]), st.data())
def test_a_surrogate_never_changes_a_spike(program, shape, data):
    images = torch.from_numpy(
        data.draw(
            hnp.arrays(np.float32, (2, *program.input.shape), elements=st.floats(0, 1, width=32))
        )
    )
    plain = IntegerTwin(program, TRIANGLE)(images)
    assert torch.equal(IntegerTwin(program, Surrogate(shape, 0.5))(images), plain)


def neuron(weight=1, *, threshold, decay=0, reset=Reset.ZERO, steps=1, levels=1, bias=0) -> Program:
    """One pixel, one neuron, spike count as the logit."""
    synapses = Synapses(
        name="w", source=INPUT, weight=Dense(integers([[weight]])), kind=FullyConnected()
    )
    layer = Layer(
        name="layer",
        shape=(1,),
        synapses=(synapses,),
        bias=integers([bias]),
        threshold=threshold,
        decay=decay,
        reset=reset,
        scale=1.0,
    )
    coding = ImageInput(shape=(1,), levels=levels, zero_point=integers([0]))
    return Program(input=coding, layers=(layer,), readout=SpikeCount(), steps=steps)


@pytest.mark.parametrize(
    ("program", "spikes"),
    [
        pytest.param(neuron(5, threshold=5 * 64), 1, id="fires at the threshold itself"),
        pytest.param(neuron(5, threshold=5 * 64 + 1), 0, id="not one below it"),
        pytest.param(neuron(3, threshold=5 * 64, steps=4), 2, id="zero drops the excess"),
        pytest.param(
            neuron(4, threshold=5 * 64, steps=5, reset=Reset.SUBTRACT), 4, id="subtract keeps it"
        ),
        pytest.param(neuron(131072, threshold=V_MAX, steps=1), 1, id="clipped to the largest v"),
        pytest.param(neuron(131072, threshold=V_MAX + 1, steps=9), 0, id="and never above it"),
        pytest.param(neuron(1, threshold=65, decay=4095, steps=9), 0, id="64 / 4096 leaks to 0"),
        pytest.param(neuron(1, threshold=96, decay=2048, steps=2), 1, id="64 / 2 + 64 = 96"),
        pytest.param(neuron(1, threshold=128, decay=1, steps=2), 0, id="63.98 leaks to 63"),
    ],
)
def test_a_neuron_at_the_edge_of_each_rule(program, spikes):
    codes = np.ones((1, 1), dtype=np.int32)
    assert specified(program, codes).logits.item() == spikes  # the case says what it claims
    assert run(program, codes, raster=False).logits.item() == spikes


def kicked(*, bias: int, kick: int, threshold: int, decay: int) -> Program:
    """A neuron `out` that gets `bias` at each of two steps, and `kick` at the second."""
    late = replace(neuron(1, threshold=2 * 64, steps=2).layers[0], name="late")
    bundle = Synapses(
        name="kick", source="late", weight=Dense(integers([[kick]])), kind=FullyConnected()
    )
    out = replace(
        late,
        name="out",
        synapses=(bundle,),
        bias=integers([bias]),
        threshold=threshold,
        decay=decay,
    )
    return replace(neuron(threshold=1, steps=2), layers=(late, out))


@pytest.mark.parametrize(
    "program",
    [
        # -64 leaks to 0 (floor: -1), and 64 more is 64
        pytest.param(kicked(bias=-1, kick=2, threshold=64, decay=4095), id="leaks toward zero"),
        # -2**23 is clipped to 1 - 2**23, and 2**23 more is 1
        pytest.param(kicked(bias=-(2**17), kick=2**18, threshold=1, decay=0), id="clipped below"),
    ],
)
def test_a_negative_membrane_at_the_edge_of_each_rule(program):
    codes = np.ones((1, 1), dtype=np.int32)
    assert specified(program, codes).rasters["out"].ravel().tolist() == [False, True]
    assert run(program, codes, raster=True).layers[1].raster.ravel().tolist() == [False, True]


def test_the_gradient_of_one_neuron_is_the_product_of_its_parts():
    # v = 64 * 3 * code = 768 at code 4 of 10 levels, threshold 1024: u = -1/4,
    # triangle(u) = 3/4; d logit / d pixel = 3/4 / 1024 * 64 * 3 * 10.
    twin = IntegerTwin(neuron(3, threshold=1024, levels=10), TRIANGLE)
    pixel = torch.tensor([[0.4]], requires_grad=True)

    twin(pixel).sum().backward()

    assert pixel.grad.item() == pytest.approx(0.75 / 1024 * 64 * 3 * 10, rel=1e-6)  # float32 pixel


@pytest.mark.parametrize(
    ("threshold", "reset", "gradient"),
    [
        # One pixel of 1, current 64, half of v leaks. Step 1: v1 = 64, v1' = 64.
        # Silent: u = -1/2, s1' = 1/2 * 64/128 = 1/4. Reset r1' = v1' (1 - s1) - v1 s1' = 48.
        # Step 2: v2 = 96, v2' = 24 + 64 = 88, u = -1/4, s2' = 3/4 * 88/128.
        pytest.param(128, Reset.ZERO, 0.25 + 0.75 * 88 / 128, id="silent at first, zero"),
        # Fires: u = 0, s1' = 1, r1' = 64 * 0 - 64 * 1. Step 2: v2' = -32 + 64, s2' = 32/64.
        pytest.param(64, Reset.ZERO, 1 + 32 / 64, id="fires at first, zero"),
        # Fires: r1' = 64 - 64 * s1' = 0. Step 2: v2 = 64, v2' = 64, s2' = 1.
        pytest.param(64, Reset.SUBTRACT, 1 + 1, id="fires at first, subtract"),
    ],
)
def test_the_gradient_flows_through_the_reset_and_the_leak(threshold, reset, gradient):
    twin = IntegerTwin(neuron(1, threshold=threshold, decay=2048, steps=2, reset=reset), TRIANGLE)
    pixel = torch.tensor([[1.0]], requires_grad=True)

    twin(pixel).sum().backward()

    assert pixel.grad.item() == gradient  # all dyadic, so exact


def test_the_gradient_stops_where_the_membrane_saturates():
    pixel = torch.tensor([[1.0]], requires_grad=True)
    straight = Surrogate("straight_through", 1.0)
    IntegerTwin(neuron(131072, threshold=V_MAX), straight)(pixel).sum().backward()
    assert pixel.grad.item() == 0.0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(programs(), st.data())
def test_gradients_are_finite(program, data):
    images = torch.from_numpy(
        data.draw(
            hnp.arrays(np.float32, (2, *program.input.shape), elements=st.floats(0, 1, width=32))
        )
    ).requires_grad_()
    logits = IntegerTwin(program, Surrogate("exp", 2.0))(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.isfinite().all()


def test_the_gradient_of_a_program_with_positive_weights_is_nowhere_zero():
    rng = np.random.default_rng(0)
    weight = Dense(integers(rng.integers(1, 20, (4, 6))))
    bundle = Synapses(name="w", source=INPUT, weight=weight, kind=FullyConnected())
    layer = replace(
        neuron(threshold=40 * 64).layers[0], shape=(4,), synapses=(bundle,), bias=integers([0] * 4)
    )
    coding = ImageInput(shape=(6,), levels=3, zero_point=integers([1] * 6))
    program = Program(input=coding, layers=(layer,), readout=SpikeCount(), steps=4)
    images = torch.rand(8, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(
        IntegerTwin(program, Surrogate("exp", 2.0))(images).sum(), images
    )
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


def test_a_program_beyond_exact_float64_is_refused_by_name():
    big = neuron(2**31 - 1, threshold=1, levels=2**23)
    with pytest.raises(InvalidProgram, match="layer: its currents may reach 18014398501093376"):
        IntegerTwin(big, TRIANGLE)


def test_codes_that_the_input_does_not_make_are_refused():
    with pytest.raises(InvalidSetting, match="codes reach from -4 to -4, which no image"):
        run(neuron(threshold=1, levels=3), np.array([[-4]], np.int32), raster=False)


def fan_in(pixels: int, *, weight: int, levels: int, bias: int, threshold: int) -> Program:
    base = neuron(threshold=threshold, bias=bias)
    values = Dense(integers(np.full((1, pixels), weight)))
    bundle = replace(base.layers[0].synapses[0], weight=values)
    coding = ImageInput(shape=(pixels,), levels=levels, zero_point=integers([0] * pixels))
    return replace(base, input=coding, layers=(replace(base.layers[0], synapses=(bundle,)),))


@pytest.mark.parametrize(
    ("program", "dtype"),
    [
        # 256 pixels of 256 * 255, plus the bias: 2**24 - 2**16 + bias
        (fan_in(256, weight=256, levels=255, bias=2**16 - 1, threshold=1), torch.float32),
        (fan_in(256, weight=256, levels=255, bias=2**16, threshold=1), torch.float64),
        (fan_in(256, weight=-256, levels=255, bias=-(2**16), threshold=1), torch.float64),
        (fan_in(1, weight=256, levels=256, bias=0, threshold=2**24 - 1), torch.float32),
        (fan_in(1, weight=256, levels=256, bias=0, threshold=2**24), torch.float64),
        (fan_in(1, weight=257, levels=1, bias=0, threshold=1), torch.float64),
        (fan_in(1, weight=257 << 3, levels=1, bias=0, threshold=1), torch.float64),
        (fan_in(1, weight=255 << 7, levels=1, bias=0, threshold=1), torch.float32),
        (fan_in(1, weight=1, levels=257, bias=0, threshold=1), torch.float64),
    ],
)
def test_float32_is_used_exactly_where_its_bounds_hold(program, dtype):
    assert IntegerTwin(program, TRIANGLE).dtype == dtype
    full = np.full((1, *program.input.shape), program.input.levels, dtype=np.int32)
    equal_to_the_specification(program, full)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float64, 53)])
@pytest.mark.parametrize("decay", [0, 1, 300, 2048, 4095])
def test_a_leak_is_exact_up_to_the_last_integer_of_its_type(dtype, bits, decay):
    rng = np.random.default_rng(decay)
    edges = [n << shift for shift in (0, 11, 12, 13, bits - 1) for n in (-1, 1)]
    near = [edge + more for edge in edges for more in (-1, 0, 1)]
    values = [*near, *rng.integers(-(2**bits), 2**bits + 1, 500).tolist()]
    found = _leak(torch.tensor(values, dtype=dtype), decay)
    assert found.long().tolist() == [leak(value, decay) for value in values]


@pytest.mark.parametrize(
    ("current", "decay"), [(n, d) for n in range(40_001, 60_000, 1999) for d in (1, 300)]
)
def test_the_leak_of_a_large_membrane_is_exact_in_a_float32_twin(current, decay):
    # v * 4095 needs up to 34 bits. Both steps add `current`; the second decides.
    second = leak(current * 64, decay) + current * 64
    for threshold, spikes in ((second, 1), (second + 1, 0)):
        program = neuron(0, threshold=threshold, decay=decay, steps=2, bias=current)
        assert IntegerTwin(program, TRIANGLE).dtype == torch.float32
        equal_to_the_specification(program, np.zeros((1, 1), np.int32))
        assert run(program, np.zeros((1, 1), np.int32), raster=False).logits.item() == spikes


def lasting(program: Program, current_decay: int) -> Program:
    """Return the program with currents that outlive their step."""
    layers = tuple(replace(layer, current_decay=current_decay) for layer in program.layers)
    return replace(program, layers=layers)


@pytest.mark.parametrize(
    ("current_decay", "steps", "weight", "dtype"),
    [
        # 64 * 255 codes of 257 ... 1028: 2**24 / 64 / 255 = 1028.01...
        (0, 4, 257, torch.float64),  # 4 steps of more than 2**8
        (0, 4, 256, torch.float32),
        (0, 5, 256, torch.float64),
        (1024, 9, 256, torch.float32),  # at most 4 of them are left
        (1023, 9, 256, torch.float64),
        (1025, 3, 256, torch.float32),
        (FORGET, 500, 256, torch.float32),
    ],
)
def test_float32_holds_a_lasting_current_as_long_as_its_bound_says(
    current_decay, steps, weight, dtype
):
    # leaves a third of its membrane at every step, so that it does not only saturate
    program = fan_in(1, weight=weight, levels=255, bias=3, threshold=2**22)
    layer = replace(program.layers[0], decay=1365, reset=Reset.SUBTRACT)
    program = lasting(replace(program, layers=(layer,), steps=steps), current_decay)
    assert IntegerTwin(program, TRIANGLE).dtype == dtype
    codes = np.array([[255], [1], [97]], dtype=np.int32)
    equal_to_the_specification(program, codes)


@pytest.mark.parametrize("current_decay", [0, 1, 700, 4095])
def test_a_lasting_current_beyond_float32_runs_like_the_specification(current_decay):
    # an inhibitory layer near 2**51, whose membrane saturates, beside one that stays inside
    big = neuron(2**31 - 1, threshold=1, levels=2**10, steps=8, reset=Reset.SUBTRACT)
    program = lasting(big, current_decay)
    assert reach(program, program.layers[0]) > 2**40
    equal_to_the_specification(program, np.array([[1], [2**10], [0]], dtype=np.int32))


def test_what_is_still_under_way_at_the_end_is_lost():
    base = neuron(1, threshold=64, steps=3)
    out = replace(
        base.layers[0],
        name="out",
        synapses=(replace(base.layers[0].synapses[0], source="layer", delay=0),),
    )
    for delay, spikes in ((0, 3), (1, 2), (2, 1), (3, 0), (9, 0)):
        late = replace(out, synapses=(replace(out.synapses[0], delay=delay),))
        program = replace(base, layers=(base.layers[0], late))
        codes = np.ones((2, 1), dtype=np.int32)
        equal_to_the_specification(program, codes)
        assert run(program, codes, raster=False).logits.tolist() == [[spikes], [spikes]]


def test_the_gradient_flows_through_a_lasting_current_and_a_delay():
    # Half of u stays, half of v leaks, u' and v' count units of 64 per pixel:
    # u1' = 1, u2' = 1.5; v1 = 64, v2 = 32 + 96 = 128: the threshold is not reached.
    # straight_through passes v'/threshold on: s1' = 64/256, and through the reset that did
    # not happen r1' = 64 - 64 s1' = 48, s2' = (48/2 + 96)/256.
    # `out` hears s1 at step 2 alone, with weight 2: 128 s1' / 512.
    base = lasting(neuron(1, threshold=256, decay=2048, steps=2), 2048)
    bundle = Synapses(
        name="w", source="layer", weight=Dense(integers([[2]])), kind=FullyConnected(), delay=1
    )
    out = replace(base.layers[0], name="out", synapses=(bundle,), threshold=512)
    pixel = torch.tensor([[1.0]], requires_grad=True)
    straight = Surrogate("straight_through", 1.0)

    IntegerTwin(base, straight)(pixel).sum().backward()
    assert pixel.grad.item() == 64 / 256 + (24 + 96) / 256

    pixel.grad = None
    IntegerTwin(replace(base, layers=(*base.layers, out)), straight)(pixel).sum().backward()
    assert pixel.grad.item() == 128 * (64 / 256) / 512


@settings(max_examples=10, deadline=None, derandomize=True)
@given(programs(steps=(3, 6)), st.integers(0, 2**31))
def test_many_samples_run_like_the_numpy_simulator(program, seed):
    rng = np.random.default_rng(seed)
    images = rng.random((300, *program.input.shape))
    codes = encode(program.input, images)
    ours, theirs = run(program, codes, raster=True), reference.run(program, codes, raster=True)
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        np.testing.assert_array_equal(mine.raster, other.raster)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize(("levels", "exponent"), [(255, 0), (1, 7)])
def test_a_coarser_matmul_changes_nothing(precision, levels, exponent):
    before = torch.get_float32_matmul_precision()
    rng = np.random.default_rng(1)
    threshold = 64 * (2000 if levels > 1 else 500 << exponent)
    program = fan_in(500, weight=1, levels=levels, bias=-3, threshold=threshold)
    values = Dense(integers(rng.integers(-127, 128, (1, 500)) << exponent))
    bundle = replace(program.layers[0].synapses[0], weight=values)
    program = replace(program, layers=(replace(program.layers[0], synapses=(bundle,)),))
    assert IntegerTwin(program, TRIANGLE).dtype == torch.float32
    codes = rng.integers(0, levels + 1, (50, 500)).astype(np.int32)
    torch.set_float32_matmul_precision(precision)
    try:
        equal_to_the_specification(program, codes)
    finally:
        torch.set_float32_matmul_precision(before)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(runs())
def test_float64_runs_like_the_specification_too(run_of):
    program, codes = run_of
    bystander = neuron(threshold=2**24).layers[0]
    values = Dense(integers(np.ones((1, prod(program.input.shape)))))
    bundle = replace(bystander.synapses[0], weight=values)
    bystander = replace(bystander, name="bystander", synapses=(bundle,))
    wide = replace(program, layers=(bystander, *program.layers))
    assert IntegerTwin(wide, TRIANGLE).dtype == torch.float64
    equal_to_the_specification(wide, codes)


def test_an_accumulator_is_bounded_over_all_steps():
    weight = Dense(integers([[2**31 - 1]]))
    bundle = Synapses(name="w", source=INPUT, weight=weight, kind=FullyConnected())
    readout = Accumulator(name="out", shape=(1,), synapses=(bundle,), bias=integers([0]), scale=1.0)
    coding = ImageInput(shape=(1,), levels=2**20, zero_point=integers([0]))
    program = Program(input=coding, layers=(), readout=readout, steps=3)
    IntegerTwin(program, TRIANGLE)
    with pytest.raises(InvalidProgram, match="out: its currents may reach"):
        IntegerTwin(replace(program, steps=5), TRIANGLE)


def test_an_accumulator_that_reads_the_image_adds_it_at_every_step():
    weight = Dense(integers([[3, -2], [1, 5]]))
    bundle = Synapses(name="w", source=INPUT, weight=weight, kind=FullyConnected())
    readout = Accumulator(
        name="out", shape=(2,), synapses=(bundle,), bias=integers([7, -1]), scale=1.0
    )
    coding = ImageInput(shape=(2,), levels=10, zero_point=integers([1, 0]))
    program = Program(input=coding, layers=(), readout=readout, steps=3)
    codes = np.array([[4, 9], [0, 0]], dtype=np.int32)
    equal_to_the_specification(program, codes)
    assert run(program, codes, raster=False).logits.tolist() == [[3, 144], [21, -3]]


def test_images_outside_the_box_are_refused():
    with pytest.raises(InvalidSetting, match=r"the program reads \[0, 1\]"):
        IntegerTwin(neuron(threshold=1), TRIANGLE)(torch.tensor([[1.5]]))
