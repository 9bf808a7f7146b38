"""Every shape of network that a graph can hold: it compiles and runs as itself, or says why not.

Each network is a small torch module with drawn weights. What compiles must run in integers as
the specification says, on every simulator of the host, and decide nearly as its float form.
"""

import numpy as np
import pytest
import torch
from snnc import twin
from snnc.errors import InvalidGraph, Unsupported
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Granularity, Reset
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.passes import PREPARE, apply
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers
from snnc.semantics.encode import encode
from snnc.semantics.network import specified
from snnc.semantics.neuron import CURRENT_MAX
from snnc.simulate import reference
from snnc.simulate.floating import run_graph
from torch import nn
from torch.nn import functional as F

SHAPE = (2, 6, 8)
STEPS = 6
WIDE = Numbers(weight_max=2**20, bias_max=CURRENT_MAX)  # so that rounding moves few spikes


class Net(nn.Module):
    """Modules by name, and what to do with them and the image."""

    def __init__(self, rule, **modules):
        super().__init__()
        self.rule = rule
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.rule(self, x)


def conv(into, out, kernel=3, **more):
    return nn.Conv2d(into, out, kernel, **{"padding": 1 if kernel == 3 else 0, **more})


def norm(channels):
    layer = nn.BatchNorm2d(channels)
    with torch.no_grad():
        layer.running_mean.normal_(0, 0.2)
        layer.running_var.uniform_(0.5, 1.5)
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.normal_(0, 0.2)
    return layer


def flat(x):
    return torch.flatten(x, 1)


def one_layer(layer, neurons):
    """Return image -> layer -> neurons -> matrix."""
    return Net(lambda m, x: m.out(flat(F.relu(m.first(x)))), first=layer, out=matrix(neurons))


def matrix(neurons, classes=3):
    return nn.Linear(neurons, classes)


def between(pool, then, neurons):
    """Return neurons -> pooling -> convolution -> neurons -> matrix."""
    return Net(
        lambda m, x: m.out(flat(F.relu(m.then(m.pool(F.relu(m.first(x))))))),
        first=conv(2, 4),
        pool=pool,
        then=then,
        out=matrix(neurons),
    )


def after_first(rule, **modules):
    """Return convolution -> neurons -> `rule` of the module and their spikes -> matrix."""
    return Net(lambda m, x: m.out(flat(rule(m, F.relu(m.first(x))))), first=conv(2, 4), **modules)


def twice(x):
    return x + x


def both(layer, x):
    """Return the sum of two layers of neurons that read the same currents."""
    return F.relu(x) + F.relu(layer(x))


def added(layer, s):
    return F.relu(layer(s)) + s


def pooled_too(x):
    return F.avg_pool2d(x, 2) + F.avg_pool2d(x, (1, 5), (2, 1))


def preactivation(blocks):
    """Return pre-activation blocks of three channels."""

    def rule(m, x):
        x = m.first(x)
        for i in range(blocks):
            block = getattr(m, f"block{i}")
            x = x + block(x)
        return m.out(flat(F.avg_pool2d(F.relu(m.norm(x)), (6, 8))))

    made = {
        f"block{i}": nn.Sequential(
            norm(3), nn.ReLU(), conv(3, 3), norm(3), nn.ReLU(), conv(3, 3, bias=False)
        )
        for i in range(blocks)
    }
    return Net(rule, first=conv(2, 3), norm=norm(3), out=matrix(3), **made)


