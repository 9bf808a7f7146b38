"""Sums that several layers read: copies of what is linear compute the same, and are counted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.errors import InvalidGraph
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Reset,
    consumers,
)
from snnc.ir.store import load_program, save_program
from snnc.ir.weights import floats, nonzeros, pack
from snnc.passes import PREPARE, apply
from snnc.passes.compile import compile_graph
from snnc.passes.copies import COPIES, USES, copied, copied_weights
from snnc.passes.distribute_layers import distribute_layers
from snnc.passes.distribute_sums import distribute_sums
from snnc.passes.numbers import Numbers
from snnc.semantics.encode import encode
from snnc.semantics.neuron import CURRENT_MAX
from snnc.simulate import reference
from snnc.simulate.floating import run_graph

CHANNELS, SIZE = 3, 4
FINE = Numbers(weight_max=2**15, bias_max=CURRENT_MAX)  # so fine that no weight rounds to 0
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60, deadline=None, derandomize=True)


class Drawn:
    """Builds a graph node by node; all choices and arrays come from one seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes = [Node("input", Input(shape=(CHANNELS, SIZE, SIZE)), ())]

    def add(self, op, *inputs):
        name = f"{type(op).__name__.lower()}{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs))
        return name

    def sometimes(self, share=0.5):
        return self.rng.random() < share

    def conv(self, source):
        size = int(self.rng.choice([1, 3]))
        op = Conv2d(
            weight=pack(self.rng.normal(size=(CHANNELS, CHANNELS, size, size))),
            bias=floats(self.rng.normal(size=CHANNELS)),
            stride=(1, 1),
            padding=(size // 2, size // 2),
            groups=1,
        )
        return self.add(op, source)

    def norm(self, source):
        op = BatchNorm(
            gain=floats(self.rng.normal(size=CHANNELS)),
            shift=floats(self.rng.normal(size=CHANNELS)),
            mean=floats(self.rng.normal(size=CHANNELS)),
            var=floats(self.rng.random(CHANNELS)),
            eps=1e-5,
        )
        return self.add(op, source)

    def fire(self, source):
        op = Fire(
            threshold=floats(self.rng.uniform(0.3, 2.0)),
            granularity=Granularity.LAYER,
            reset=Reset(self.rng.choice(["zero", "subtract"])),
            keep=1.0,
        )
        return self.add(op, source)

    def graph(self, source):
        flat = self.add(Flatten(), source)
        size = CHANNELS * SIZE * SIZE
        op = Linear(weight=pack(self.rng.normal(size=(3, size))), bias=floats(np.ones(3)))
        self.add(Readout(decision=Decision.MEMBRANE), self.add(op, flat))
        return check_graph(Graph(nodes=tuple(self.nodes), steps=3))


def preactivation(seed):
    """Draw blocks between which numbers run: weighted, normalised, pooled, taken up later."""
    g = Drawn(seed)
    sums = [g.conv("input")]
    for _ in range(int(g.rng.integers(1, 5))):
        x = sums[-1] if g.sometimes(0.7) else str(g.rng.choice(sums))
        spikes = g.fire(g.norm(x) if g.sometimes(0.8) else x)
        branch = g.conv(g.fire(g.norm(g.conv(spikes))) if g.sometimes() else spikes)
        shortcut = g.conv(spikes) if g.sometimes(0.2) else g.norm(x) if g.sometimes() else x
        terms = [branch, shortcut, sums[0]] if g.sometimes(0.2) else [shortcut, branch]
        sums.append(g.add(Add(), *terms))
    used = {source for node in g.nodes for source in node.inputs}
    loose = [name for name in sums[:-1] if name not in used]
    last = g.add(Add(), *loose, sums[-1]) if loose else sums[-1]
    if g.sometimes(0.3):
        last = g.add(Add(), last, last)
    return g.graph(g.fire(g.norm(last)))


def elementwise(seed):
    """Draw blocks that add spikes to spikes."""
    g = Drawn(seed)
    x = g.fire(g.conv("input"))
    for _ in range(int(g.rng.integers(1, 4))):
        branch = g.fire(g.norm(g.conv(x)))
        x = g.add(Add(), x, branch) if g.sometimes() else g.add(Add(), branch, x, branch)
        if g.sometimes(0.2):
            x = g.fire(x)
    return g.graph(x)


def images(seed, count=3):
    return np.random.default_rng(seed).random((count, CHANNELS, SIZE, SIZE))


@quick
@given(SEEDS)
def test_copies_for_each_reader_compute_what_the_shared_sum_did(seed):
    graph = preactivation(seed)
    x = images(seed)
    before = run_graph(graph, x)
    # the terms of a sum in another order; no drawn neuron sits that near its threshold
    np.testing.assert_allclose(run_graph(apply((distribute_sums,), graph), x), before, atol=1e-9)
    prepared = apply(PREPARE, graph)
    np.testing.assert_allclose(run_graph(prepared, x), before, atol=1e-9)
    read = consumers(prepared)
    assert all(
        len(read[n.name]) == 1
        for n in prepared.nodes
        if not isinstance(n.op, Input | Fire | Readout)
    )


@quick
@given(SEEDS)
def test_a_copy_for_each_term_computes_what_the_layer_did(seed):
    graph = elementwise(seed)
    x = images(seed)
    before = run_graph(graph, x)
    after = apply((distribute_layers,), graph)
    # the terms of a sum in another order; no drawn neuron sits that near its threshold
    np.testing.assert_allclose(run_graph(after, x), before, atol=1e-9)
    np.testing.assert_allclose(run_graph(apply(PREPARE, graph), x), before, atol=1e-9)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(SEEDS, st.sampled_from([preactivation, elementwise]))
def test_the_provenance_names_every_copy_and_its_original(seed, draw):
    graph = draw(seed)
    program = compile_graph(graph, FINE)
    bundles = {b.name: b for p in program.populations for b in p.synapses}
    own = {n.name for n in graph.nodes if isinstance(n.op, Conv2d | Linear)}
    copies = copied(program)
    assert set(copies.values()) <= own
    assert set(copies) == {name for name in bundles if name not in own and "conv" in name} | {
        name for name in bundles if name not in own and "linear" in name
    }
    assert copied_weights(program) == sum(nonzeros(bundles[name].weight) for name in copies)


def conv(weight=1.0, bias=0.5):
    return Conv2d(
        weight=pack(np.full((1, 1, 1, 1), weight)),
        bias=floats([bias]),
        stride=(1, 1),
        padding=(0, 0),
        groups=1,
    )


def fire(threshold=1.0):
    return Fire(
        threshold=floats(threshold), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0
    )


def norm(gain):
    one = floats([1.0])
    return BatchNorm(gain=floats([gain]), shift=one, mean=one, var=one, eps=0.0)


def built(*nodes):
    """Return a graph of (name, op, *sources) over images of two pixels."""
    named = [Node("input", Input(shape=(1, 1, 2)), ())]
    named += [Node(name, op, sources) for name, op, *sources in nodes]
    named = [replace(node, inputs=tuple(node.inputs)) for node in named]
    named.append(Node("out", Readout(decision=Decision.MEMBRANE), (named[-1].name,)))
    return check_graph(Graph(nodes=tuple(named), steps=2, provenance={"seed": 1}))


def two_blocks():
    return built(
        ("first", conv(2.0), "input"),
        ("norm1", norm(3.0), "first"),
        ("relu1", fire(), "norm1"),
        ("branch1", conv(5.0), "relu1"),
        ("add1", Add(), "first", "branch1"),
        ("norm2", norm(7.0), "add1"),
        ("relu2", fire(), "norm2"),
        ("branch2", conv(11.0), "relu2"),
        ("add2", Add(), "add1", "branch2"),
        ("relu3", fire(), "add2"),
        ("last", conv(), "relu3"),
    )


def test_each_reader_has_the_gain_of_its_own_batch_norm():
    prepared = apply(PREPARE, two_blocks())
    gains = {
        node.name: float(node.op.weight.values.item())
        for node in prepared.nodes
        if isinstance(node.op, Conv2d)
    }
    assert gains == {
        "first": 2.0 * 3.0,
        "branch1": 5.0 * 7.0,
        "relu2.first": 2.0 * 7.0,
        "branch2": 11.0,
        "relu3.first": 2.0,
        "relu3.branch1": 5.0,
        "last": 1.0,
    }


def test_a_population_is_named_after_what_is_new_in_it():
    program = compile_graph(two_blocks(), FINE)
    assert [(p.name, [(b.name, b.source) for b in p.synapses]) for p in program.populations] == [
        ("first", [("first", "input")]),
        ("branch1", [("branch1", "first"), ("relu2.first", "input")]),
        (
            "branch2",
            [("branch2", "branch1"), ("relu3.first", "input"), ("relu3.branch1", "first")],
        ),
        ("last", [("last", "branch2")]),
    ]
    assert program.provenance == {
        "seed": 1,
        COPIES: {"relu2.first": "first", "relu3.first": "first", "relu3.branch1": "branch1"},
    }
    assert copied_weights(program) == 3


def test_a_program_file_still_knows_its_copies(tmp_path):
    program = compile_graph(two_blocks(), FINE)
    save_program(tmp_path / "p.snnx", program, force=False)
    assert copied(load_program(tmp_path / "p.snnx")) == copied(program)


def test_a_graph_without_shared_sums_is_left_alone():
    graph = built(("first", conv(), "input"), ("relu", fire(), "first"), ("last", conv(), "relu"))
    assert distribute_sums(graph) is graph
    assert distribute_layers(graph) is graph
    assert COPIES not in compile_graph(graph, FINE).provenance


def test_a_copy_takes_no_name_that_is_taken():
    graph = built(
        ("first", conv(), "input"),
        ("relu1", fire(), "first"),
        ("relu2.first", conv(), "relu1"),
        ("relu2", fire(0.5), "first"),
        ("add", Add(), "relu2.first", "relu2"),
        ("relu3", fire(), "add"),
        ("last", conv(), "relu3"),
    )
    assert copied(compile_graph(graph, FINE)) == {"relu2.first.1": "first"}


def test_synapses_of_a_shortcut_take_no_name_that_is_taken():
    graph = built(
        ("first", conv(), "input"),
        ("relu1", fire(), "first"),
        ("add.relu1", conv(), "relu1"),
        ("add", Add(), "add.relu1", "relu1"),
        ("relu2", fire(), "add"),
        ("last", conv(), "relu2"),
    )
    names = [bundle.name for bundle in compile_graph(graph, FINE).layers[1].synapses]
    assert names == ["add.relu1", "add.relu1.1"]


def test_a_copy_of_a_copy_names_the_layer_of_the_user():
    graph = built(
        ("first", conv(), "input"),
        ("relu1", fire(), "first"),
        ("other", conv(2.0), "input"),
        ("relu2", fire(), "other"),
        ("spikes", Add(), "relu1", "relu2"),
        ("shared", conv(3.0), "spikes"),
        ("relu3", fire(), "shared"),
        ("relu4", fire(2.0), "shared"),
        ("add", Add(), "relu3", "relu4"),
        ("last", conv(), "add"),
    )
    assert copied(compile_graph(graph, FINE)) == {
        "shared.relu2": "shared",
        "relu4.shared": "shared",
        "relu4.shared.relu2": "shared",
        "last.relu4": "last",
    }


def test_a_sum_that_is_too_large_to_copy_is_refused_before_it_is_copied():
    nodes = [("first", conv(), "input")]
    before = "first"
    for i in range(60):  # first is added up 2**60 times
        nodes.append((f"add{i}", Add(), before, before))
        before = f"add{i}"
    graph = built(*nodes, ("relu", fire(), before), ("last", conv(), "relu"))
    with pytest.raises(InvalidGraph) as refused:
        compile_graph(graph, FINE)
    (issue,) = refused.value.issues
    assert (issue.layer, issue.code, issue.need, issue.limit) == ("first", "copies", 2**60, USES)

    spikes = [
        ("relu", fire(), "first"),
        *[(n, op, *["relu" if s == "first" else s for s in more]) for n, op, *more in nodes[1:]],
    ]
    graph = built(nodes[0], *spikes, ("last", conv(), before))
    with pytest.raises(InvalidGraph) as refused:
        compile_graph(graph, FINE)
    (issue,) = refused.value.issues
    assert (issue.layer, issue.need, issue.limit) == ("last", 2**60, USES)


@pytest.mark.parametrize("blocks", [USES - 1, USES])
def test_the_limit_is_the_number_of_layers_that_read_a_sum(blocks):
    nodes = [("first", conv(), "input")]
    before = "first"
    for i in range(blocks):
        nodes += [
            (f"relu{i}", fire(), before),
            (f"branch{i}", conv(), f"relu{i}"),
            (f"add{i}", Add(), before, f"branch{i}"),
        ]
        before = f"add{i}"
    graph = built(*nodes, ("relu", fire(), before), ("last", conv(), "relu"))
    if blocks < USES:
        assert len(copied(compile_graph(graph, FINE))) == sum(range(USES))
        return
    with pytest.raises(InvalidGraph, match=f"first: {USES + 1} layers read it before it spikes"):
        compile_graph(graph, FINE)


def test_pooling_of_a_sum_is_pooling_of_its_terms():
    rng = np.random.default_rng(0)
    g = Drawn(0)
    spikes = g.fire(g.conv("input"))
    total = g.norm(g.add(Add(), g.conv(spikes), spikes, g.conv("input")))
    pooled = g.add(AvgPool2d(kernel=(3, 2), stride=(1, 1)), total)
    last = g.fire(g.add(AvgPool2d(kernel=(1, 2), stride=(1, 1)), pooled))
    flat = g.add(Flatten(), last)
    op = Linear(weight=pack(rng.normal(size=(3, 12))), bias=floats(np.ones(3)))
    g.add(Readout(decision=Decision.MEMBRANE), g.add(op, flat))
    graph = check_graph(Graph(nodes=tuple(g.nodes), steps=3))
    prepared = apply(PREPARE, graph)
    assert not any(isinstance(node.op, AvgPool2d) for node in prepared.nodes)
    x = images(0, 10)
    # the same sums in another order
    np.testing.assert_allclose(run_graph(prepared, x), run_graph(graph, x), atol=1e-9)


def test_the_integers_of_two_blocks_decide_as_their_floats():
    graph = two_blocks()
    program = compile_graph(graph, FINE)
    x = np.random.default_rng(0).integers(0, 256, (50, 1, 1, 2)) / 255
    trace = reference.run(program, encode(program.input, x), raster=False)
    want = run_graph(graph, x)
    # spikes of two pixels over two steps: coarse, and none of these images is near a threshold
    np.testing.assert_array_equal(np.rint(trace.logits / (program.readout.scale * 2) * 2), want * 2)
