"""A state dict of the released spiking VGG-11 computes the same logits here.

`published_logits` is the released network written down again from its description: time in
a loop, one layer after the other, by the names of its tensors. Nothing of it is shared with
the code under test.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
import snnc
import torch
import torch.nn.functional as F
from snnc.errors import Refusal, SnncError
from snnc.frontend import torchfile
from snnc.frontend.checkpoint import load_checkpoint, save_checkpoint, to_module
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Reset
from snnc_models.published import NORMALISATION, from_published
from snnc_models.vgg import vgg11

CONVOLUTIONS = {0: 1, 4: 2, 7: 4, 11: 8, 14: 8, 17: 8, 21: 8, 24: 8}  # place -> channels / width
POOLINGS = (3, 10, 20)
STEPS = 8
CIFAR10 = NORMALISATION["cifar10"]


def published_shapes(
    *, width: int, hidden: int, size: int, classes: int, bias: bool
) -> dict[str, tuple[int, ...]]:
    """The released names and the shapes behind them; the released width is 64, hidden 4096."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = 3
    for place, multiple in CONVOLUTIONS.items():
        after = width * multiple
        shapes[f"features.{place}.weight"] = (after, before, 3, 3)
        if bias:
            shapes[f"features.{place}.bias"] = (after,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"features.{place + 1}.{part}"] = (after,)
        shapes[f"features.{place + 1}.num_batches_tracked"] = ()
        shapes[f"features.{place + 2}.v_th"] = ()
        before = after
    before *= (size // 8) ** 2
    for place, after in ((1, hidden), (4, hidden), (7, classes)):
        shapes[f"classifier.{place}.weight"] = (after, before)
        if bias:
            shapes[f"classifier.{place}.bias"] = (after,)
        if place != 7:
            shapes[f"classifier.{place + 1}.v_th"] = ()
        before = after
    return shapes


def narrow(
    *, width: int = 4, hidden: int = 16, size: int = 16, bias: bool = False, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random tensors under the released names, such that every layer fires now and then."""
    generator = torch.Generator().manual_seed(seed)
    shapes = published_shapes(width=width, hidden=hidden, size=size, classes=10, bias=bias)
    state = {}
    for name, shape in shapes.items():
        part = name.rpartition(".")[2]
        if part == "num_batches_tracked":
            state[name] = torch.tensor(7)
        elif part == "v_th":
            state[name] = 0.1 + 0.5 * torch.rand((), generator=generator)
        elif part == "running_var" or (part == "weight" and len(shape) == 1):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        elif part == "weight":
            fan_in = prod(shape[1:])
            state[name] = 2 * torch.randn(shape, generator=generator) / fan_in**0.5
        else:
            state[name] = 0.1 * torch.randn(shape, generator=generator)
    state["classifier.2.v_th"] = torch.tensor(0.01)  # runs as 0.03
    return state


def published_logits(
    state: dict[str, torch.Tensor], images: torch.Tensor, *, soft_reset: bool
) -> tuple[torch.Tensor, list[float]]:
    """Return the logits (N, classes) and the firing rate of each layer, in float64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    rates = []

    def neurons(merged: torch.Tensor, v_th: torch.Tensor) -> torch.Tensor:
        v_th = max(float(v_th), 0.03)
        currents = merged.view(STEPS, -1, *merged.shape[1:])
        v, spikes = torch.zeros_like(currents[0]), []
        for current in currents:
            v = v + current
            fired = (v - v_th >= 0).double()
            v = v - fired * v_th if soft_reset else (1 - fired) * v
            spikes.append(fired)
        rates.append(float(torch.stack(spikes).mean()))
        return torch.stack(spikes).flatten(0, 1)

    mean = torch.tensor(CIFAR10["mean"]).double()[None, :, None, None]
    std = torch.tensor(CIFAR10["std"]).double()[None, :, None, None]
    x = ((images - mean) / std)[None].repeat(STEPS, 1, 1, 1, 1).flatten(0, 1)
    for place in range(27):
        if place in POOLINGS:
            x = F.avg_pool2d(x, 2)
        elif place in CONVOLUTIONS:
            name, norm = f"features.{place}", f"features.{place + 1}"
            x = F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=1)
            x = F.batch_norm(
                x,
                state[f"{norm}.running_mean"],
                state[f"{norm}.running_var"],
                state[f"{norm}.weight"],
                state[f"{norm}.bias"],
            )
            x = neurons(x, state[f"features.{place + 2}.v_th"])
    x = x.flatten(1)
    for place in (1, 4, 7):
        name = f"classifier.{place}"
        x = F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))
        if place != 7:
            x = neurons(x, state[f"classifier.{place + 1}.v_th"])
    return x.view(STEPS, -1, x.shape[1]).mean(0), rates