COMPILES = {
    "a strided convolution": lambda: one_layer(conv(2, 4, stride=2), 4 * 3 * 4),
    "stride, padding and kernel that differ by axis": lambda: one_layer(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(0, 2)), 4 * 2 * 11
    ),
    "a kernel as large as the map": lambda: one_layer(conv(2, 4, (6, 8)), 4),
    "an even kernel with padding": lambda: one_layer(conv(2, 4, 4, padding=2), 4 * 7 * 9),
    "a stride that leaves rows unread": lambda: one_layer(conv(2, 4, 3, stride=4), 4 * 2 * 2),
    "groups": lambda: one_layer(conv(2, 6, groups=2), 6 * 6 * 8),
    "a depthwise convolution of neurons": lambda: between(
        nn.Identity(), conv(4, 4, groups=4), 4 * 6 * 8
    ),
    "pooling that tiles, before a padded convolution": lambda: between(
        nn.AvgPool2d(2), conv(4, 3), 3 * 3 * 4
    ),
    "pooling by windows that are not square": lambda: between(
        nn.AvgPool2d((2, 4)), conv(4, 3), 3 * 3 * 2
    ),
    "pooling that overlaps, before a convolution without padding": lambda: between(
        nn.AvgPool2d(3, stride=1), conv(4, 3, padding=0), 3 * 2 * 4
    ),
    "pooling that leaves columns out, before a convolution without padding": lambda: between(
        nn.AvgPool2d(3), conv(4, 3, 2), 3 * 1 * 1
    ),
    "pooling with gaps between its windows": lambda: between(
        nn.AvgPool2d(2, stride=3), conv(4, 3, 2), 3 * 1 * 2
    ),
    "two poolings in a row": lambda: between(
        nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d((3, 2))), conv(4, 3, 1), 3 * 1 * 2
    ),
    "pooling after a convolution": lambda: one_layer(
        nn.Sequential(conv(2, 4), nn.AvgPool2d(2)), 4 * 3 * 4
    ),
    "overlapping pooling after a batch norm": lambda: one_layer(
        nn.Sequential(conv(2, 4, stride=(1, 2)), norm(4), nn.AvgPool2d(3, stride=1)), 4 * 4 * 2
    ),
    "two poolings after a convolution": lambda: one_layer(
        nn.Sequential(conv(2, 4), nn.AvgPool2d(2, stride=1), nn.AvgPool2d(2)), 4 * 2 * 3
    ),
    "pooling of the image": lambda: one_layer(
        nn.Sequential(nn.AvgPool2d(2), conv(2, 4)), 4 * 3 * 4
    ),
    "pooled spikes that neurons read": lambda: after_first(
        lambda m, s: F.relu(F.avg_pool2d(s, 2)), out=matrix(4 * 3 * 4)
    ),
    "twice pooled spikes that neurons read": lambda: after_first(
        lambda m, s: F.relu(F.avg_pool2d(F.avg_pool2d(s, 3, 1), (2, 3))), out=matrix(4 * 2 * 2)
    ),
    "pooled spikes that a sum reads": lambda: after_first(
        lambda m, s: F.relu(F.avg_pool2d(s, 2) + m.second(s)),
        second=conv(4, 4, stride=2),
        out=matrix(4 * 3 * 4),
    ),
    "pooling of a sum": lambda: after_first(
        lambda m, s: F.relu(F.avg_pool2d(m.norm(m.second(s) + s), 2)),
        second=conv(4, 4),
        norm=norm(4),
        out=matrix(4 * 3 * 4),
    ),
    "pooling of a sum that another sum reads": lambda: after_first(
        lambda m, s: F.relu(pooled_too(m.second(s) + s)), second=conv(4, 4), out=matrix(4 * 3 * 4)
    ),
    "an identity shortcut": lambda: after_first(
        lambda m, s: F.relu(m.second(s) + s), second=conv(4, 4), out=matrix(192)
    ),
    "a sum of three branches": lambda: after_first(
        lambda m, s: F.relu(m.second(s) + m.third(s) + s),
        second=conv(4, 4),
        third=conv(4, 4, 1),
        out=matrix(192),
    ),
    "a sum of the same spikes twice": lambda: after_first(
        lambda m, s: F.relu(s + s), out=matrix(192)
    ),
    "a sum of the same currents twice": lambda: after_first(
        lambda m, s: F.relu(m.norm(twice(m.second(s)))),
        second=conv(4, 4),
        norm=norm(4),
        out=matrix(192),
    ),
    "currents that two layers of neurons read": lambda: after_first(
        lambda m, s: both(m.norm, m.second(s)), second=conv(4, 4), norm=norm(4), out=matrix(192)
    ),
    "a batch norm of spikes in a sum": lambda: after_first(
        lambda m, s: F.relu(m.second(s) + m.norm(s)),
        second=conv(4, 4),
        norm=norm(4),
        out=matrix(192),
    ),
    "a batch norm of pooled spikes before neurons": lambda: after_first(
        lambda m, s: F.relu(m.norm(F.avg_pool2d(s, 2))), norm=norm(4), out=matrix(48)
    ),
    "a sum of spikes that matrices read": lambda: after_first(
        lambda m, s: s + F.relu(m.second(s)), second=conv(4, 4), out=matrix(192)
    ),
    "blocks that add spikes to spikes": lambda: after_first(
        lambda m, s: F.avg_pool2d(added(m.third, added(m.second, s)), 2),
        second=conv(4, 4),
        third=nn.Sequential(conv(4, 4), norm(4)),
        out=matrix(48),
    ),
    "one pre-activation block": lambda: preactivation(1),
    "three pre-activation blocks": lambda: preactivation(3),
    "the image in a later sum": lambda: Net(
        lambda m, x: m.out(flat(F.relu(m.second(F.relu(m.first(x))) + x))),
        first=conv(2, 4),
        second=conv(4, 2),
        out=matrix(96),
    ),
    "neurons on the image": lambda: Net(lambda m, x: m.out(flat(F.relu(x))), out=matrix(96)),
    "neurons on the flattened image": lambda: Net(
        lambda m, x: m.out(F.relu(flat(x))), out=matrix(96)
    ),
    "neurons on a flattened map": lambda: Net(
        lambda m, x: m.out(F.relu(flat(m.first(x)))), first=conv(2, 4), out=matrix(192)
    ),
    "matrices only": lambda: Net(
        lambda m, x: m.out(F.relu(m.first(flat(x)))), first=nn.Linear(96, 10), out=matrix(10)
    ),
    "a matrix between maps and classes": lambda: Net(
        lambda m, x: m.out(F.relu(m.second(flat(F.relu(m.first(x)))))),
        first=conv(2, 4),
        second=nn.Linear(192, 10),
        out=matrix(10),
    ),
    "a spiking last layer": lambda: Net(
        lambda m, x: F.relu(m.out(flat(F.relu(m.first(x))))), first=conv(2, 4), out=matrix(192)
    ),
    "a spiking last map of one pixel": lambda: Net(
        lambda m, x: flat(F.relu(m.first(x))), first=conv(2, 3, (6, 8))
    ),
    "a convolution and pooling as the last layer": lambda: Net(
        lambda m, x: flat(F.avg_pool2d(m.second(F.relu(m.first(x))), (6, 8))),
        first=conv(2, 4),
        second=conv(4, 3, 1),
    ),
    "the mean of spikes as the logits": lambda: Net(
        lambda m, x: flat(F.avg_pool2d(F.relu(m.first(x)), (6, 8))), first=conv(2, 3)
    ),
    "two matrices summed in the logits": lambda: Net(
        lambda m, x: m.out(flat(F.relu(m.first(x)))) + m.other(flat(x)),
        first=conv(2, 4),
        out=matrix(192),
        other=matrix(96),
    ),
}


