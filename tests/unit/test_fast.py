"""The fast simulator's own choices: widths of a chunk, plans, guards, what is left out."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from snnc.errors import InvalidSetting
from snnc.ir.check_program import check_program
from snnc.ir.graph import Reset
from snnc.ir.program import (
    FORGET,
    INPUT,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import Dense, integers, pack, unpack
from snnc.semantics.network import specified
from snnc.simulate import fast, reference
from snnc.simulate.kernels import image as vectors_image
from snnc.simulate.kernels import sums as vectors_sums
from snnc.simulate.kernels import vectors
from snnc.simulate.sliced import layout as fast_layout
from snnc.simulate.sliced import plan as fast_plan
from snnc.simulate.sliced.plan import Integral, Plain, Sliced
from snnc.testing.conformance import agree
from snnc.testing.programs import generate

FLOOR = 2**17  # units of current from zero to the floor, one of membrane less
NO_LEAK = {"leaks": (0,), "current_decays": (FORGET,)}


def equal(got, want):
    """Assert that two traces hold the same."""
    np.testing.assert_array_equal(got.logits, want.logits)
    np.testing.assert_array_equal(got.predictions, want.predictions)
    for one, other in zip(got.layers, want.layers, strict=True):
        np.testing.assert_array_equal(one.raster, other.raster, err_msg=one.name)
        np.testing.assert_array_equal(one.spikes, other.spikes, err_msg=one.name)
        np.testing.assert_array_equal(one.updated, other.updated, err_msg=one.name)
    for one, other in zip(got.synapses, want.synapses, strict=True):
        np.testing.assert_array_equal(one.events, other.events, err_msg=one.name)


@pytest.mark.parametrize("samples", [1, 8, 9, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("told", [{}, NO_LEAK])
def test_any_number_of_samples_gives_what_numpy_gives(samples, told):
    for seed in range(8):
        program, codes = generate(seed, samples=(samples, samples), **told)
        equal(fast.run(program, codes, raster=True), reference.run(program, codes, raster=True))


@pytest.mark.parametrize("steps", [1, 3, 8, 20])
def test_any_number_of_steps_of_a_full_chunk_gives_what_numpy_gives(steps):
    for seed in range(12):
        told = {"samples": (64, 64), "steps": (steps, steps), **NO_LEAK}
        program, codes = generate(seed, **told)
        equal(fast.run(program, codes, raster=True), reference.run(program, codes, raster=True))


def test_a_prepared_program_runs_any_number_of_samples():
    program, codes = generate(3, samples=(40, 40))
    prepared = fast.prepare(program, 40)
    for count in (40, 5, 1):
        equal(
            prepared.run(codes[:count], raster=True),
            reference.run(program, codes[:count], raster=True),
        )


@pytest.mark.parametrize("taps", [1, 20])
def test_a_layer_run_by_parts_gives_what_numpy_gives(taps, monkeypatch):
    monkeypatch.setattr(fast_plan, "MOST_TAPS", taps)
    split = 0
    for seed in range(60):
        program, codes = generate(seed, samples=(1, 9))
        split += max(len(fast_plan.parts(layer)) for layer in program.layers) > 1
        equal(fast.run(program, codes, raster=True), reference.run(program, codes, raster=True))
    assert split > 10


def test_a_part_holds_its_share_of_the_weights():
    program, _ = matrices(600, 2, density=0.9)
    first, *_ = program.layers
    found = fast_plan.parts(replace(first, synapses=first.synapses * 9))
    assert len(found) == 4 and [part.shape for part in found] == [(150,)] * 4
    rows = np.concatenate([unpack(part.synapses[8].weight) for part in found])
    np.testing.assert_array_equal(rows, unpack(first.synapses[0].weight))


def matrices(width, layers, *, density):
    """Return a program of square matrices, and codes."""
    rng = np.random.default_rng(width)
    values = rng.integers(-127, 128, (width, width))
    weight = pack(integers(np.where(rng.random(values.shape) < density, values | 1, 0)))
    names = [INPUT, *(f"matrix{i}" for i in range(layers))]
    program = Program(
        input=ImageInput(shape=(width,), levels=1, zero_point=integers(np.zeros(width))),
        layers=tuple(
            replace(
                layer(name, threshold=2**16),
                shape=(width,),
                synapses=(
                    Synapses(name=name, source=source, weight=weight, kind=FullyConnected()),
                ),
                bias=integers(rng.integers(-50, 50, width)),
            )
            for source, name in pairwise(names)
        ),
        readout=SpikeCount(),
        steps=8,
    )
    return check_program(program), integers(rng.integers(0, 2, (64, width)))


def traced(function):
    """Return the most memory that numpy's arrays take meanwhile, and what is left of it."""
    tracemalloc.start()
    kept = function()
    left, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most, left, kept


