"""What the torch frontend refuses: with the place, the reason, the way out, and all at once."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from snnc.errors import InvalidGraph, InvalidSetting, Unsupported
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import Fire
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from torch import nn
from torch.nn.utils import parametrizations, prune

IMAGE = (4, 8, 6)


class Calls(nn.Module):
    """A network whose forward pass is a function of the module; it owns a few layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.twin = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 8 * 6, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.function(self, x)


def issues(network: nn.Module, shape: tuple[int, ...] = IMAGE):
    with pytest.raises(Unsupported) as caught:
        from_torch(network, input_shape=shape)
    return caught.value.issues


LAYERS = {
    "max pooling": (nn.MaxPool2d(2), "a maximum of spikes is no sum", "nn.AvgPool2d"),
    "adaptive max pooling": (nn.AdaptiveMaxPool2d(1), "maximum", "average pooling"),
    "dilation": (nn.Conv2d(4, 4, 3, dilation=2), r"dilation \(2, 2\)", "dilation 1"),
    "padding mode": (nn.Conv2d(4, 4, 3, padding_mode="circular"), "'circular'", "zeros"),
    "padding 'same' of an even kernel": (nn.Conv2d(4, 4, 2, padding="same"), "two sides", "odd"),
    "statistics of the batch": (
        nn.BatchNorm2d(4, track_running_stats=False),
        "no running statistics",
        "track_running_stats=True",
    ),
    "pooling with padding": (nn.AvgPool2d(3, padding=1), "pads before", "padding=0"),
    "pooling over the border": (nn.AvgPool2d(3, ceil_mode=True), "border", "ceil_mode=False"),
    "pooling with a divisor": (nn.AvgPool2d(2, divisor_override=3), "divides by 3", "leave out"),
    "uneven adaptive pooling": (nn.AdaptiveAvgPool2d(5), "different sizes", "divides"),
    "sigmoid": (nn.Sigmoid(), "Sigmoid is a nonlinearity", "nn.ReLU"),
    "leaky relu": (nn.LeakyReLU(), "LeakyReLU is a nonlinearity", "nn.ReLU"),
    "softmax": (nn.Softmax(dim=1), "probabilities", "return the logits"),
    "group norm": (nn.GroupNorm(2, 4), "statistics of each image", "nn.BatchNorm2d"),
    "transposed convolution": (nn.ConvTranspose2d(4, 4, 2), "enlarges", "stride"),
    "upsampling": (nn.Upsample(scale_factor=2), "enlarges", "resolution"),
    "padding layer": (nn.ZeroPad2d(1), "pads outside", "nn.Conv2d"),
    "something unheard of": (nn.Fold((8, 6), 1), "has no rule", "use Conv2d"),
    "linear on a map": (nn.Linear(6, 6), "last dimension", "flatten"),
    "computed weights": (
        parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        "computes its weights",
        "remove_parametrizations",
    ),
}


@pytest.mark.parametrize(("layer", "problem", "remedy"), LAYERS.values(), ids=LAYERS.keys())
def test_an_unsupported_layer_is_refused_with_its_path_and_the_way_out(layer, problem, remedy):
    network = nn.Sequential(nn.Sequential(nn.Identity(), layer), nn.Flatten())
    if isinstance(layer, nn.Fold):
        network = nn.Sequential(nn.Sequential(nn.Flatten(2), layer), nn.Flatten())
        (_, found) = issues(network)
    else:
        (found,) = issues(network)
    assert found.layer == "0.1"
    assert re.search(problem, found.problem)
    assert re.search(remedy, found.remedy)


