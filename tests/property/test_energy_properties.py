"""What is true of counts and estimates of every program."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.energy.ann import ann_counts_of_program
from snnc.energy.charge import Complete, Partial
from snnc.energy.count import count
from snnc.energy.estimate import estimate
from snnc.energy.prices import ImagePasses
from snnc.energy.profiles import load_profile, names
from snnc.energy.quantity import Part
from snnc.energy.record import counts_from_json, counts_to_json
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Dense, integers, sparse, unpack
from snnc.simulate.activity import trace_from_rasters
from snnc.simulate.reference import run
from snnc.testing.programs import runs

PROFILES = [load_profile(name) for name in names()]
FEW = settings(max_examples=40, deadline=None)


def counts_of(program, codes, rasters=None):
    if rasters is None:
        trace = run(program, codes, raster=False)
    else:
        trace = trace_from_rasters(program, codes, rasters, keep_rasters=False)
    return count(program, trace, ann=ann_counts_of_program(program))


def rasters_of(program, codes):
    return {layer.name: layer.raster for layer in run(program, codes, raster=True).layers}


def synaptic(counts, profile):
    parts = estimate(counts, profile).parts
    return parts[Part.SYNAPTIC].nominal if Part.SYNAPTIC in parts else 0.0


def rewired(program, change):
    """Replace the weight of every bundle."""

    def populated(population):
        bundles = tuple(replace(each, weight=change(each.weight)) for each in population.synapses)
        return replace(population, synapses=bundles)

    readout = program.readout
    return replace(
        program,
        layers=tuple(populated(layer) for layer in program.layers),
        readout=populated(readout) if isinstance(readout, Accumulator) else readout,
    )


@FEW
@given(runs(delays=(0,)))  # with one, what is under way at the end is not lost in between
def test_doubling_every_spike_doubles_the_synaptic_energy(case):
    program, codes = case
    rasters = rasters_of(program, codes)
    twice = {name: np.concatenate([spikes, spikes], axis=1) for name, spikes in rasters.items()}
    longer = replace(program, steps=2 * program.steps)
    single, double = counts_of(program, codes, rasters), counts_of(longer, codes, twice)
    for profile in PROFILES:
        # a factor of two is exact in float64, in every product and every sum
        assert synaptic(double, profile) == 2 * synaptic(single, profile)


@FEW
@given(runs())
def test_the_pass_over_the_image_does_not_depend_on_the_steps(case):
    program, codes = case
    longer = replace(program, steps=2 * program.steps)
    for few, many in zip(
        counts_of(program, codes).bundles, counts_of(longer, codes).bundles, strict=True
    ):
        if few.reads_image:
            assert few.events == many.events


@FEW
@given(runs())
def test_a_zero_weight_never_adds_an_event(case):
    program, codes = case
    dense = rewired(program, lambda weight: Dense(integers(unpack(weight))))
    packed = rewired(program, lambda weight: sparse(unpack(weight)))
    full, lean = counts_of(dense, codes), counts_of(packed, codes)
    assert full.populations == lean.populations
    for with_zeros, without in zip(full.bundles, lean.bundles, strict=True):
        assert with_zeros.events == without.events
        assert with_zeros.stored == without.stored
        assert with_zeros.connections == without.connections


@FEW
@given(runs())
def test_events_never_exceed_connections_at_every_step(case):
    program, codes = case
    counts = counts_of(program, codes)
    for bundle in counts.bundles:
        times = 1 if bundle.reads_image else counts.steps
        assert 0 <= bundle.events.mean <= times * bundle.connections


@FEW
@given(runs())
def test_every_neuron_is_updated_at_every_step_active_or_not(case):
    program, codes = case
    counts = counts_of(program, codes)
    for each in counts.populations:
        assert each.active.mean + each.inactive.mean == counts.steps * each.neurons
        assert each.spikes.mean <= counts.steps * each.neurons


@FEW
@given(runs())
def test_valid_multiplications_never_exceed_the_textbook(case):
    program, _ = case
    ann = ann_counts_of_program(program)
    assert 0 <= ann.dense <= ann.textbook
    for layer, population in zip(
        ann.layers, [b for p in program.populations for b in p.synapses], strict=True
    ):
        if isinstance(population.kind, FullyConnected):
            assert layer.dense == layer.textbook == layer.weights


@FEW
@given(runs(), st.sampled_from(PROFILES))
def test_counts_survive_json_and_price_the_same(case, profile):
    program, codes = case
    counts = counts_of(program, codes)
    back = counts_from_json(json.loads(json.dumps(counts_to_json(counts))))
    assert back == counts
    assert estimate(back, profile) == estimate(counts, profile)


@FEW
@given(runs(), st.sampled_from(PROFILES))
def test_nothing_unpriced_means_a_total_and_anything_unpriced_means_none(case, profile):
    program, codes = case
    each = estimate(counts_of(program, codes), profile)
    match each.result:
        case Complete(total=band):
            assert profile.id != "loihi1-davies2018"  # its barrier has no price
        case Partial(sum=band, unpriced=unpriced):
            assert unpriced and not hasattr(each.result, "total")
    # float64 sums in two orders
    assert sum(part.nominal for part in each.parts.values()) == pytest.approx(
        band.nominal, rel=1e-12
    )
    assert band.low <= band.nominal <= band.high


@FEW
@given(runs(samples=(2, 4)), st.sampled_from(PROFILES), st.sampled_from(ImagePasses))
def test_the_interval_is_that_of_the_energies_of_single_samples(case, profile, passes):
    program, codes = case
    profile = replace(profile, image_passes=passes)
    together = estimate(counts_of(program, codes), profile)
    one_by_one = [
        sum(item.energy.nominal for item in estimate(counts_of(program, code), profile).items)
        for code in codes[:, None]
    ]
    error = np.std(one_by_one, ddof=1) / np.sqrt(len(codes))
    width = together.sampling.high - together.sampling.low
    # the variance loses half the digits of float64 where samples hardly differ
    assert width == pytest.approx(
        2 * 1.959963984540054 * error, rel=1e-6, abs=1e-7 * max(one_by_one)
    )


@FEW
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_a_random_mask_saves_exactly_what_it_removes(seed, density):
    # with equal spikes the ratio of events is that of the masks, weighted by who spikes
    rng = np.random.default_rng(seed)
    mask = rng.random((30, 20)) < density
    rasters = {"first": rng.random((2, 4, 20)) < 0.3}
    codes = integers(np.ones((2, 20)))
    dense = counts_of(masked(np.ones((30, 20))), codes, rasters).bundles[1]
    pruned = counts_of(masked(mask), codes, rasters).bundles[1]
    spikes = rasters["first"].sum(axis=(0, 1))
    assert dense.events.mean * 2 == spikes.sum() * 30
    assert pruned.events.mean * 2 == spikes @ mask.sum(axis=0)
    assert pruned.stored == mask.sum()


@FEW
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_equal_activity_everywhere_gives_the_ratio_of_the_masks(seed, density):
    mask = np.random.default_rng(seed).random((30, 20)) < density
    rasters = {"first": np.ones((1, 4, 20), dtype=np.bool_)}
    codes = integers(np.ones((1, 20)))
    dense = counts_of(masked(np.ones((30, 20))), codes, rasters)
    pruned = counts_of(masked(mask), codes, rasters)
    for profile in PROFILES:
        got = synaptic(pruned, profile) / synaptic(dense, profile)
        assert got == pytest.approx(mask.mean(), rel=1e-12)  # one rounding for each product


def masked(weight):
    """Twenty relays of the image, then an accumulator of thirty classes with this weight."""

    def bundle(name, source, values):
        return Synapses(
            name=name, source=source, weight=Dense(integers(values)), kind=FullyConnected()
        )

    relay = Layer(
        name="first",
        shape=(20,),
        synapses=(bundle("relay", INPUT, np.eye(20)),),
        bias=integers(np.zeros(20)),
        threshold=64,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )
    readout = Accumulator(
        name="out",
        shape=(30,),
        synapses=(bundle("fc", "first", weight),),
        bias=integers(np.zeros(30)),
        scale=1.0,
    )
    return Program(
        input=ImageInput(shape=(20,), levels=1, zero_point=integers(np.zeros(20))),
        layers=(relay,),
        readout=readout,
        steps=4,
    )
