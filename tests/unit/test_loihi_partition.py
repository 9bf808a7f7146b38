"""Cores: what a chip file may hold, how layers are cut, and what is said about it."""

import gc
import json
import weakref
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from importlib import resources
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.energy.routing import spikes_of
from snnc.errors import InvalidFile, InvalidSetting, UnknownName
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
from snnc.ir.weights import Dense, integers, sparse
from snnc.semantics import encode
from snnc.simulate import reference
from snnc.simulate.activity import fan_out as whole_fan_out
from snnc_targets.loihi import loihi1, mapping
from snnc_targets.loihi.cores import chip, placement
from snnc_targets.loihi.cores.chip import Evidence, InvalidChip, Resource
from snnc_targets.loihi.cores.partition import partition, too_many_chips
from snnc_targets.loihi.cores.picture import picture
from snnc_targets.loihi.cores.report import report
from snnc_targets.loihi.cores.tiles import (
    alike,
    fan_out,
    fan_out_of_window,
    tile_count,
    tiles,
    window,
    wiring,
)
from snnc_targets.loihi.cores.words import (
    Encoding,
    loihi1_dense,
    loihi1_runlength,
    loihi1_sparse,
    loihi2_axon,
    loihi2_kernel_row,
)
from snnc_targets.loihi.lowering import USUAL, USUAL_ON_CHIP, Convolutions, Image
from snnc_targets.loihi.once import OncePerProgram
from snnc_targets.loihi.target import LOIHI2 as LOIHI2_TARGET

LOIHI1, LOIHI2 = chip.load("loihi1"), chip.load("loihi2")
QUICK = settings(deadline=None, max_examples=30)


def chip_text(name):
    file = resources.files("snnc_targets.loihi.cores").joinpath("chips").joinpath(f"{name}.toml")
    return file.read_text(encoding="utf-8")


def layer(name, source, values, kind, shape, **changes):
    values = np.asarray(values, dtype=np.int32)
    weight = sparse(values) if (values == 0).any() else Dense(integers(values))
    plain = Layer(
        name=name,
        shape=shape,
        synapses=(Synapses(name=f"{name}.w", source=source, weight=weight, kind=kind),),
        bias=integers(np.zeros(shape[0])),
        threshold=641,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )
    return replace(plain, **changes)


def matrix(name, source, values, **changes):
    return layer(name, source, values, FullyConnected(), (len(values),), **changes)


def program(*layers, shape, steps=4, readout=None):
    image = ImageInput(shape=shape, levels=1, zero_point=integers(np.zeros(shape[0])))
    return Program(input=image, layers=layers, readout=readout or SpikeCount(), steps=steps)


def only_matrix(values):
    """A program with one matrix on the chip, which reads the image as spikes."""
    return program(matrix("fc", INPUT, values), shape=(np.shape(values)[1],))


