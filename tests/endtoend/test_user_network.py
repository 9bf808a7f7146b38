"""A network that inherits nothing of ours goes from nn.Module to a build that runs on Lava."""

import numpy as np
import pytest
import torch
from snnc import data
from snnc.api import compile, run
from snnc.evaluate.agreement import agreement
from snnc.ir.weights import stored, unpack
from snnc.semantics.encode import encode
from snnc.simulate import reference
from snnc.targets.build import load_build
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A stem, a block with an identity shortcut, one with a projected shortcut, pooling."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.3]).view(1, 1, 1))
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(6)
        self.first = nn.Conv2d(6, 6, 3, padding=1)
        self.first_norm = nn.BatchNorm2d(6)
        self.pool = nn.AvgPool2d(2)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(6, 8, 1)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):
        x = self.relu(self.stem_norm(self.stem((x - self.mean) / 0.4)))
        x = self.pool(F.relu(self.first_norm(self.first(x)) + x))
        x = self.relu(self.second(x) + self.shortcut(x))
        return self.head(self.drop(torch.flatten(x, 1)))


@pytest.fixture(scope="module")
def spiking(lively):
    """Return the network with some weights pruned and thresholds that let it spike."""
    torch.manual_seed(0)
    network = Residual()
    with torch.no_grad():
        for weight in (network.first.weight, network.second.weight, network.head.weight):
            weight[torch.rand_like(weight) < 0.8] = 0.0
    return lively(network)


def images(count):
    return data.load("digits").test.take(count).images


def test_the_integers_do_what_the_float_network_does(spiking):
    network = spiking
    program = compile(network, target="reference")
    trace = run(program, images(100), engine="fast")
    with torch.no_grad():
        floats = network(torch.from_numpy(images(100))).argmax(1).numpy()
    # untrained logits lie close together, so rounding may swap a few
    assert np.mean(trace.predictions == floats) >= 0.9
    assert all(0.01 < layer.spikes.mean() / layer.neurons < 1 for layer in trace.layers)


@pytest.fixture(scope="module")
def build(tmp_path_factory, spiking):
    directory = tmp_path_factory.mktemp("user") / "build"
    compile(spiking, target="loihi", directory=directory)
    return load_build(directory)


def test_it_becomes_a_build_that_keeps_names_and_zeros(build):
    names = [population.name for population in build.program.populations]
    assert names == ["stem", "first", "second", "head"]
    assert all(name in (build.directory / "network.py").read_text() for name in names)
    weights = {b.name: b.weight for p in build.program.populations for b in p.synapses}
    assert stored(weights["head"]).all()  # CSR: pruned weights are not there at all
    for name in ("second", "head"):
        pruned = unpack(build.graph[name].op.weight) == 0
        after = unpack(weights[name])
        if after.shape == pruned.shape:
            assert (after[pruned] == 0).all()


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_the_build_runs_on_lava_spike_for_spike(build):
    expected = reference.run(build.program, _codes(build, 6), raster=True)
    trace = run(build, images(6), engine="target", raster=True)
    compared = agreement(expected, trace)
    assert compared.exact, compared.first


def _codes(build, count):
    return encode(build.program.input, images(count))
