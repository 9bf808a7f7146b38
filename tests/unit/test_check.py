"""A graph or program that breaks a rule is refused, with every broken rule."""

from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidGraph, InvalidProgram
from snnc.ir.check import check_graph, shapes
from snnc.ir.check_program import check_program
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
    Normalize,
    Readout,
    Relu,
    Reset,
)
from snnc.ir.weights import Csr, Dense, floats, freeze, integers, sparse
from snnc.testing.conformance import saturating


def conv(out, into, size=3, padding=1, **changes):
    op = Conv2d(
        weight=Dense(floats(np.full((out, into, size, size), 0.1))),
        bias=floats(np.zeros(out)),
        stride=(1, 1),
        padding=(padding, padding),
        groups=1,
    )
    return replace(op, **changes)


def linear(out, into):
    return Linear(weight=Dense(floats(np.full((out, into), 0.1))), bias=floats(np.zeros(out)))


def fire(threshold=1.0, **changes):
    op = Fire(
        threshold=floats(threshold), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0
    )
    return replace(op, **changes)


def chain(*ops, steps=4, shape=(2, 4, 4)):
    nodes = [Node("input", Input(shape=shape), ())]
    for i, op in enumerate(ops):
        nodes.append(Node(f"n{i}", op, (nodes[-1].name,)))
    nodes.append(Node("out", Readout(decision=Decision.MEMBRANE), (nodes[-1].name,)))
    return Graph(nodes=tuple(nodes), steps=steps)


def valid():
    return chain(
        conv(3, 2), fire(), AvgPool2d(kernel=(2, 2), stride=(2, 2)), Flatten(), linear(5, 12)
    )


def test_shapes_follow_every_op():
    graph = check_graph(valid())
    assert list(shapes(graph).values()) == [
        (2, 4, 4),
        (3, 4, 4),
        (3, 4, 4),
        (3, 2, 2),
        (12,),
        (5,),
        (5,),
    ]


def with_nodes(graph, *nodes):
    return replace(graph, nodes=nodes)