FUNCTIONS = {
    "F.max_pool2d": (lambda m, x: F.max_pool2d(x, 2).flatten(1), "maximum"),
    "max over a dimension": (lambda m, x: x.max(dim=1)[0].flatten(1), "maximum"),
    "torch.cat": (lambda m, x: torch.cat([m.conv(x), x], 1).flatten(1), "joins maps"),
    "product of maps": (lambda m, x: (m.conv(x) * x).flatten(1), "multiplies or divides two maps"),
    "quotient of maps": (lambda m, x: (m.conv(x) / x).flatten(1), "multiplies or divides two maps"),
    "difference of maps": (lambda m, x: (m.conv(x) - x).flatten(1), "subtracts maps"),
    "c - x": (lambda m, x: (1 - x).flatten(1), "subtracts a map from a constant"),
    "1 / x": (lambda m, x: (1 / x).flatten(1), "divides by a map"),
    "sum with alpha": (lambda m, x: torch.add(m.conv(x), x, alpha=2).flatten(1), "alpha=2"),
    "sum of unequal maps": (
        lambda m, x: (m.conv(x) + m.twin(x).mean((2, 3), keepdim=True)).flatten(1),
        "adds maps of shapes",
    ),
    "constant inside": (lambda m, x: (m.conv(x) + 0.5).flatten(1), "in the middle of the network"),
    "negative scale": (lambda m, x: (x * -1.0).flatten(1), "not positive"),
    "constant for each pixel": (
        lambda m, x: (x - torch.ones(8, 6)).flatten(1),
        r"constant of shape \(8, 6\)",
    ),
    "constant for each column": (
        lambda m, x: (x - torch.ones(6)).flatten(1),
        r"constant of shape \(6,\)",
    ),
    "mean over channels": (lambda m, x: x.mean(1).flatten(1), "averages over dim=1"),
    "mean over channels and height": (lambda m, x: x.mean((1, 2)), r"averages over dim=\(1, 2\)"),
    "mean over everything": (lambda m, x: x.mean().expand(1, 3), "mixes images"),
    "a fixed batch": (lambda m, x: m.linear(x.view(2, -1)), "fixes the batch size"),
    "flatten of the batch": (lambda m, x: m.conv(x).flatten(), "mixes images"),
    "images side by side": (
        lambda m, x: m.conv(x).transpose(0, 1).contiguous().view(x.size(0), -1),
        "transpose has no rule",
    ),
    "two rows for an image": (lambda m, x: x.view(-1, 96), r"mixes images: a batch of 2"),
    "a partial reshape": (lambda m, x: x.reshape(x.size(0), 8, -1).flatten(1), "reshapes"),
    "dropout that is always on": (lambda m, x: F.dropout(x).flatten(1), "at inference too"),
    "functional batch statistics": (
        lambda m, x: F.batch_norm(x, None, None, training=True).flatten(1),
        "no running statistics",
    ),
    "weights made of the image": (
        lambda m, x: F.conv2d(m.conv(x), x[:1]).flatten(1),
        "getitem has no rule",
    ),
    "noise": (lambda m, x: (x + torch.randn_like(x)).flatten(1), "randn_like has no rule"),
    "an argument without a rule": (
        lambda m, x: torch.div(x, 2.0, rounding_mode="floor").flatten(1),
        "arguments that have no rule",
    ),
    "gelu": (lambda m, x: F.gelu(m.conv(x)).flatten(1), "gelu is a nonlinearity"),
    "clamp": (lambda m, x: m.conv(x).clamp(0, 1).flatten(1), "clamp is a nonlinearity"),
    "a map as the result": (lambda m, x: m.conv(x), r"returns shape \(4, 8, 6\)"),
    "two results": (lambda m, x: (m.conv(x), x), "does not return one tensor"),
    "no use of the image": (lambda m, x: m.conv.bias + 1, "returns no map of the image"),
}


@pytest.mark.parametrize(("function", "problem"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_an_unsupported_function_is_refused(function, problem):
    found = issues(Calls(function))
    assert re.search(problem, found[0].problem)
    assert found[0].remedy


def test_everything_unsupported_is_listed_at_once():
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh()),
        nn.Flatten(),
        nn.LayerNorm(8),
        nn.Softmax(dim=1),
    )
    with pytest.raises(Unsupported) as caught:
        from_torch(network, input_shape=IMAGE)
    assert [issue.layer for issue in caught.value.issues] == ["0", "1", "2.1", "4", "5"]
    assert str(caught.value).startswith("cannot convert Sequential:\n  0: has dilation (2, 2); use")


@pytest.mark.parametrize(
    ("function", "owner"),
    [
        (lambda m, x: m.conv(m.conv(x)).flatten(1), "an earlier call of itself"),
        (lambda m, x: m.norm(m.conv(m.norm(x))).flatten(1), "an earlier call of itself"),
        (lambda m, x: F.conv2d(m.conv(x), m.conv.weight).flatten(1), "conv"),
    ],
)
def test_weights_used_at_two_places_are_refused(function, owner):
    (found,) = issues(Calls(function))
    assert found.code == "weight-sharing"
    assert f"shares its weights with {owner}," in found.problem
    assert "a module of its own" in found.remedy


def test_a_parameter_tied_between_two_modules_is_refused():
    network = Calls(lambda m, x: m.twin(m.conv(x)).flatten(1))
    network.twin.weight = network.conv.weight
    (found,) = issues(network)
    assert (found.layer, found.code) == ("twin", "weight-sharing")


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


def test_control_flow_on_the_data_is_refused_where_the_user_wrote_it():
    (found,) = issues(nn.Sequential(nn.Sequential(Branches()), nn.Flatten()))
    assert (found.layer, found.code) == ("0.0", "control-flow")
    assert "test_frontend_refusals.py:" in found.problem
    assert "if x.sum() > 0" in found.problem