def images(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, *SHAPE))
    return pixels / 255  # what the 8-bit codes hold exactly


def spiking(make):
    torch.manual_seed(0)
    network = to_spiking(
        make().eval(),
        input_shape=SHAPE,
        steps=STEPS,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    ).eval()
    with torch.no_grad():
        for fire in network.fires.values():
            fire.threshold.fill_(0.15)  # so that each layer spikes
    return from_torch(network, input_shape=SHAPE, steps=STEPS)


@pytest.mark.parametrize("name", COMPILES)
def test_it_compiles_and_runs_in_integers_nearly_as_in_floats(name):
    graph = spiking(COMPILES[name])
    x = images(40)
    want = run_graph(graph, x)
    prepared = apply(PREPARE, graph)
    # the same sums in another order; no neuron sits nearer to its threshold
    np.testing.assert_allclose(run_graph(prepared, x), want, atol=1e-9)

    program = compile_graph(graph, WIDE)
    codes = encode(program.input, x)
    trace = reference.run(program, codes, raster=True)
    np.testing.assert_array_equal(twin.run(program, codes, raster=False).logits, trace.logits)
    exact = specified(program, codes[:2])
    np.testing.assert_array_equal(exact.logits, trace.logits[:2])
    for layer in trace.layers:
        np.testing.assert_array_equal(layer.raster[:2], exact.rasters[layer.name])
        assert layer.spikes.sum() > 0, layer.name

    scale = getattr(program.readout, "scale", 1.0) * STEPS
    off = np.abs(trace.logits / scale - want)
    # what rounding is left moves a spike here and there; the worst network is off by 0.15
    assert off.mean() <= 0.2 * want.std()