def images(size: int, count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.rand(count, 3, size, size, generator=generator)


def read(state: object, **changes: object):
    arguments = {"steps": STEPS, "reset": Reset.ZERO, **CIFAR10, **changes}
    return from_published(state, **arguments)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reset", [Reset.ZERO, Reset.SUBTRACT])
@pytest.mark.parametrize(("size", "seed"), [(16, 0), (32, 1)])
def test_both_formulations_give_the_same_logits(bias, reset, size, seed):
    state = narrow(bias=bias, size=size, seed=seed)
    expected, rates = published_logits(
        state, images(size).double(), soft_reset=reset is Reset.SUBTRACT
    )
    network = to_module(read(state, reset=reset)).double()
    with torch.no_grad():
        logits = network(images(size).double())
    assert min(rates) > 0.01  # every layer has its say
    assert expected.std(0).min() > 0.01
    # float64: sums may differ in their order, by 1e-13; a spike that fell on the other side
    # of its threshold for that would move a logit by 1e-2
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_the_two_lines_of_the_documentation_make_a_checkpoint_that_compiles(tmp_path):
    released = tmp_path / "RFGSM.pth"
    torch.save(narrow(), released)
    checkpoint = from_published(
        torchfile.read(Path(released)), steps=8, reset=Reset.ZERO, **NORMALISATION["cifar10"]
    )
    save_checkpoint(tmp_path / "model.pt", checkpoint, force=False)

    loaded = load_checkpoint(tmp_path / "model.pt")
    network = to_module(loaded)
    assert loaded.input_shape == (3, 16, 16)
    assert network.steps == 8
    program = snnc.compile(network, target="reference")
    assert [layer.name for layer in program.layers] == [
        *(f"conv{number}" for number in range(1, 9)),
        "linear9",
        "linear10",
    ]
    thresholds = [
        float(node.op.threshold)
        for node in from_torch(network, input_shape=(3, 16, 16)).nodes
        if node.name.startswith("relu")
    ]
    assert thresholds[8] == pytest.approx(0.03, abs=1e-8)  # float32
    assert np.argmin(thresholds) == 8


def test_the_mapping_fits_the_released_width():
    shapes = published_shapes(width=64, hidden=4096, size=32, classes=100, bias=True)
    state = {
        name: torch.zeros(
            (), dtype=torch.int64 if name.endswith("tracked") else torch.float32
        ).expand(shape)  # no memory
        for name, shape in shapes.items()
    }
    checkpoint = read(state)
    with torch.device("meta"):
        wanted = vgg11(**checkpoint.arguments).state_dict()
    got = {name.removeprefix("body."): tensor.shape for name, tensor in checkpoint.state.items()}
    thresholds = {f"relu{number}.threshold": torch.Size() for number in range(1, 11)}
    assert got == {name: tensor.shape for name, tensor in wanted.items()} | thresholds
    assert checkpoint.arguments["width"] == 64
    assert checkpoint.arguments["hidden"] == 4096
    assert checkpoint.arguments["classes"] == 100
    assert checkpoint.input_shape == (3, 32, 32)


def test_the_tensors_are_those_of_the_file():
    state = narrow()
    checkpoint = read(state)
    assert torch.equal(checkpoint.state["body.conv4.weight"], state["features.11.weight"])
    assert torch.equal(checkpoint.state["body.norm4.bias"], state["features.12.bias"])
    assert torch.equal(checkpoint.state["body.relu4.threshold"], state["features.13.v_th"])
    assert torch.equal(checkpoint.state["body.linear10.weight"], state["classifier.4.weight"])
    assert torch.equal(checkpoint.state["body.relu10.threshold"], state["classifier.5.v_th"])
    assert torch.equal(checkpoint.state["body.readout.weight"], state["classifier.7.weight"])


def issues(state: object, **changes: object) -> dict[str, str]:
    with pytest.raises(Refusal, match="cannot read this as the spiking vgg11_bn") as caught:
        read(state, **changes)
    return {issue.layer: issue.problem for issue in caught.value.issues}


def test_every_missing_and_every_unknown_name_is_listed():
    state = narrow()
    del state["features.4.weight"], state["classifier.5.v_th"]
    state["features.40.weight"] = state["fc"] = torch.zeros(3)
    assert issues(state) == {
        "features.4.weight": "is missing",
        "classifier.5.v_th": "is missing",
        "features.40.weight": "is no tensor of this network",
        "fc": "is no tensor of this network",
    }


def test_a_network_that_was_not_converted_lacks_its_thresholds():
    state = {name: t for name, t in narrow().items() if not name.endswith("v_th")}
    found = issues(state)
    assert set(found.values()) == {"is missing"}
    assert len(found) == 10


def test_a_single_bias_asks_for_all_of_them():
    state = narrow() | {"classifier.7.bias": torch.zeros(10)}
    found = issues(state)
    assert set(found.values()) == {"is missing"}
    assert len(found) == 10
    assert "features.24.bias" in found


def test_wrong_shapes_types_and_values_are_listed():
    state = narrow()
    state["features.14.weight"] = torch.zeros(32, 32, 5, 5)
    state["features.2.v_th"] = torch.ones(16)
    state["features.6.v_th"] = torch.tensor(float("nan"))
    state["classifier.4.weight"] = state["classifier.4.weight"].half()
    assert issues(state) == {
        "features.2.v_th": "has shape (16,), not ()",
        "features.6.v_th": "holds NaN or infinity",
        "features.14.weight": "has shape (32, 32, 5, 5), not (32, 32, 3, 3)",
        "classifier.4.weight": "has type torch.float16, not torch.float32",
    }


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("features.0.weight", (4, 3)),
        ("classifier.1.weight", ()),
        ("classifier.7.weight", (10, 16, 1, 1)),
    ],
)
def test_a_shape_from_which_no_size_can_be_read_is_refused(name, shape):
    assert list(issues(narrow() | {name: torch.zeros(shape)})) == [name]


@pytest.mark.parametrize("shape", [(0, 3, 3, 3), (8, 3, 3, 3)])
def test_a_width_that_contradicts_the_rest_is_refused(shape):
    with pytest.raises(SnncError):
        read(narrow() | {"features.0.weight": torch.zeros(shape)})


def test_grey_normalisation_of_a_colour_network_is_refused():
    assert issues(narrow(), mean=(0.5,), std=(0.5,)) == {
        "features.0.weight": "has shape (4, 3, 3, 3), not (4, 1, 3, 3)"
    }


@pytest.mark.parametrize("state", [[], None, {"epoch": 3}])
def test_what_is_no_state_dict_is_refused(state):
    assert list(issues(state)) == ["state dict"]
