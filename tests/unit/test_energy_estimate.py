"""Estimates: worked examples from the literature, and what an estimate refuses to say."""

import json
from dataclasses import fields, replace

import pytest
from snnc.energy.ann import Absent, AnnCounts, AnnLayerCounts
from snnc.energy.breakeven import SPIKES_PER_NEURON, break_even
from snnc.energy.charge import Band, Complete, Partial
from snnc.energy.compare import NotComparable, compare
from snnc.energy.count import BundleCounts, Counts, Encoding, NeuronCounts, Routing, Timing
from snnc.energy.estimate import AbsentBaseline, Baseline, estimate
from snnc.energy.prices import Evidence, ImagePasses
from snnc.energy.profiles import load_profile, names
from snnc.energy.proxy import power_delay
from snnc.energy.quantity import Part, Term
from snnc.energy.record import InvalidCounts, counts_from_json, counts_to_json, price
from snnc.energy.report import to_json, weakest_evidence
from snnc.energy.sampled import Sampled
from snnc.ir.program import INPUT

EXACT = 1e-12  # float64 rounding of a handful of products
FP32, INT8 = load_profile("cmos45-fp32-ops"), load_profile("cmos45-int8-ops")
LOIHI1, LOIHI2 = load_profile("loihi1-davies2018"), load_profile("loihi2-opsproxy")


def once(mean):
    return Sampled(mean=float(mean), std=None)


def bundle(events, *, source="hidden", encoding=Encoding.DENSE, name="fc"):
    return BundleCounts(
        name=name,
        population="out",
        source=source,
        encoding=encoding,
        weights=20,
        stored=10,
        connections=10,
        events=once(events),
    )


def counts(additions=0.0, *, macs=0.0, active=0, inactive=0, spikes=0, steps=10, ann=1000):
    """One sample: additions of a dense layer, multiplications on the image, one population."""
    population = NeuronCounts(
        name="out",
        neurons=100,
        spiking=True,
        spikes=once(spikes),
        active=once(active),
        inactive=once(inactive),
    )
    layer = AnnLayerCounts(
        name="fc", weights=20, stored=10, textbook=ann, dense=ann, skipping=once(ann / 4)
    )
    return Counts(
        samples=1,
        steps=steps,
        bundles=(bundle(macs, source=INPUT, name="first"), bundle(additions)),
        populations=(population,),
        covariance=None,
        ann=AnnCounts(origin="the float graph", layers=(layer,), skipping=once(ann / 4)),
    )


TOY = replace(  # 3 neurons that always fire, 5 silent targets on the next tile, 10 steps
    counts(150, active=75, inactive=5, spikes=30), routing=Routing(hops_ew=0.0, hops_ns=30.0)
)


def total(each):
    assert isinstance(each.result, Complete)
    return each.result.total.nominal


def partial(each):
    assert isinstance(each.result, Partial)
    return each.result


@pytest.mark.parametrize(
    ("network", "additions", "macs", "millijoules"),
    [
        ("spiking_resnet18", 0.10e9, 0.14e9, 0.734),
        ("sew_resnet18", 0.50e9, 2.75e9, 13.10),
        ("DSNN18", 1.69e9, 0.20e9, 2.441),
        ("resnet18", 0, 1.82e9, 8.372),
    ],
)
def test_the_examples_of_syops_are_reproduced(network, additions, macs, millijoules):
    # README of syops-counter: E = 0.9 pJ x AC + 4.6 pJ x MAC, printed with three digits
    got = total(estimate(counts(additions, macs=macs), FP32))
    assert got == pytest.approx(millijoules * 1e-3, rel=1e-3)