REFUSED = {
    "a convolution of a convolution": (
        lambda: one_layer(nn.Sequential(conv(2, 4), conv(4, 4)), 192),
        "first.1: reads first.0, which does not spike; put a spiking layer",
    ),
    "a convolution of a pooled and normalised one": (
        lambda: one_layer(nn.Sequential(conv(2, 4), norm(4), nn.AvgPool2d(2), conv(4, 4)), 48),
        "first.3: reads first.0, which does not spike; put a spiking layer",
    ),
    "a matrix on a sum of currents": (
        lambda: Net(
            lambda m, x: m.out(flat(F.relu(m.first(x)) + m.second(x))),
            first=conv(2, 4),
            second=conv(2, 4),
            out=matrix(192),
        ),
        "out: reads add, which does not spike; put a spiking layer",
    ),
    "a projection of the sum between pre-activation blocks": (
        lambda: Net(
            lambda m, x: m.out(flat(F.relu(m.third(m.first(x) + m.second(x))))),
            first=conv(2, 4),
            second=conv(2, 4),
            third=conv(4, 4, 1),
            out=matrix(192),
        ),
        "third: reads add, which does not spike; put a spiking layer",
    ),
    "a batch norm between neurons and a convolution": (
        lambda: between(norm(4), conv(4, 4), 192),
        "pool: it normalises the output of relu, a Fire; place each batch norm directly after",
    ),
    "a batch norm of the image": (
        lambda: one_layer(nn.Sequential(norm(2), conv(2, 4)), 192),
        "first.0: it normalises the output of input, a Input; place each batch norm directly",
    ),
    "overlapping pooling before a convolution that pads": (
        lambda: between(nn.AvgPool2d(3, stride=1), conv(4, 3), 3 * 4 * 6),
        "pool: windows of 3 every 1 do not tile 6, and then pads; pool spikes by windows that tile",
    ),
    "pooling that leaves rows out, before a convolution that pads": (
        lambda: between(nn.AvgPool2d(4), conv(4, 3), 3 * 1 * 2),
        "pool: windows of 4 every 4 do not tile 6, and then pads; pool spikes by windows that tile",
    ),
    "pooling after a convolution, over padding of its own": (
        lambda: one_layer(nn.Sequential(conv(2, 4), nn.AvgPool2d(2, padding=1)), 4 * 4 * 5),
        "first.1: pads before it averages; use padding=0",
    ),
    "max pooling": (
        lambda: between(nn.MaxPool2d(2), conv(4, 3), 3 * 3 * 4),
        "pool: MaxPool2d takes a maximum, and a maximum of spikes is no sum",
    ),
    "a matrix over rows of a map": (
        lambda: one_layer(nn.Linear(8, 5), 2 * 6 * 5),
        "first: multiplies the last dimension of a map of shape (2, 6, 8); flatten the map first",
    ),
    "dilation": (
        lambda: one_layer(conv(2, 4, dilation=2), 4 * 4 * 6),
        "first: has dilation (2, 2); use dilation 1",
    ),
    "channels side by side": (
        lambda: Net(
            lambda m, x: m.out(flat(torch.cat([F.relu(m.first(x)), F.relu(m.second(x))], 1))),
            first=conv(2, 2),
            second=conv(2, 2),
            out=matrix(192),
        ),
        "cat: cat joins maps side by side; add maps of equal shape (x + y)",
    ),
    "more pre-activation blocks than copies are allowed": (
        lambda: preactivation(17),
        "first: 18 layers read it before it spikes, and each would need a copy of its 54 weights; "
        "put a spiking layer after the sum of each block, or use fewer blocks in a row",
    ),
    "more spikes in a sum than copies are allowed": (
        lambda: after_first(
            lambda m, s: s + s + s + s + s + s + s + s + s + s + s + s + s + s + s + s + s,
            out=matrix(192),
        ),
        "out: the sum it reads has 17 terms, and each would need a copy of its 576 weights; "
        "put a spiking layer after the sum of some blocks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_place_and_the_way_out(name):
    make, message = REFUSED[name]
    with pytest.raises((InvalidGraph, Unsupported)) as refused:
        compile_graph(spiking(make), Numbers())
    assert message in str(refused.value)


@pytest.mark.parametrize("name", COMPILES)
def test_without_spikes_it_is_told_that_it_does_not_spike(name):
    torch.manual_seed(0)
    graph = from_torch(COMPILES[name]().eval(), input_shape=SHAPE)
    with pytest.raises(InvalidGraph, match="is an ordinary network without spiking layers"):
        compile_graph(graph, WIDE)
