"""What is computed once against a body that runs on T copies of the images."""

import copy

import pytest
import torch
from snnc.ir.graph import Granularity, Reset
from snnc.learn import overtime, winograd
from snnc.learn.overtime import repeated
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from torch import nn

STEPS = 4


class Shortcut(nn.Module):
    """What stands before the first spike is read by two layers of neurons and a sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.readout = nn.Linear(64, 3)

    def forward(self, images):
        stem = self.norm(self.first((images - 0.5) / 0.25))
        x = self.relu(stem)
        x = self.relu(self.second(x) + stem)
        return self.readout(x.view(x.size(0), -1))


def plain():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )


def spiking(network, seed=0):
    for parameter in network.parameters():
        nn.init.normal_(
            parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel() + seed)
        )
    return to_spiking(
        network.double(),
        input_shape=(1, 4, 4),
        steps=STEPS,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )


def images(samples=5):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(samples, 1, 4, 4, dtype=torch.float64, generator=generator)


def over_copies(network, x):
    return network.body(repeated(x, STEPS)).unflatten(0, (STEPS, -1)).mean(0)


def close(ours, true):
    # float64 in another order of sums
    torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [Shortcut, plain])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_logits_gradients_and_statistics_are_those_of_all_the_copies(make, training, momentum):
    once = spiking(make()).train(training)
    for module in once.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = momentum
    copies = copy.deepcopy(once)
    for x in (images(), images() * 0.7):  # twice: a running mean over batches counts them
        left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
        ours, true = once(left), over_copies(copies, right)
        close(ours, true)
        for each in (ours, true):
            (each.square().sum()).backward()
        close(left.grad, right.grad)
    for ours, true in zip(once.parameters(), copies.parameters(), strict=True):
        close(ours.grad, true.grad)
    for name, buffer in once.named_buffers():
        close(buffer, copies.get_buffer(name))


def test_one_value_for_each_channel_is_a_batch_once_it_is_copied():
    once = spiking(plain()).train()
    copies = copy.deepcopy(once)
    close(once(images(1)), over_copies(copies, images(1)))
    for name, buffer in once.named_buffers():
        close(buffer, copies.get_buffer(name))


def test_what_comes_before_the_spikes_sees_each_image_once():
    network, rows = spiking(Shortcut()), {}
    for name in ("first", "second"):
        network.body.get_submodule(name).register_forward_hook(
            lambda _m, inputs, _y, name=name: rows.update({name: len(inputs[0])})
        )
    network(images())
    assert rows == {"first": 5, "second": 5 * STEPS}


def test_dropout_before_the_spikes_draws_anew_for_every_step():
    network = spiking(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.ReLU())).train()
    seen = []
    fire = next(iter(network.fires.values()))
    fire.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0]))
    torch.manual_seed(0)
    network(images())
    steps = seen[0].unflatten(0, (STEPS, -1))
    assert not torch.equal(steps[0], steps[1])


def test_in_bfloat16_spikes_are_exact_and_logits_are_float32():
    network = spiking(Shortcut()).float()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images().float())
    assert logits.dtype == torch.float32


def test_two_training_passes_can_be_differentiated_together():
    network = spiking(Shortcut()).train()
    (network(images()).sum() + network(images() * 0.5).sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_wide_convolution_is_computed_in_winograds_way_and_keeps_its_bias(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    wide = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
    network = spiking(nn.Sequential(*wide, nn.ReLU(), nn.Flatten())).float()
    calls, currents = [], []
    monkeypatch.setattr(
        overtime, "convolve", lambda x, w: calls.append(len(x)) or winograd.convolve(x, w)
    )
    last = list(network.fires.values())[-1]
    last.register_forward_hook(lambda _m, inputs, _y: currents.append(inputs[0]))
    network(images().float())
    over_copies(network, images().float())
    ours, true = currents
    assert calls == [5 * STEPS]
    assert (ours - true).abs().max() < 1e-4 * true.std()  # as in the tests of `winograd`