def test_the_neurobench_keyword_baseline_is_reproduced():
    # NeuroBench GSC baselines: 3,289,834.32 additions against 1,728,071.17 multiplications,
    # 200 steps of 803 neurons; expectations are worked out from the constants, five digits.
    snn = counts(3_289_834.32, active=160_600, steps=200)
    snn = replace(snn, ann=replace(snn.ann, skipping=once(1_728_071.17)))
    _, ann = estimate(snn, FP32).baselines
    assert total(estimate(snn, FP32)) == pytest.approx(2.9609e-6, rel=1e-4)
    assert ann.energy.nominal == pytest.approx(7.9491e-6, rel=1e-4)
    assert total(estimate(snn, INT8)) == pytest.approx(0.09870e-6, rel=1e-4)
    assert estimate(snn, INT8).baselines[1].energy.nominal == pytest.approx(0.39746e-6, rel=1e-4)
    parts = estimate(snn, LOIHI1).parts
    assert parts[Part.SYNAPTIC].nominal == pytest.approx(77.640e-6, rel=1e-4)
    assert parts[Part.NEURON].nominal == pytest.approx(13.009e-6, rel=1e-4)


def test_the_toy_network_costs_what_the_table_of_loihi_says():
    # 150 x 23.6 + 75 x 81 + 5 x 52 + 30 x 1.7 + 30 x 4.0 pJ, Davies et al. 2018, Table 2
    result = partial(estimate(TOY, LOIHI1))
    assert result.sum.nominal == pytest.approx(10_046e-12, rel=EXACT)
    assert {each.term for each in result.unpriced} == {Term.BARRIER, Term.STATIC}


def test_the_proxy_counts_a_neuron_ten_times():
    assert total(estimate(TOY, LOIHI2)) == 150 + 10 * 80


@pytest.mark.parametrize(
    ("rate", "latency", "product"),
    [(14.52, 32.015, 0.4649), (136.13, 20.024, 2.7259), (11.59, 8.036, 0.0931)]
    + [(9.32, 32.01, 0.2983)],
)
def test_the_products_of_the_ndns_board_are_reproduced(rate, latency, product):
    # metrics board of the N-DNS challenge: M-ops/s, ms, M-ops
    power, delay = power_delay(rate * 1e6 * 0.008, seconds=0.008, latency_seconds=latency * 1e-3)
    assert power == pytest.approx(rate * 1e6, rel=EXACT)
    assert round(delay / 1e6, 4) == product


def test_a_term_without_a_price_leaves_no_total():
    result = estimate(TOY, LOIHI1).result
    assert not hasattr(result, "total")
    (barrier,) = [each for each in result.unpriced if each.term is Term.BARRIER]
    assert barrier.count == 10
    assert "no published price: only the time of the barrier is published" in barrier.reason


def test_a_count_that_nobody_knows_is_not_zero():
    result = partial(estimate(replace(TOY, routing=None), LOIHI1))
    hops = [each for each in result.unpriced if each.part is Part.ROUTING]
    assert [(each.term, each.count) for each in hops] == [
        (Term.HOP_EW, None),
        (Term.HOP_NS, None),
    ]
    assert {each.reason for each in hops} == {
        "the count needs a placement of the layers on the mesh"
    }


def test_without_spikes_there_are_no_hops():
    result = partial(estimate(counts(active=10), LOIHI1))
    assert {each.term for each in result.unpriced} == {Term.BARRIER, Term.STATIC}


def test_multiplications_on_the_image_have_no_price_on_loihi_1():
    result = partial(estimate(counts(macs=50), LOIHI1))
    (missing,) = [each for each in result.unpriced if each.term is Term.MAC]
    assert (missing.count, missing.where) == (50.0, "first")


def test_a_term_that_does_not_happen_needs_no_price():
    result = partial(estimate(counts(macs=0), LOIHI1))
    assert Term.MAC not in {each.term for each in result.unpriced}


def test_static_power_is_priced_once_the_time_of_a_step_is_given():
    timed = replace(TOY, timing=Timing(step_seconds=1e-5, chips=2))
    each = estimate(timed, LOIHI1)
    assert each.parts[Part.STATIC].nominal == pytest.approx(10 * 1e-5 * 2 * 0.1044, rel=EXACT)
    assert {missing.term for missing in partial(each).unpriced} == {Term.BARRIER}