@pytest.mark.parametrize(("density", "share"), [(1.0, 1.5), (0.1, 3.5)])
def test_memory_follows_the_weights(density, share):
    """A run plans a part of a layer at once: of a large one less memory than its weights."""
    width, layers = 2500, 3
    program, codes = matrices(width, layers, density=density)
    weight = program.layers[0].synapses[0].weight
    arrays = [weight.values] if density == 1 else [weight.data, weight.indices, weight.indptr]
    each = sum(array.nbytes for array in arrays)
    fast.run(program, codes, raster=False, counts=False)  # compiles
    most, _, _ = traced(lambda: fast.run(program, codes, raster=False, counts=False))
    activity = width * program.steps * len(codes)  # bytes of flags
    assert most < share * each + activity
    most, left, _ = traced(lambda: fast.prepare(program, 64))
    assert left < 2 * layers * each and most < (2 * layers + 3) * each


def test_bounds_of_sums_know_empty_rows_and_several_bundles():
    weights = np.array([[0, 0, 0], [5, -2, 7], [0, 0, 0], [-1, 0, 4], [0, 0, 0]])
    for values in (weights, weights[1:4], weights[:1]):
        bundle = layer("a", ("b", 1), threshold=1).synapses[0]
        for packed in (pack(integers(values)), Dense(integers(values))):
            one = fast_layout.layout(replace(bundle, weight=packed), (3,))
            most, least = fast_layout.reach([one, one], len(values))
            np.testing.assert_array_equal(most, 2 * values.clip(min=0).sum(axis=1))
            np.testing.assert_array_equal(least, 2 * values.clip(max=0).sum(axis=1))


def test_a_source_of_more_pixels_than_16_bits_tell_apart_runs_exactly():
    rng = np.random.default_rng(0)
    size = (1, 270, 270)
    layers, source = [], INPUT
    for name in ("a", "b"):
        weight = integers(rng.integers(-9, 10, (1, 1, 5, 5)))
        kind = Convolution(stride=(1, 1), padding=(2, 2), groups=1)
        bundle = Synapses(name=name, source=source, weight=Dense(weight), kind=kind)
        layers.append(replace(layer(name, threshold=20 * 64), shape=size, synapses=(bundle,)))
        source = name
    program = check_program(
        Program(
            input=ImageInput(shape=size, levels=3, zero_point=integers([1])),
            layers=tuple(layers),
            readout=SpikeCount(),
            steps=2,
        )
    )
    sources = plan_of(program, "b").wiring.schedule[4]
    assert sources.dtype == np.int32 and sources.size
    codes = integers(rng.integers(-1, 3, (2, *size)))
    got, want = fast.run(program, codes, raster=True), reference.run(program, codes, raster=True)
    equal(got, want)
    assert want.layers[1].raster[:, :, 0, 250:].any()


def test_without_counts_the_logits_are_the_same_and_nothing_else_is_there():
    program, codes = generate(3)
    trace = fast.run(program, codes, raster=False, counts=False)
    np.testing.assert_array_equal(trace.logits, specified(program, codes).logits)
    assert trace.layers == () and trace.synapses == ()