def csr_of_two_rows(**changes):
    weight = sparse(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    return replace(weight, **changes)


BROKEN = {
    "a duplicate name": (
        lambda g: with_nodes(g, *g.nodes[:2], replace(g.nodes[2], name="n0"), *g.nodes[3:]),
        "n0: 2 nodes have this name",
    ),
    "a cycle": (
        lambda g: with_nodes(g, g.nodes[0], replace(g.nodes[1], inputs=("n1",)), *g.nodes[2:]),
        "n0: reads 'n1', which comes later: a cycle",
    ),
    "an unknown source": (
        lambda g: with_nodes(g, g.nodes[0], replace(g.nodes[1], inputs=("x",)), *g.nodes[2:]),
        "n0: reads 'x', which does not exist",
    ),
    "an unread node": (
        lambda g: with_nodes(g, g.nodes[0], Node("lost", Relu(), ("input",)), *g.nodes[1:]),
        "lost: nothing reads it",
    ),
    "no readout": (lambda g: with_nodes(g, *g.nodes[:-1]), "has 0 Readout nodes"),
    "zero steps": (lambda g: replace(g, steps=0), "steps is 0"),
    "a ReLU among spikes": (
        lambda g: chain(conv(3, 2), fire(), Relu(), Flatten(), linear(5, 48)),
        "a ReLU in a spiking network",
    ),
    "steps without spikes": (
        lambda g: chain(conv(3, 2), Relu(), Flatten(), linear(5, 48)),
        "no layer spikes",
    ),
    "a NaN weight": (
        lambda g: chain(conv(3, 2, weight=Dense(floats(np.full((3, 2, 3, 3), np.nan)))), fire()),
        "n0: weight holds NaN or infinity",
    ),
    "an infinite bias": (
        lambda g: chain(conv(3, 2, bias=floats([0, np.inf, 0])), fire()),
        "n0: bias holds NaN or infinity",
    ),
    "a zero threshold": (lambda g: chain(conv(3, 2), fire(0.0)), "n1: threshold reaches 0"),
    "a negative threshold": (lambda g: chain(conv(3, 2), fire(-2.0)), "threshold reaches -2"),
    "a leak that keeps nothing": (lambda g: chain(conv(3, 2), fire(keep=0.0)), "keep is 0"),
    "channels that do not chain": (
        lambda g: chain(conv(3, 4), fire()),
        "does not fit 2 channels",
    ),
    "a kernel larger than the map": (
        lambda g: chain(conv(3, 2, size=7, padding=0), fire()),
        "its output has shape",
    ),
    "a matrix on a map": (lambda g: chain(linear(3, 32), fire()), "flatten maps first"),
    "thresholds of the wrong granularity": (
        lambda g: chain(conv(3, 2), fire([1.0, 2.0], granularity=Granularity.CHANNEL)),
        r"one per channel has shape \(3,\)",
    ),
    "a sum of unequal maps": (
        lambda g: with_nodes(
            g,
            g.nodes[0],
            g.nodes[1],
            Node("sum", Add(), ("input", "n0")),
            replace(g.nodes[2], inputs=("sum",)),
            *g.nodes[3:],
        ),
        "adds maps of shapes",
    ),
    "a wrong number of class names": (
        lambda g: replace(g, class_names=("a",)),
        "5 logits for 1 class names",
    ),
    "a negative variance": (
        lambda g: chain(
            conv(3, 2),
            BatchNorm(
                gain=floats(np.ones(3)),
                shift=floats(np.ones(3)),
                mean=floats(np.ones(3)),
                var=floats([-1, 1, 1]),
                eps=1e-5,
            ),
            fire(),
        ),
        "var . eps is not positive",
    ),
    "a zero deviation": (
        lambda g: chain(Normalize(mean=floats([0, 0]), std=floats([0, 1])), conv(3, 2), fire()),
        "std is not positive",
    ),
    "a spike readout of a membrane": (
        lambda g: with_nodes(
            g, *g.nodes[:-1], replace(g.nodes[-1], op=Readout(decision=Decision.SPIKES))
        ),
        "decides by spikes but reads Linear",
    ),
    "a column out of range": (
        lambda g: chain(
            Linear(weight=csr_of_two_rows(indices=integers([0, 3, 1])), bias=floats([0, 0])),
            fire(),
            shape=(3,),
        ),
        "points outside its 3 columns",
    ),
    "a repeated column": (
        lambda g: chain(
            Linear(weight=csr_of_two_rows(indices=integers([2, 2, 1])), bias=floats([0, 0])),
            fire(),
            shape=(3,),
        ),
        "repeats a column or is not sorted",
    ),
    "row pointers that miss data": (
        lambda g: chain(
            Linear(weight=csr_of_two_rows(indptr=freeze([0, 2, 2], np.int64)), bias=floats([0, 0])),
            fire(),
            shape=(3,),
        ),
        "do not cover the data",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_graph_with(name):
    change, message = BROKEN[name]
    with pytest.raises(InvalidGraph, match=message):
        check_graph(change(valid()))


def test_every_broken_rule_is_listed():
    bad = conv(3, 2, bias=floats([np.nan] * 3))
    graph = chain(bad, fire(-1.0), Flatten(), linear(5, 48), steps=0)
    with pytest.raises(InvalidGraph) as caught:
        check_graph(graph)
    assert {issue.code for issue in caught.value.issues} == {"finite", "threshold", "steps"}


def test_sorted_rows_of_a_sparse_weight_are_accepted():
    empty_row = sparse(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert isinstance(empty_row, Csr)
    op = Linear(weight=empty_row, bias=floats(np.zeros(3)))
    check_graph(chain(op, fire(), linear(2, 3), shape=(3,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0}, "floor: threshold is 0"),
        ({"decay": 4096}, "floor: decay is 4096"),
        ({"current_decay": 4097}, "floor: current decay is 4097; use 0 to 4096"),
        ({"current_decay": -1}, "floor: current decay is -1"),
        ({"bias": integers([0, 0])}, r"floor: bias has shape \(2,\)"),
        ({"shape": (2,), "bias": integers([0, 0])}, r"the layer is \(2,\)"),
        ({"synapses": ()}, "floor: has no synapses"),
        ({"name": "down"}, "down: the name is taken"),
    ],
)
def test_a_broken_layer_of_a_program_is_refused(change, message):
    program, _ = saturating()
    layers = tuple(
        replace(layer, **change) if layer.name == "floor" else layer for layer in program.layers
    )
    with pytest.raises(InvalidProgram, match=message):
        check_program(replace(program, layers=layers))


def test_a_layer_may_not_read_what_comes_after_it():
    program, _ = saturating()
    with pytest.raises(InvalidProgram, match="floor: reads 'down', which is not before it"):
        check_program(replace(program, layers=program.layers[1:]))


def test_a_delay_is_no_less_than_zero_and_the_image_has_none():
    program, _ = saturating()
    down, slow, up, floor, _ = program.layers
    late = replace(down, synapses=(replace(down.synapses[0], delay=1),))
    early = replace(floor, synapses=(replace(floor.synapses[0], delay=-1), floor.synapses[1]))
    with pytest.raises(InvalidProgram) as refused:
        check_program(replace(program, layers=(late, slow, up, early)))
    assert [(issue.layer, issue.code) for issue in refused.value.issues] == [
        ("down", "delay"),
        ("floor.down", "delay"),
    ]


def test_two_synapses_of_a_layer_have_different_names():
    program, _ = saturating()
    down, slow, up, floor, ceiling = program.layers
    twice = replace(floor, synapses=(floor.synapses[0], floor.synapses[0]))
    with pytest.raises(
        InvalidProgram, match=r"valid:\n  floor: two of its bundles share a name; rename one$"
    ):
        check_program(replace(program, layers=(down, slow, up, twice, ceiling)))


def test_a_current_that_lasts_must_fit_64_bits_with_its_decay():
    program, _ = saturating()
    down, slow, up, floor, ceiling = program.layers
    reach = 127 * (127 + 600)
    steps = (1 << 45) // reach + 1  # what all steps bring: just over what one product holds
    check_program(replace(program, steps=steps))  # a current of one step is far below
    lasting = replace(floor, current_decay=4095)
    with pytest.raises(InvalidProgram, match=r"^the program is not valid:\n  floor: currents may"):
        check_program(replace(program, layers=(down, slow, up, lasting, ceiling), steps=steps))