def test_the_image_is_multiplied_once_or_at_every_step_as_the_profile_says():
    run = counts(1000, macs=50, steps=8)
    kept = estimate(run, FP32)
    repeated = estimate(run, replace(FP32, image_passes=ImagePasses.PER_STEP))
    for each in (kept, repeated):
        assert each.input_once.nominal == pytest.approx(50 * 4.6e-12, rel=EXACT)
        assert each.input_per_step.nominal == pytest.approx(8 * 50 * 4.6e-12, rel=EXACT)
    assert kept.parts[Part.INPUT] == kept.input_once
    assert repeated.parts[Part.INPUT] == repeated.input_per_step
    assert total(repeated) - total(kept) == pytest.approx(7 * 50 * 4.6e-12, rel=1e-9)


def test_a_run_that_multiplied_the_image_at_every_step_pays_so_whatever_the_profile_says():
    assert FP32.image_passes is ImagePasses.ONCE
    ran = replace(counts(1000, macs=50, steps=8), image_every_step=True)
    each = estimate(ran, FP32)
    assert each.image_passes is ImagePasses.PER_STEP
    assert each.parts[Part.INPUT].nominal == pytest.approx(8 * 50 * 4.6e-12, rel=EXACT)
    stored = counts_from_json(counts_to_json(ran))
    assert estimate(stored, FP32).parts[Part.INPUT] == each.parts[Part.INPUT]


def test_each_end_of_the_band_is_the_sum_at_that_end_of_every_price():
    wide = replace(INT8.prices[Term.ADDITION], low=0.01e-12)
    profile = replace(INT8, prices={**INT8.prices, Term.ADDITION: wide})
    band = estimate(counts(1000, macs=10), profile).result.total
    assert band.low == pytest.approx(1000 * 0.01e-12 + 10 * 0.23e-12, rel=EXACT)
    assert band.nominal == pytest.approx(1000 * 0.03e-12 + 10 * 0.23e-12, rel=EXACT)


def test_the_band_is_the_sum_at_the_ends_of_every_band():
    band = estimate(counts(1000, macs=10), INT8).result.total
    assert band.low == pytest.approx(1000 * 0.03e-12 + 10 * 0.23e-12, rel=EXACT)
    assert band.nominal == band.low
    assert band.high == pytest.approx(1000 * 0.10e-12 + 10 * 0.30e-12, rel=EXACT)


def test_an_encoding_with_its_own_price_is_charged_that_price():
    own = replace(LOIHI1.prices[Term.SYNAPTIC], value=30e-12)
    profile = replace(LOIHI1, prices={**LOIHI1.prices, Term.SYNAPTIC_SPARSE: own})
    sparse = replace(TOY, bundles=(bundle(150, encoding=Encoding.SPARSE),))
    dense = replace(TOY, bundles=(bundle(150, encoding=Encoding.DENSE),))
    got = [estimate(each, profile).parts[Part.SYNAPTIC].nominal for each in (sparse, dense)]
    assert got == pytest.approx([150 * 30e-12, 150 * 23.6e-12], rel=EXACT)


def test_the_ann_is_priced_dense_and_zero_skipping():
    dense, skipping = estimate(counts(1000, ann=1000), FP32).baselines
    assert (dense.name, dense.macs, dense.energy.nominal) == ("dense", 1000, 1000 * 4.6e-12)
    assert (skipping.name, skipping.macs) == ("zero-skipping", 250)


@pytest.mark.parametrize("profile", [LOIHI1, LOIHI2], ids=lambda each: each.id)
def test_an_ann_is_not_priced_in_another_scope(profile):
    assert estimate(counts(1000), profile).baselines == ()


def test_a_zero_skipping_baseline_that_is_absent_says_why():
    run = counts(1000)
    run = replace(run, ann=replace(run.ann, skipping=Absent(reason="no float network")))
    dense, skipping = estimate(run, FP32).baselines
    assert isinstance(dense, Baseline)
    assert skipping == AbsentBaseline(name="zero-skipping", reason="no float network")


def test_at_the_tie_both_networks_cost_the_same():
    run = counts(1000, macs=50, spikes=200, ann=1000)
    dense, _ = estimate(run, FP32).baselines
    factor = dense.tie_spikes_per_neuron / break_even(run).spikes_per_neuron
    tied = estimate(counts(1000 * factor, macs=50, ann=1000), FP32)
    assert total(tied) == pytest.approx(dense.energy.nominal, rel=EXACT)