def test_a_raster_without_counts_is_refused():
    program, codes = generate(3)
    with pytest.raises(InvalidSetting, match="ask for both or for neither"):
        fast.run(program, codes, raster=True, counts=False)


def one_pixel(layers, steps):
    """Return a program on one binary pixel, and that pixel set."""
    program = Program(
        input=ImageInput(shape=(1,), levels=1, zero_point=integers([0])),
        layers=tuple(layers),
        readout=SpikeCount(),
        steps=steps,
    )
    return check_program(program), integers([[1]])


def layer(name, *weights, threshold, bias=0, reset=Reset.ZERO, current_decay=FORGET):
    """Return one neuron; `weights` are pairs of a source and a weight."""
    synapses = tuple(
        Synapses(
            name=f"{name} {i}",
            source=source,
            weight=Dense(integers([[weight]])),
            kind=FullyConnected(),
        )
        for i, (source, weight) in enumerate(weights)
    )
    return Layer(
        name=name,
        shape=(1,),
        synapses=synapses,
        bias=integers([bias]),
        threshold=threshold,
        decay=0,
        reset=reset,
        scale=1.0,
        current_decay=current_decay,
    )


def plan_of(program, name):
    return fast.prepare(program, 1).plans[name]


@pytest.mark.parametrize("fall", [-8000, -20000, -32767])
@pytest.mark.parametrize("threshold", [1, 64, 65, 30000 * 64])
def test_a_sliced_membrane_that_saturates_does_so_exactly(fall, threshold):
    """`last` falls to the floor, where the clip leaves one unit of 1/64; `lift` brings it back."""
    down = layer("down", (INPUT, 64), threshold=1)
    lift = layer("lift", ("down", 1), threshold=35 * 64)
    last = layer("last", ("down", fall), ("lift", FLOOR - fall), threshold=threshold)
    program, codes = one_pixel([down, lift, last], steps=36)
    plan = plan_of(program, "last")
    assert isinstance(plan, Sliced) and plan.guard < plan.wiring.levels - 1
    want = specified(program, codes)
    agree(fast.run(program, codes, raster=True), want)
    assert want.rasters["last"].any() == (threshold == 1)


def test_the_plan_and_the_kernels_mean_the_same_blocks():
    for name in ("BLOCK", "FEW", "KINDS"):
        assert getattr(fast_plan, name) == getattr(vectors_sums, name)
    assert fast_plan.ROOM >= 2 * vectors.WIDE and fast_plan.VECTOR == vectors.VECTOR
    assert fast_plan.ROOM >= vectors_image.RUN


def test_sums_of_more_than_31_bits_run_exactly():
    first = layer("first", (INPUT, 1), threshold=1)
    heavy = layer("heavy", ("first", 2**31 - 1), ("first", 2**31 - 1), threshold=2**23 - 1)
    program, codes = one_pixel([first, heavy], steps=3)
    assert isinstance(plan_of(program, "heavy"), Plain)
    agree(fast.run(program, codes, raster=True), specified(program, codes))


def test_an_image_read_twice_runs_exactly():
    both = layer("both", (INPUT, 3), (INPUT, 4), threshold=7 * 64)
    program, codes = one_pixel([both], steps=3)
    assert isinstance(plan_of(program, "both"), Plain)
    agree(fast.run(program, codes, raster=True), specified(program, codes))


@pytest.mark.parametrize("current_decay", [0, 1, 2048, FORGET])
@pytest.mark.parametrize("reset", Reset)
def test_currents_that_need_64_bits_run_exactly(current_decay, reset):
    first = layer("first", (INPUT, 1), threshold=1)
    heavy = layer(
        "heavy",
        ("first", 2**29 + 12345),
        ("first", -(2**29)),
        (INPUT, -777),
        threshold=2**23 - 1,
        reset=reset,
        current_decay=current_decay,
    )
    program, codes = one_pixel([first, heavy], steps=5)
    plan = plan_of(program, "heavy")
    assert isinstance(plan, Integral) and plan.bias.dtype == np.int64
    agree(fast.run(program, codes, raster=True), specified(program, codes))


