"""A pre-activation residual network, between whose blocks numbers run, goes to a build for Lava."""

import numpy as np
import pytest
import snnc
import torch
from snnc import data
from snnc.evaluate.agreement import agreement
from snnc.ir.weights import stored
from snnc.passes.copies import copied, copied_weights
from snnc_models.wideresnet import wideresnet
from torch import nn


@pytest.fixture(scope="module")
def spiking(lively):
    """Return three groups of two blocks, normalised as after training, thresholds of 0.3."""
    torch.manual_seed(0)
    network = wideresnet(
        depth=16, widen=2, classes=10, mean=[0.3], std=[0.4], size=8, width=2
    ).eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.2)
    return lively(network)


def images(count):
    return data.load("digits").test.take(count).images


@pytest.fixture(scope="module")
def build(tmp_path_factory, spiking):
    directory = tmp_path_factory.mktemp("preactivation") / "build"
    snnc.compile(spiking, target="loihi", directory=directory)
    return snnc.load_build(directory)


def test_the_integers_of_every_simulator_are_the_same_and_decide_as_the_floats(build, spiking):
    trace = snnc.run(build, images(60), engine="numpy", raster=True)
    for engine in ("fast", "torch"):
        other = snnc.run(build, images(60), engine=engine, raster=True)
        assert agreement(trace, other).exact
    assert all(0.01 < layer.spikes.mean() / layer.neurons / 8 < 1 for layer in trace.layers)
    with torch.no_grad():
        floats = spiking(torch.from_numpy(images(60))).argmax(1).numpy()
    # untrained logits lie close together, so rounding may swap a few
    assert np.mean(trace.predictions == floats) >= 0.85


def test_the_reference_target_gets_the_same_integers(build, spiking):
    program = snnc.compile(spiking, target="reference")
    mine, theirs = (snnc.run(p, images(5), raster=True) for p in (program, build))
    assert agreement(mine, theirs).exact


def test_the_build_says_what_the_shared_sums_cost(build):
    # In each group the second sum reads the first: what follows gets both branches of the
    # first block, a second time.
    assert copied(build.program) == {
        f"{reader}.group{group}.block1.{name}": f"group{group}.block1.{name}"
        for group, reader in ((1, "group2.block1.relu1"), (2, "group3.block1.relu1"), (3, "relu2"))
        for name in ("shortcut", "branch.conv2")
    }
    bundles = {b.name: b for p in build.program.populations for b in p.synapses}
    assert copied_weights(build.program) == sum(
        int(np.count_nonzero(stored(bundles[name].weight))) for name in copied(build.program)
    )


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_it_runs_on_lava_spike_for_spike(build):
    expected = snnc.run(build, images(3), engine="numpy", raster=True)
    compared = agreement(expected, snnc.run(build, images(3), engine="target", raster=True))
    assert compared.exact, compared.first
