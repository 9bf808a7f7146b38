"""What `show` prints after every pass, and what became of the network in the end.

    pytest tests/golden --update-golden

rewrites the files in data/; read their diff before you commit it.
"""

from pathlib import Path

import numpy as np
import pytest
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
    Identity,
    Input,
    Linear,
    Node,
    Normalize,
    Readout,
    Reset,
)
from snnc.ir.show import show, show_program
from snnc.ir.weights import Csr, floats, pack
from snnc.passes import PREPARE
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers

DATA = Path(__file__).parent / "data"
PASSES = [transform.__name__ for transform in PREPARE]


def weights(shape, nonzero):
    """Return weights in sixteenths; every `nonzero`-th is not zero. No random numbers."""
    n = np.arange(np.prod(shape))
    return pack(np.where(n % nonzero == 0, (n * 7 % 23 - 11.5) / 16, 0.0).reshape(shape))


def conv(out, into, *, size=3, padding=1, nonzero=1):
    return Conv2d(
        weight=weights((out, into, size, size), nonzero),
        bias=floats(np.arange(out) / 8 - 0.25),
        stride=(1, 1),
        padding=(padding, padding),
        groups=1,
    )


def norm(channels):
    return BatchNorm(
        gain=floats(np.arange(channels) / 4 + 0.5),
        shift=floats(np.arange(channels) / 8),
        mean=floats(np.full(channels, 0.125)),
        var=floats(np.full(channels, 0.25)),
        eps=2.0**-10,
    )


def fire(threshold, granularity, reset, keep=1.0):
    return Fire(threshold=floats(threshold), granularity=granularity, reset=reset, keep=keep)


def residual():
    """A block with a pooled shortcut, whose sum moves two layers of neurons; then both of them.

    It lies between two other layers, and is sparse where it says so.
    """
    mean, std = floats([0.5, 0.25]), floats([0.25, 0.5])
    pool = AvgPool2d(kernel=(2, 2), stride=(2, 2))
    layer = Granularity.LAYER
    nodes = (
        Node("input", Input(shape=(2, 8, 8)), ()),
        Node("normalize", Normalize(mean=mean, std=std), ("input",)),
        Node("conv1", conv(4, 2), ("normalize",)),
        Node("norm1", norm(4), ("conv1",)),
        Node("fire1", fire(1.5, layer, Reset.ZERO), ("norm1",)),
        Node("pool1", pool, ("fire1",)),
        Node("conv2", conv(4, 4, nonzero=5), ("pool1",)),
        Node("norm2", norm(4), ("conv2",)),
        Node("drop", Identity(), ("norm2",)),
        Node("add", Add(), ("drop", "pool1")),
        Node(
            "fire2",
            fire([0.5, 1.0, 2.0, 4.0], Granularity.CHANNEL, Reset.SUBTRACT, keep=0.75),
            ("add",),
        ),
        Node("fire3", fire(2.0, layer, Reset.ZERO), ("add",)),
        Node("both", Add(), ("fire2", "fire3")),
        Node("pool2", pool, ("both",)),
        Node("flatten", Flatten(), ("pool2",)),
        Node(
            "fc", Linear(weight=weights((3, 16), 3), bias=floats([0.25, 0.0, -0.25])), ("flatten",)
        ),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc",)),
    )
    graph = Graph(nodes=nodes, steps=8, class_names=("a", "b", "c"))
    assert isinstance(graph["conv2"].op.weight, Csr)
    assert isinstance(graph["fc"].op.weight, Csr)
    return check_graph(graph)


@pytest.fixture(scope="module")
def compiled():
    """Map each stage to its text: "trained", the name of each pass, and "quantize"."""
    stages = {"trained": show(residual())}
    program = compile_graph(
        residual(),
        Numbers(),
        observe=lambda name, graph: stages.__setitem__(name, show(graph)),
    )
    return {**stages, "quantize": show_program(program)}


@pytest.mark.parametrize("stage", ["trained", *PASSES, "quantize"])
def test_what_is_shown_after_each_pass_is_as_recorded(stage, compiled, update_golden):
    update_golden(DATA / f"{stage}.txt", compiled[stage] + "\n")


def test_no_recorded_file_is_left_over():
    assert sorted(path.stem for path in DATA.iterdir()) == sorted(["trained", *PASSES, "quantize"])


def test_the_network_shows_something_for_every_pass_to_do(compiled):
    texts = [compiled[stage] for stage in ("trained", *PASSES)]
    assert all(before != after for before, after in zip(texts, texts[1:], strict=False))