def test_there_is_no_tie_where_the_image_alone_costs_more():
    dense, _ = estimate(counts(1000, macs=2000, spikes=200, ann=1000), FP32).baselines
    assert dense.tie_spikes_per_neuron is None


def test_activity_is_per_neuron_and_names_the_equivalent_precision():
    activity = break_even(counts(spikes=150, steps=8))
    assert (activity.spikes_per_neuron, activity.rate, activity.qnn_bits) == (1.5, 0.1875, 4)
    assert not SPIKES_PER_NEURON.verified


def test_an_accumulator_never_lowers_the_activity():
    run = counts(spikes=150)
    readout = replace(run.populations[0], name="readout", spiking=False, spikes=once(0))
    assert break_even(replace(run, populations=(*run.populations, readout))) == break_even(run)


def test_the_weakest_evidence_is_that_of_the_constants_in_the_sum():
    assert weakest_evidence(estimate(counts(100), LOIHI1)) is Evidence.SIMULATED
    timed = replace(counts(100), timing=Timing(step_seconds=1e-5, chips=1))
    assert weakest_evidence(estimate(timed, LOIHI1)) is Evidence.DERIVED


def test_estimates_of_one_scope_are_ranked():
    ranking = compare({"busy": estimate(counts(2000), FP32), "quiet": estimate(counts(500), FP32)})
    assert [(each.label, each.ratio, each.complete) for each in ranking] == [
        ("quiet", 1.0, True),
        ("busy", 4.0, True),
    ]


def test_profiles_of_one_scope_are_ranked_together():
    ranking = compare({"fp32": estimate(TOY, FP32), "int8": estimate(TOY, INT8)})
    assert [each.label for each in ranking] == ["int8", "fp32"]


def test_arithmetic_is_not_ranked_against_a_chip():
    with pytest.raises(NotComparable) as caught:
        compare({"45 nm": estimate(TOY, FP32), "Loihi": estimate(TOY, LOIHI1)})
    assert str(caught.value) == (
        "cannot rank estimates of different scope: 45 nm is arithmetic_only in J; "
        "Loihi is per_term in J; price all of them under profiles of one scope and unit"
    )


def test_joules_are_not_ranked_against_operations():
    with pytest.raises(NotComparable, match="different scope"):
        compare({"J": estimate(TOY, FP32), "op": estimate(TOY, LOIHI2)})


def test_partial_sums_of_one_profile_that_lack_the_same_are_ranked_as_partial():
    more = replace(TOY, bundles=(bundle(300),))
    ranking = compare({"more": estimate(more, LOIHI1), "toy": estimate(TOY, LOIHI1)})
    assert [(each.label, each.complete) for each in ranking] == [("toy", False), ("more", False)]


def test_partial_sums_that_lack_different_terms_are_not_ranked():
    timed = replace(TOY, timing=Timing(step_seconds=1e-5, chips=1))
    with pytest.raises(NotComparable, match="toy lacks e_barrier, p_static_chip; timed lacks"):
        compare({"toy": estimate(TOY, LOIHI1), "timed": estimate(timed, LOIHI1)})


def test_partial_sums_of_different_profiles_are_not_ranked():
    other = replace(LOIHI1, id="other")
    with pytest.raises(NotComparable, match="lack different terms"):
        compare({"a": estimate(TOY, LOIHI1), "b": estimate(TOY, other)})


def test_the_interval_over_samples_uses_how_counts_vary_together():
    # two counts that cancel: additions rise by 1 where active updates fall by 23.6 / 81
    covariance = [[0.0] * 7 for _ in range(7)]
    ratio = 23.6 / 81
    covariance[1][1], covariance[4][4] = 4.0, 4.0 * ratio**2
    covariance[1][4] = covariance[4][1] = -4.0 * ratio
    run = replace(TOY, samples=100, covariance=tuple(map(tuple, covariance)))
    cancelled = estimate(run, LOIHI1)
    assert cancelled.sampling.high - cancelled.sampling.low < 1e-18  # of 1e-8: rounding
    alone = estimate(run, FP32)  # neurons have no price there: sd 2, n 100, 0.9 pJ
    margin = 1.959963984540054 * 2 / 10 * 0.9e-12
    assert alone.sampling.high - total(alone) == pytest.approx(margin, rel=1e-9)