@pytest.mark.parametrize("samples", [1, 8, 20, 64, 70])
@pytest.mark.parametrize(("heaviest", "kind"), [(127, np.int32), (2**22, np.int64)])
def test_sums_over_an_image_are_exact_in_32_and_in_64_bits(samples, heaviest, kind):
    """The width leaves a rest of every run, the stride has phases; a leak tells sums apart."""
    rng = np.random.default_rng(samples)
    shape = (3, 9, 37)
    weight = pack(integers(rng.integers(-heaviest, heaviest + 1, (5, 3, 3, 3))))
    reads = Convolution(stride=(2, 2), padding=(1, 1), groups=1)
    sees = replace(
        layer("sees", threshold=min(64 * heaviest * 255, 2**23 - 1)),
        shape=(5, 5, 19),
        decay=100,
        bias=integers(rng.integers(-9, 10, 5)),
        synapses=(Synapses(name="sees", source=INPUT, weight=weight, kind=reads),),
    )
    program = Program(
        input=ImageInput(shape=shape, levels=255, zero_point=integers([0] * 3)),
        layers=(sees,),
        readout=SpikeCount(),
        steps=4,
    )
    check_program(program)
    codes = integers(rng.integers(0, 256, (samples, *shape)))
    plan = plan_of(program, "sees")
    assert isinstance(plan, Integral) and plan.bias.dtype == kind
    want = reference.run(program, codes, raster=True)
    equal(fast.run(program, codes, raster=True), want)
    assert 0.01 < want.layers[0].raster.mean() < 0.99


def test_a_soft_reset_by_whole_units_stays_sliced():
    first = layer("first", (INPUT, 1), threshold=64)
    soft = layer("soft", ("first", 7), threshold=5 * 64, reset=Reset.SUBTRACT)
    program, codes = one_pixel([first, soft], steps=9)
    assert isinstance(plan_of(program, "soft"), Sliced)
    agree(fast.run(program, codes, raster=True), specified(program, codes))


@pytest.mark.parametrize("steps", [1, 5, 8])
def test_rows_of_many_taps_and_wide_maps_run_exactly(steps):
    """A row has several segments, a map is wider than a vector, the stride leaves a rest."""
    rng = np.random.default_rng(steps)
    shape = (150, 5, 19)
    weights = (rng.integers(-1, 2, (150, 2, 1, 1)), rng.integers(-127, 128, (3, 150, 3, 3)))
    kinds = ((1, 1), (0, 0)), ((2, 3), (1, 1))
    layers, source, size = [], INPUT, (2, 5, 19)
    for name, weight, (stride, padding) in zip("ab", weights, kinds, strict=True):
        kind = Convolution(stride=stride, padding=padding, groups=1)
        bundle = Synapses(name=name, source=source, weight=Dense(integers(weight)), kind=kind)
        size = shape if name == "a" else (3, 3, 7)
        layers.append(
            Layer(
                name=name,
                shape=size,
                synapses=(bundle,),
                bias=integers(rng.integers(-3, 4, size[0])),
                threshold=64 if name == "a" else 900 * 64,
                decay=0,
                reset=Reset.ZERO,
                scale=1.0,
            )
        )
        source = name
    program = check_program(
        Program(
            input=ImageInput(shape=(2, 5, 19), levels=3, zero_point=integers([1, 1])),
            layers=tuple(layers),
            readout=SpikeCount(),
            steps=steps,
        )
    )
    codes = integers(rng.integers(-1, 3, (70, 2, 5, 19)))
    equal(fast.run(program, codes, raster=True), reference.run(program, codes, raster=True))