@pytest.mark.parametrize(
    ("function", "fact"),
    [
        (lambda m, x: torch.zeros(len(x)), "len"),
        (lambda m, x: x.flatten(1) * float(x.mean()), "cannot be traced"),
        (lambda m, x: m.missing(x), "missing"),
    ],
)
def test_what_cannot_be_traced_says_why(function, fact):
    (found,) = issues(Calls(function))
    assert found.code == "not-traceable"
    assert fact in found.problem
    assert "\n" not in found.problem


def overwrite_through_a_view(m, x):
    y = m.conv(x)
    flat = y.flatten(1)
    F.relu(y, inplace=True)
    return m.linear(flat)


def overwrite_by_augmented_sum(m, x):
    y = m.conv(x)
    kept = y  # the same tensor, so it changes too; fx alone would record the old value
    y += m.twin(x)
    return (y + kept).flatten(1)


def overwrite_by_module(m, x):
    y = m.conv(x)
    return (m.relu(y) + y).flatten(1)


@pytest.mark.parametrize(
    "function",
    [
        overwrite_through_a_view,
        overwrite_by_augmented_sum,
        overwrite_by_module,
        lambda m, x: (lambda y: y.relu_() + y)(m.conv(x)).flatten(1),
        lambda m, x: (lambda y: y.add_(x) + y)(m.conv(x)).flatten(1),
        lambda m, x: (lambda y: F.relu(y, True) + y)(m.conv(x)).flatten(1),
    ],
)
def test_a_value_overwritten_while_it_is_still_read_is_refused(function):
    (found,) = issues(Calls(function))
    assert found.code == "in-place"
    assert "changes its input in place" in found.problem


def test_hooks_are_refused_with_the_way_to_make_a_pruned_weight_permanent():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten())
    prune.l1_unstructured(network[0], "weight", amount=0.5)
    (found,) = issues(network)
    assert (found.layer, found.code) == ("0", "hook")
    assert "torch.nn.utils.prune.remove" in found.remedy
    prune.remove(network[0], "weight")
    from_torch(network, input_shape=IMAGE)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


def test_a_second_input_is_refused():
    (found,) = issues(TwoInputs())
    assert (found.layer, found.code) == ("y", "inputs")


def test_images_of_the_wrong_shape_are_refused_at_the_layer_that_fails():
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(99, 3))
    (found,) = issues(network)
    assert (found.layer, found.code) == ("2", "shape")
    assert "fails on a batch of shape (2, 96)" in found.problem


@pytest.mark.parametrize("shape", [(), (3, 4), (0, 8, 8), (1, -1, 3)])
def test_an_input_shape_that_is_none_is_refused(shape):
    with pytest.raises(InvalidSetting, match="input shape"):
        from_torch(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_shape=shape)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_broken_weight_is_refused_and_names_the_layer(value):
    network = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4 * 8 * 6, 3)))
    with torch.no_grad():
        network[1][0].weight[1, 2] = value
    with pytest.raises(InvalidGraph, match=r"1\.0: weight holds NaN or infinity"):
        from_torch(network, input_shape=IMAGE)


def spiking(steps: int) -> nn.Module:
    return to_spiking(
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
        input_shape=(4,),
        steps=steps,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )


def test_steps_that_contradict_the_network_are_refused():
    with pytest.raises(InvalidSetting, match="4 steps were asked for, the network runs 1"):
        from_torch(nn.Sequential(nn.Linear(4, 2)), input_shape=(4,), steps=4)
    with pytest.raises(InvalidSetting, match="3 steps were asked for, the network runs 8"):
        from_torch(spiking(8), input_shape=(4,), steps=3)
    assert from_torch(spiking(8), input_shape=(4,), steps=8).steps == 8


def test_spiking_layers_that_disagree_on_the_steps_are_refused():
    def fire(steps):
        return Fire(
            threshold=torch.tensor(1.0),
            granularity=Granularity.LAYER,
            reset=Reset.ZERO,
            keep=1.0,
            steps=steps,
            surrogate=TRIANGLE,
        )

    network = nn.Sequential(nn.Linear(4, 4), fire(2), nn.Linear(4, 4), fire(3))
    with pytest.raises(InvalidSetting, match=r"disagree on the number of steps: \[2, 3\]"):
        from_torch(network, input_shape=(4,))


def test_a_relu_left_in_a_spiking_network_is_refused():
    network = spiking(2)
    network.body.add_submodule("2", nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    with pytest.raises(InvalidGraph, match="a ReLU in a spiking network"):
        from_torch(network, input_shape=(4,))