def conv_net(density=1.0, seed=0):
    """Two convolutions, of which the second has a stride, and a readout."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        values = rng.integers(1, 100, shape)
        return np.where(rng.random(shape) < density, values, 0)

    one, two = (
        Convolution(stride=(step, step), padding=(1, 1), groups=groups)
        for step, groups in ((1, 1), (2, 2))
    )
    readout = matrix("fc", "b", weights(3, 64))
    return program(
        layer("a", INPUT, weights(8, 2, 3, 3), one, (8, 8, 8)),
        layer("b", "a", weights(4, 4, 3, 3), two, (4, 4, 4)),
        shape=(2, 8, 8),
        readout=Accumulator(
            name="fc", shape=(3,), synapses=readout.synapses, bias=readout.bias, scale=1.0
        ),
    )


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_every_number_of_a_chip_has_a_source_and_a_place_in_it(name):
    known = [*chip.load(name).limits.values(), *chip.load(name).constants.values()]
    assert all(each.source and each.locator and each.unit and each.value > 0 for each in known)
    assert len({each.source for each in known}) > 1


def test_no_limit_of_loihi_1_is_a_guess_and_most_of_loihi_2_is_inferred():
    assert {each.evidence for each in LOIHI1.limits.values()} == {Evidence.FACT}
    assert {each.evidence for each in LOIHI2.limits.values()} == {Evidence.INFERRED}


def test_a_chip_file_with_unknown_and_missing_keys_says_all_at_once():
    text = chip_text("loihi2").replace("[limits.neurons]", "[limits.neurones]")
    text = text.replace('source = "lava"', 'source = "larva"').replace('"fact"', '"true"')
    with pytest.raises(InvalidChip) as caught:
        chip.parse(text, "mine.toml")
    said = str(caught.value)
    assert "limits.neurones: unknown key" in said
    assert "limits.neurons: missing table" in said
    assert "no source 'larva'; did you mean 'lava'?" in said
    assert "no choice 'true'" in said


def test_a_chip_file_that_is_not_toml_and_a_chip_that_nobody_knows_are_refused():
    with pytest.raises(InvalidFile, match=r"mine\.toml is not TOML"):
        chip.parse("= 3", "mine.toml")
    with pytest.raises(UnknownName, match="no chip named 'loihi3'"):
        chip.load("loihi3")


@given(st.data())
@QUICK
def test_tiles_cover_a_map_once(data):
    whole = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    tile = tuple(data.draw(st.integers(1, size)) for size in whole)
    covered = np.zeros(whole, dtype=int)
    for box in tiles(whole, tile):
        covered[box.slices] += 1
        assert box.neurons == prod(box.shape) <= prod(tile)
    assert (covered == 1).all()


@given(st.integers(0, 200), st.sampled_from([0.2, 1.0]))
@QUICK
def test_the_synapses_into_all_tiles_are_those_of_the_layer(seed, density):
    rng = np.random.default_rng(seed)
    net = conv_net(density, seed)
    for population in net.layers:
        (bundle,) = population.synapses
        source = net.shape_of(bundle.source)
        seen = wiring(bundle, source, population.shape, delayed=False)
        tile = tuple(int(rng.integers(1, size + 1)) for size in population.shape)
        counts = [fan_out(seen, box) for box in tiles(population.shape, tile)]
        assert (sum(counts) == whole_fan_out(bundle, source)).all()
        for box, count in zip(tiles(population.shape, tile), counts, strict=True):
            outside = count.copy()
            outside[window(seen, box).slices] = 0
            assert not outside.any()


@pytest.mark.parametrize("on", [LOIHI1, LOIHI2], ids=["loihi1", "loihi2"])
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3, 7, 31, 127]))
@QUICK
def test_cores_hold_every_neuron_once_and_nothing_too_much(on, fan_in, neurons, largest):
    found = partition(only_matrix(np.full((neurons, fan_in), largest)), on, image=Image.GRADED)
    (cut,) = found.cuts
    assert sum(core.box.neurons for core in cut.cores) == neurons
    assert not found.issues
    for core in cut.cores:
        assert all(used <= on.limit(resource) for resource, used in core.use.items())


@given(
    st.integers(50, 2000),
    st.integers(50, 2000),
    st.sampled_from([1, 3, 15, 127]),
    st.sampled_from(["neurons", "fan_in", "largest"]),
)
@QUICK
def test_more_neurons_inputs_or_bits_never_take_fewer_cores_of_loihi_1(
    neurons, fan_in, largest, more
):
    def cores(neurons, fan_in, largest):
        net = only_matrix(np.broadcast_to(np.int32(largest), (neurons, fan_in)))
        return partition(net, LOIHI1, image=Image.GRADED).cores

    sizes = {"neurons": neurons, "fan_in": fan_in, "largest": largest}
    grown = {"neurons": neurons + 37, "fan_in": fan_in + 37, "largest": 127}
    assert cores(**sizes | {more: grown[more]}) >= cores(**sizes)


def test_the_split_that_explains_intels_tables_is_not_monotone():
    smaller, larger = (
        partition(only_matrix(np.full((neurons, 1160), 7)), LOIHI2, image=Image.GRADED).cores
        for neurons in (107, 108)
    )
    assert (smaller, larger) == (4, 3)


@given(st.integers(1, 3000), st.integers(1, 8))
@QUICK
def test_the_memory_of_an_axon_grows_with_its_synapses_and_their_bits(synapses, bits):
    def sizes(synapses, bits):
        return (
            loihi2_axon(LOIHI2, synapses, bits),
            loihi2_kernel_row(LOIHI2, synapses, bits, (2, 2)),
            loihi1_dense(LOIHI1, 0, synapses, bits),
            loihi1_sparse(LOIHI1, np.array([synapses]), 9, bits)[0],
        )

    for larger in ((synapses + 1, bits), (synapses, bits + 1)):
        grown = zip(sizes(*larger), sizes(synapses, bits), strict=True)
        assert all(after >= before for after, before in grown)


def test_an_axon_without_synapses_takes_no_memory():
    assert loihi2_axon(LOIHI2, 0, 8) == 0
    assert loihi1_sparse(LOIHI1, np.array([0, 1]), 6, 8).tolist() == [0, 1]
    assert loihi1_runlength(LOIHI1, np.array([1]), np.array([4]), 2, 8, 3).tolist() == [0, 1]


def test_a_gap_that_is_too_long_starts_a_new_entry():
    axon = np.zeros(2, dtype=np.int64)
    near = loihi1_runlength(LOIHI1, axon, np.array([0, 4]), 1, 8, 2)
    far = loihi1_runlength(LOIHI1, axon, np.array([0, 5]), 1, 8, 2)
    # 10 + 6 + 2 (8 + 2) = 36 bits, and 2 (10 + 6 + 8 + 2) = 52 bits: one word each
    assert (near.tolist(), far.tolist()) == ([1], [1])
    further = loihi1_runlength(LOIHI1, np.zeros(3, np.int64), np.array([0, 5, 10]), 1, 8, 2)
    assert further.tolist() == [2]  # 78 bits


def test_zeros_save_memory_in_sparse_encodings_only():
    full, pruned = conv_net(1.0), conv_net(0.3)
    stored = {
        (population.name, bundle.name): encoding
        for population in full.populations
        for bundle in population.synapses
        for encoding in [Encoding.DENSE if population.name == "fc" else Encoding.CONV]
    }

    def words(net, stored):
        return [cut.words for cut in partition(net, LOIHI2, image=Image.GRADED, stored=stored).cuts]

    assert words(full, stored) == words(pruned, stored)
    unrolled = dict.fromkeys(stored, Encoding.SPARSE)
    assert all(a < b for a, b in zip(words(pruned, unrolled), words(full, unrolled), strict=True))


def test_of_encodings_that_take_the_same_cores_the_smallest_is_chosen():
    found = partition(conv_net(0.02), LOIHI2, image=Image.GRADED)
    assert [cut.words <= cut.kept_words for cut in found.cuts] == [True] * 3
    assert found.encodings["fc", "fc.w"] is Encoding.SPARSE
    whole = partition(conv_net(1.0), LOIHI2, image=Image.GRADED)
    assert list(whole.encodings.values()) == [Encoding.CONV, Encoding.CONV, Encoding.DENSE]


def test_an_image_that_comes_as_a_bias_needs_no_synapses_on_the_chip():
    found = partition(conv_net(), LOIHI2, image=Image.BIAS)
    assert (found.cuts[0].wirings, found.cuts[0].words) == ((), 0)
    assert found.cuts[0].binding(LOIHI2) is Resource.NEURONS


def test_spikes_that_wait_are_stored_with_their_delay():
    hidden = matrix("b", "a", np.full((4, 8), 3))
    (bundle,) = hidden.synapses
    late = replace(hidden, synapses=(replace(bundle, delay=2),))
    first = matrix("a", INPUT, np.full((8, 2), 3))
    plain, delayed = (
        partition(program(first, each, shape=(2,)), LOIHI2, image=Image.BIAS).cuts[1]
        for each in (hidden, late)
    )
    assert plain.words == 8 * 1  # 4 (12 + 3) + 4 = 64 bits
    assert delayed.words == 8 * 2  # 4 (12 + 3 + 6) + 4 = 88 bits


def test_soft_reset_halves_the_neurons_of_a_loihi_1_core():
    first = matrix("a", INPUT, np.full((1024, 2), 3))
    hard, soft = (
        partition(program(replace(first, reset=reset), shape=(2,)), LOIHI1, image=Image.BIAS)
        for reset in (Reset.ZERO, Reset.SUBTRACT)
    )
    assert (hard.cores, soft.cores) == (1, 2)
    assert soft.cuts[0].cores[0].use == {
        Resource.NEURONS: 1024,
        Resource.AXONS_IN: 512,
        Resource.AXONS_OUT: 512,
        Resource.SYNAPSE_WORDS: 512,
        Resource.WORDS_PER_AXON: 0,
    }


def test_a_neuron_with_more_inputs_than_a_core_has_axons_is_refused():
    net = program(
        matrix("a", INPUT, np.ones((4100, 1))), matrix("b", "a", np.ones((2, 4100))), shape=(1,)
    )
    (issue,) = partition(net, LOIHI1, image=Image.BIAS).issues
    assert (issue.layer, issue.code, issue.need, issue.limit) == ("b", "core-axons-in", 4100, 4096)
    assert "one neuron needs 4100 axons" in issue.problem
    assert partition(net, LOIHI2, image=Image.BIAS).issues == ()


def test_every_limit_that_a_neuron_breaks_is_an_issue_of_its_own():
    net = program(
        matrix("a", INPUT, np.ones((17_000, 1))), matrix("b", "a", np.ones((1, 17_000))), shape=(1,)
    )
    assert {issue.code for issue in partition(net, LOIHI2, image=Image.BIAS).issues} == {
        "core-axons-in",
        "core-synapse-words",
        "core-total-words",
    }


def test_too_few_chips_are_an_issue_that_names_the_largest_layer():
    rows = [matrix("a", INPUT, np.ones((9, 2))), matrix("b", "a", np.full((4096, 9), 3))]
    found = partition(program(*rows, shape=(2,)), LOIHI2, image=Image.BIAS)
    assert too_many_chips(found, 1) == []
    (issue,) = too_many_chips(found, 0)
    assert (issue.layer, issue.code, issue.need, issue.limit) == ("b", "chips", 1, 0)


def test_the_certificate_names_each_limit_its_use_and_its_evidence():
    found = report(partition(conv_net(), LOIHI2, image=Image.GRADED))
    certificate = {each["resource"]: each for each in found["certificate"]}
    assert set(certificate) == {each.value for each in LOIHI2.limits}
    neurons = certificate["neurons"]
    assert (neurons["used"], neurons["layer"], neurons["value"]) == (512, "a", 4095)
    assert (neurons["evidence"], bool(neurons["locator"])) == ("inferred", True)
    assert "fitted" in found["statement"] and found["weakest_evidence"] == "guess"
    json.dumps(found, allow_nan=False)


def test_the_mapping_of_a_build_holds_what_was_emitted_and_what_would_be_cheaper(tmp_path):
    net = conv_net(0.02)
    unrolled = replace(USUAL_ON_CHIP, convolutions=Convolutions.SPARSE)
    asked = replace(USUAL_ON_CHIP, convolutions=Convolutions.CONV)
    for how, encoding in ((unrolled, "sparse"), (asked, "conv")):
        layers = mapping.report(net, how)["partition"]["layers"]
        assert [each["encoding"] for each in layers[1]["stored"]] == [encoding]
    cheapest = mapping.report(net, asked)["partition"]["cheapest"]
    assert {each["name"]: each["encoding"] for each in cheapest["other_encodings"]} == {
        "b.w": "sparse"
    }
    written = mapping.write(net, tmp_path, USUAL)
    assert written == mapping.report(net, USUAL)
    ElementTree.parse(tmp_path / "mapping.svg")


def test_a_program_that_fits_no_core_has_no_picture_and_says_why(tmp_path):
    net = program(
        matrix("a", INPUT, np.ones((17_000, 1))), matrix("b", "a", np.ones((1, 17_000))), shape=(1,)
    )
    written = mapping.write(net, tmp_path, USUAL)
    assert list(tmp_path.iterdir()) == []
    assert written["hardware"]["deployable"] is False
    assert written["partition"]["fits"] is False


def test_the_picture_shows_every_core_with_the_number_of_its_layer():
    found = partition(conv_net(), LOIHI2, image=Image.GRADED)
    drawn = picture(found)
    ElementTree.fromstring(drawn)
    assert 'viewBox="0 0 960' in drawn
    assert "3 cores on 1 Intel Loihi 2 chip" in drawn
    assert drawn.count('class="full c') == 2 * 3  # in a core and in the legend
    assert "a: 512 neurons" in drawn


def test_a_layer_whose_name_is_markup_cannot_break_the_picture():
    net = program(matrix("<a & b>", INPUT, np.ones((2, 2))), shape=(2,))
    drawn = picture(partition(net, LOIHI2, image=Image.GRADED))
    assert "&lt;a &amp; b&gt;" in drawn
    ElementTree.fromstring(drawn)


def test_cores_lie_along_a_snake_so_that_neighbours_are_one_hop_apart():
    found = placement.slots(LOIHI2, 240)
    x = [slot.chip * 8 + slot.column for slot in found]
    steps = [abs(x[i] - x[i - 1]) + abs(found[i].row - found[i - 1].row) for i in range(1, 120)]
    assert max(steps) == 1
    assert (found[119].chip, found[120].chip) == (0, 1)
    assert len(set(found)) == 240


def test_traffic_is_a_message_for_each_spike_and_core_that_hears_it():
    net = program(
        matrix("a", INPUT, np.ones((3, 2))), matrix("b", "a", [[1, 0, 1], [1, 0, 0]]), shape=(2,)
    )
    found = partition(net, LOIHI2, image=Image.BIAS)
    messages = placement.traffic(found, {"a": np.array([1.0, 5.0, 2.0]), "b": np.zeros(2)})
    assert messages.tolist() == [[0.0, 3.0], [0.0, 0.0]]  # nobody hears the second neuron


def test_traffic_of_a_convolution_stays_near():
    net = conv_net()
    found = partition(net, LOIHI1, image=Image.BIAS)
    spikes = {each.name: np.ones(each.shape) for each in net.layers}
    messages = placement.traffic(found, spikes)
    assert messages.shape == (found.cores, found.cores)
    assert messages.sum() == 512 + 64  # each neuron of a and of b has one core to tell


def test_the_spikes_of_a_run_are_the_traffic_of_its_cores():
    net = conv_net()
    codes = encode.encode(net.input, np.random.default_rng(0).random((3, 2, 8, 8)))
    trace = reference.run(net, codes, raster=True)
    found = partition(net, LOIHI2, image=Image.BIAS)
    messages = placement.traffic(found, spikes_of(trace))
    spikes = [layer.spikes.sum() / trace.samples for layer in trace.layers]
    assert messages.sum() == pytest.approx(sum(spikes))  # every core is heard by one other
    assert messages.sum() > 0
    with pytest.raises(InvalidSetting, match="raster=True"):
        spikes_of(reference.run(net, codes, raster=False))


def test_swaps_never_lengthen_the_way_and_are_repeatable():
    rng = np.random.default_rng(0)
    messages = rng.poisson(2.0, (30, 30)).astype(float) * (rng.random((30, 30)) < 0.2)
    start = placement.slots(LOIHI2, 30)
    before = placement.hops(LOIHI2, start, messages)
    better = placement.improved(LOIHI2, start, messages)
    after = placement.hops(LOIHI2, better, messages)
    assert after.total < before.total
    assert after.messages == before.messages
    assert sorted(better, key=repr) == sorted(start, key=repr)
    assert placement.improved(LOIHI2, start, messages) == better


def test_an_energy_report_gets_the_hops_of_one_inference():
    net = conv_net()
    found = partition(net, LOIHI2, image=Image.BIAS)
    spikes = {each.name: np.ones(each.shape) for each in net.layers}
    near = placement.routing(found, spikes)
    assert (near.hops_ew, near.hops_ns) == (0.0, 0.0)  # three cores share a tile
    far = partition(wide_net(), LOIHI2, image=Image.BIAS)
    assert not far.issues
    spikes = {"a": np.ones(4095 * 8), "b": np.ones(1)}
    hops = placement.routing(far, spikes)
    sent = sorted(placement.traffic(far, spikes)[:8, 8])
    assert sum(sent) == 4095 * 2
    assert hops.hops_ew + hops.hops_ns == sum(sent[:5])  # three senders share the tile of b


def wide_net():
    """Nine cores: eight full of neurons, every fourth of which the ninth hears."""
    values = np.zeros((1, 4095 * 8))
    values[:, ::4] = 1
    first = matrix("a", INPUT, np.ones((values.size, 1)))
    return program(first, matrix("b", "a", values), shape=(1,))


def test_hops_are_counted_along_columns_and_rows():
    places = placement.slots(LOIHI1, 4 * 9)  # the ninth tile lies below the eighth
    messages = np.zeros((36, 36))
    messages[0, 35] = 2.0
    found = placement.hops(LOIHI1, places, messages)
    assert (found.east_west, found.north_south) == (2.0 * 7, 2.0)


def test_loihi1_runs_here_and_says_so(tmp_path):
    net = conv_net()
    target = loihi1.TARGET
    assert target.issues(net) == ()
    written = target.emit(net, tmp_path)
    assert "no public toolchain runs Loihi 1" in written["runs"]
    assert written["hardware"]["deployable"] is False
    assert (written["partition"]["chip"], written["partition"]["fits"]) == ("loihi1", True)
    assert (tmp_path / "mapping.svg").is_file()
    codes = encode.encode(net.input, np.random.default_rng(0).random((2, 2, 8, 8)))
    ran = target.execute(net, tmp_path, codes, raster=False)
    assert (ran.logits == reference.run(net, codes, raster=False).logits).all()


def test_loihi1_refuses_what_its_dendrites_and_delays_cannot_hold():
    first = matrix("a", INPUT, np.ones((300, 1)))
    second = matrix("b", "a", np.full((2, 300), 127))
    late = replace(second, synapses=(replace(second.synapses[0], delay=63),))
    found = loihi1.TARGET.issues(program(first, late, shape=(1,)))
    assert [(issue.code, issue.need, issue.limit) for issue in found] == [
        ("delay-range", 63, 62),
        ("dendrite-range", 38_100, 32_767),
    ]


def chain_with_shortcut(layers, delay=0):
    """The last of so many layers reads the one before it, and the first."""
    chain = [matrix("l0", INPUT, [[1]])]
    chain += [matrix(f"l{i}", f"l{i - 1}", [[1]]) for i in range(1, layers)]
    late = replace(matrix("late", "l0", [[1]]).synapses[0], delay=delay)
    chain[-1] = replace(chain[-1], synapses=(*chain[-1].synapses, late))
    return program(*chain, shape=(1,))


@pytest.mark.parametrize(
    ("layers", "delay", "found"),
    [
        (64, 0, []),  # spikes of l0 wait 62 steps for those of l62
        (65, 0, [("delay-range", 63, 62)]),
        (64, 1, [("delay-range", 63, 62)]),
        (2, 70, [("delay-range", 70, 62)]),
    ],
)
def test_loihi1_counts_what_spikes_wait_for_other_branches_once(layers, delay, found):
    issues = loihi1.TARGET.issues(chain_with_shortcut(layers, delay))
    assert [(issue.code, issue.need, issue.limit) for issue in issues] == found


@pytest.mark.parametrize(
    ("numba", "threads", "told"),
    [(True, 1, [64, 128, 130]), (True, 2, [128, 130]), (False, 2, [64, 128, 130])],
)
def test_loihi1_shows_progress_and_refuses_no_sample(numba, threads, told, monkeypatch, tmp_path):
    monkeypatch.setattr(loihi1, "processors", lambda: threads)
    if not numba:
        monkeypatch.setattr(loihi1, "find_spec", lambda name: None)
        monkeypatch.setattr(loihi1, "batch_size", lambda program: 64)
    net = conv_net()
    codes = encode.encode(net.input, np.random.default_rng(0).random((130, 2, 8, 8)))
    seen = []
    ran = loihi1.TARGET.execute(
        net, tmp_path, codes, raster=True, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, 130) for done in told]
    want = reference.run(net, codes, raster=True)
    assert (ran.logits == want.logits).all()
    for mine, theirs in zip(ran.layers, want.layers, strict=True):
        assert (mine.raster == theirs.raster).all()
    with pytest.raises(InvalidSetting, match="there is no sample to run"):
        loihi1.TARGET.execute(net, tmp_path, codes[:0], raster=False)


@pytest.mark.parametrize("target", [loihi1.TARGET, LOIHI2_TARGET], ids=lambda each: each.name)
def test_a_build_is_laid_out_on_cores_once(target, monkeypatch, tmp_path):
    cut = []

    def counted(program, chip, **choices):
        cut.append("stored" in choices or chip.name == "loihi1")
        return partition(program, chip, **choices)

    for module in (mapping, loihi1):
        monkeypatch.setattr(module, "partition", counted)
    net = conv_net()
    assert target.issues(net) == ()
    target.emit(net, tmp_path)
    assert target.too_many_chips(net, 1) == []
    assert target.picture(net) == (tmp_path / "mapping.svg").read_text(encoding="utf-8")
    assert cut.count(True) == 1
    assert len(cut) <= 2  # that, and on Loihi 2 the cheapest, which only the report names


def test_what_was_computed_of_a_program_goes_with_it():
    computed = []

    def value(program, key):
        computed.append(key)
        return [key]

    once = OncePerProgram(value)
    net, other = conv_net(), conv_net()
    assert once(net, 1) is once(net, 1)
    assert (once(net, 2), once(other, 1)) == ([2], [1])
    assert computed == [1, 2, 1]
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None


def test_a_partition_does_not_keep_its_program_alive():
    net = conv_net()
    loihi1.TARGET.issues(net)
    LOIHI2_TARGET.issues(net)
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("seed", range(20))
def test_boxes_that_are_alike_have_equal_fan_outs(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, 2)
    stride, pad = (tuple(int(n) for n in rng.integers(low, 3, 2)) for low in (1, 0))
    kernel = rng.integers(-1, 2, (4, 2, *sizes))
    source = (4, 9, 8)
    target = (
        4,
        *((n + 2 * p - k) // s + 1 for n, p, k, s in zip((9, 8), pad, sizes, stride, strict=True)),
    )
    kind = Convolution(stride=stride, padding=pad, groups=2)
    synapses = Synapses(name="w", source="a", weight=Dense(integers(kernel)), kind=kind)
    bundle = wiring(synapses, source, target, delayed=False)
    seen = {}
    for tile in ((4, 1, 1), (2, 2, 2), (3, 3, 1)):
        for box in tiles(target, tile):
            counts = fan_out_of_window(bundle, box)
            first = seen.setdefault(alike(bundle, box), counts)
            assert np.array_equal(first, counts)
    assert len(seen) < sum(tile_count(target, t) for t in ((4, 1, 1), (2, 2, 2), (3, 3, 1)))