def test_one_sample_gives_no_interval():
    assert estimate(TOY, FP32).sampling is None


@pytest.mark.parametrize("name", names())
def test_pricing_stored_counts_equals_pricing_the_run(name):
    run = replace(TOY, timing=Timing(step_seconds=1e-5, chips=1))
    profile = load_profile(name)
    direct = estimate(run, profile)
    stored = json.loads(json.dumps(to_json(direct)))["counts"]
    again = price(stored, profile)
    for each in fields(direct):
        if each.name != "profile":
            assert getattr(again, each.name) == getattr(direct, each.name), each.name


def test_json_has_a_total_or_a_partial_sum_and_never_both():
    whole, part = to_json(estimate(TOY, FP32)), to_json(estimate(TOY, LOIHI1))
    assert (whole["result"], part["result"]) == ("complete", "partial")
    assert "total" in whole and "partial_sum" not in whole
    assert "partial_sum" in part and "total" not in part
    assert [each["term"] for each in part["unpriced"]] == ["e_barrier", "p_static_chip"]


def test_json_says_where_every_constant_comes_from():
    written = to_json(estimate(TOY, LOIHI1))
    keys = {source["key"] for source in written["sources"]}
    published = [each for each in written["constants"] if each["published"]]
    assert {each["source"] for each in published} <= keys
    assert all(each["quote"] and each["locator"] and each["evidence"] for each in published)
    assert written["scope"] == "per_term"
    assert written["weakest_evidence"] == "simulated"


def test_items_add_up_to_the_sum():
    written = to_json(estimate(TOY, LOIHI1))
    assert sum(item["nominal"] for item in written["items"]) == pytest.approx(
        written["partial_sum"]["nominal"], rel=EXACT
    )
    assert sum(part["high"] for part in written["parts"]) == pytest.approx(
        written["partial_sum"]["high"], rel=EXACT
    )


def test_a_partial_sum_gives_no_ratio_to_an_ann():
    lacking = {**FP32.prices, Term.ADDITION: LOIHI1.prices[Term.BARRIER]}
    written = to_json(estimate(counts(1000), replace(FP32, prices=lacking)))
    assert written["result"] == "partial"
    assert [each["snn_over_ann"] for each in written["baselines"]] == [None, None]


def test_the_ratio_to_an_ann_is_that_of_the_totals():
    dense, skipping = to_json(estimate(counts(1000, ann=1000), FP32))["baselines"]
    assert dense["snn_over_ann"] == pytest.approx(0.9 / 4.6, rel=EXACT)
    assert skipping["snn_over_ann"] == pytest.approx(4 * 0.9 / 4.6, rel=EXACT)
    assert dense["arithmetic"] == "fp32"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"schema": 1}, "schema"),
        ({"samples": 0}, "samples"),
        ({"samples": -1}, "samples"),
        ({"steps": 1.5}, "steps"),
        ({"bundles": None}, "bundles"),
        ({"bundles": [{}]}, "bundles[0].name"),
        ({"populations": "all"}, "populations"),
        ({"covariance": [[1.0]]}, "covariance"),
        ({"covariance": 3}, "covariance"),
        ({"routing": {"hops_ew": 1}}, "routing.hops_ns"),
        ({"timing": []}, "timing"),
        ({"more": 1}, "more"),
        ({"ann": {}}, "ann.origin"),
    ],
)
def test_damaged_counts_are_refused_with_the_place(change, place):
    stored = counts_to_json(TOY) | change
    with pytest.raises(InvalidCounts) as caught:
        counts_from_json(stored)
    assert place in {issue.layer for issue in caught.value.issues}


def test_a_band_is_never_negative_or_inverted():
    for name in names():
        band = estimate(TOY, load_profile(name)).result
        band = band.total if isinstance(band, Complete) else band.sum
        assert isinstance(band, Band)
        assert 0 < band.low <= band.nominal <= band.high
