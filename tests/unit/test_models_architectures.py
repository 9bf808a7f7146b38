"""What every architecture promises: it runs, traces, converts, survives a file, and compiles."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import snnc
import torch
from snnc.errors import InvalidSetting, UnknownName
from snnc.frontend.architecture import build
from snnc.frontend.checkpoint import from_module, load_checkpoint, save_checkpoint, to_module
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Granularity, Reset
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.passes import PREPARE, apply
from snnc.simulate.floating import run_graph
from torch import nn

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
RGB = {"mean": [0.5, 0.4, 0.45], "std": [0.25, 0.3, 0.2]}
GREY = {"mean": [0.3], "std": [0.35]}

# name -> arguments that make it tiny, and the shape of its images
TINY = {
    "small_conv": (
        {
            **GREY,
            "channels": [4, 6],
            "kernels": [5, 3],
            "strides": [2, 1],
            "pool_after": [2],
            "size": 16,
        },
        (1, 16, 16),
    ),
    "small_dense": ({**GREY, "hidden": [12, 8], "size": 6}, (1, 6, 6)),
    "vgg11": ({**RGB, "classes": 5, "width": 2, "hidden": 8, "size": 16}, (3, 16, 16)),
    "vgg16": ({**RGB, "classes": 5, "width": 2, "hidden": 8, "size": 32}, (3, 32, 32)),
    "vgg16_hydra": ({**RGB, "classes": 5, "width": 2, "hidden": 8, "size": 16}, (3, 16, 16)),
    "vgg11_tinyimagenet": ({**RGB, "classes": 5, "width": 2, "hidden": 8, "size": 32}, (3, 32, 32)),
    "resnet": ({**RGB, "depth": 8, "classes": 5, "width": 2, "size": 8}, (3, 8, 8)),
    "resnet20": ({**RGB, "classes": 5, "width": 2, "size": 8, "bias": True}, (3, 8, 8)),
    "resnet32": ({**RGB, "classes": 5, "width": 2, "size": 8}, (3, 8, 8)),
    "wideresnet": (
        {**RGB, "depth": 10, "widen": 2, "classes": 5, "width": 2, "size": 8},
        (3, 8, 8),
    ),
    "wrn16_4": ({**RGB, "classes": 5, "width": 1, "size": 8}, (3, 8, 8)),
    "wrn28_2": ({**RGB, "classes": 5, "width": 1, "size": 8}, (3, 8, 8)),
    "wrn28_4": ({**RGB, "classes": 5, "width": 1, "size": 8}, (3, 8, 8)),
}


def registered() -> dict[str, str]:
    """The architectures that the package declares, read from its source."""
    content = tomllib.loads(PYPROJECT.read_text())
    return content["project"]["entry-points"]["snnc.architectures"]


def made(name: str) -> nn.Module:
    """A tiny network with batch statistics of its own; logits differ from image to image."""
    arguments, shape = TINY[name]
    torch.manual_seed(4)
    network = build(registered()[name], arguments, trust=True).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(16, *shape))
        for parameter in network.parameters():
            if parameter.dim() == 0:  # the numbers of a learned sum
                parameter.add_(0.2 * torch.rand(()))
    return network.eval()


def spiking(name: str):
    network = to_spiking(
        made(name),
        input_shape=TINY[name][1],
        steps=2,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    with torch.no_grad():
        for fire in network.fires.values():
            fire.threshold.fill_(0.21)
    return network


def images(name: str, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *TINY[name][1], generator=generator)


def test_every_declared_architecture_is_tried_here():
    assert set(registered()) == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_an_architecture_is_registered_under_the_name_of_its_function(name):
    point = EntryPoint(name=name, value=registered()[name], group="snnc.architectures")
    assert point.load().__name__ == name


@pytest.mark.parametrize("name", TINY)
def test_the_weights_come_from_the_random_stream_of_torch(name):
    arguments, _ = TINY[name]
    function = EntryPoint(name=name, value=registered()[name], group="g").load()
    torch.manual_seed(1)
    one, other = function(**arguments).state_dict(), function(**arguments).state_dict()
    torch.manual_seed(1)
    again = function(**arguments).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["readout.weight"], other["readout.weight"])


@pytest.mark.parametrize("name", TINY)
def test_the_graph_computes_what_the_network_computes(name):
    network, x = made(name).double(), images(name).double()
    with torch.no_grad():
        logits = network(x)
    graph = from_torch(network, input_shape=TINY[name][1])
    # float64: the two differ in the order of their sums only
    np.testing.assert_allclose(run_graph(graph, x.numpy()), logits, rtol=0, atol=1e-10)
    assert logits.std(0).min() > 0


@pytest.mark.parametrize("name", TINY)
def test_the_spiking_network_gives_logits_and_its_graph_the_same(name):
    network, x = spiking(name).double(), images(name).double()
    with torch.no_grad():
        logits = network(x)
    graph = from_torch(network, input_shape=TINY[name][1])
    assert torch.isfinite(logits).all()
    assert logits.std(0).max() > 0  # some neuron of the last layer answers to the image
    # float64: no membrane is within 1e-10 of its threshold, so not one spike differs
    np.testing.assert_allclose(run_graph(graph, x.numpy()), logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", TINY)
def test_both_kinds_of_network_survive_a_checkpoint(name, tmp_path):
    arguments, shape = TINY[name]
    for kind, network in (("ann", made(name)), ("snn", spiking(name))):
        path = tmp_path / f"{kind}.pt"
        checkpoint = from_module(
            network,
            architecture=registered()[name],
            arguments=arguments,
            input_shape=shape,
            class_names=(),
            provenance={},
        )
        save_checkpoint(path, checkpoint, force=False)
        loaded = to_module(load_checkpoint(path), trust=True)
        with torch.no_grad():
            assert torch.equal(loaded(images(name)), network(images(name)))


@pytest.mark.parametrize("name", TINY)
def test_it_compiles_to_one_population_for_each_nonlinearity(name):
    network = spiking(name)
    program = snnc.compile(network, target="reference")
    trace = snnc.run(program, images(name).numpy(), engine="numpy")
    assert len(program.layers) == len(network.fires)
    assert trace.logits.shape == (4, 10 if name.startswith("small") else 5)


@pytest.mark.parametrize("name", TINY)
def test_the_passes_that_prepare_it_keep_its_logits(name):
    network, x = spiking(name).double(), images(name).double()
    graph = from_torch(network, input_shape=TINY[name][1])
    with torch.no_grad():
        logits = network(x)
    prepared = run_graph(apply(PREPARE, graph), x.numpy())
    # float64, and again no membrane that close to its threshold
    np.testing.assert_allclose(prepared, logits, rtol=0, atol=1e-10)


def test_a_misspelt_architecture_gets_a_suggestion():
    with pytest.raises(UnknownName, match="no architecture named 'smal_conv'; did you mean"):
        build("smal_conv", {}, trust=False)


@pytest.mark.parametrize("name", sorted(set(TINY) - {"small_conv"}))
def test_a_missing_argument_is_named(name):
    with pytest.raises(InvalidSetting, match="missing .* required keyword-only argument.*'mean'"):
        build(registered()[name], {}, trust=True)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"classes": 0}, "classes is 0, give a whole number above 0"),
        ({"size": 2.5}, "size is 2.5, give a whole number above 0"),
        ({"std": [0.5, 0.5, 0.5, 0.5]}, "standard deviations"),
    ],
)
def test_numbers_that_make_no_network_are_refused(name, wrong, fact):
    arguments, _ = TINY[name]
    with pytest.raises(InvalidSetting, match=fact):
        build(registered()[name], {**arguments, **wrong}, trust=True)
