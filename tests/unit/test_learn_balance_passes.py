"""Front-to-back calibration against its definition, which runs everything for every layer."""

import copy

import pytest
import torch
import torch.nn.functional as F
from snnc.errors import TrainingFailed
from snnc.ir.graph import Granularity, Reset
from snnc.learn.calibration import Calibration, shared
from snnc.learn.calibration_moments import Moments
from snnc.learn.calibration_spikes import PackedSpikes
from snnc.learn.neurons import Fire, expand
from snnc.learn.percentile import percentile
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from torch import fx, nn

STEPS = 5
SHAPE = (2, 6, 6)
RHO = 80.0


class Vgg(nn.Module):
    """Convolutions with batch norm, two batch norms in sequence, pooling, a hidden matrix."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.AvgPool2d(2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
        )
        self.hidden = nn.Linear(4, 5)
        self.readout = nn.Linear(5, 3)

    def forward(self, x):
        return self.readout(F.relu(self.hidden(self.features(x).flatten(1))))


class Residual(nn.Module):
    """A block whose shortcut is a convolution, one whose shortcut is the spikes themselves."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(3)
        self.one, self.two = _Block(3, 4), _Block(4, 4)
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        x = self.two(self.one(F.relu(self.stem_norm(self.stem(x)))))
        return self.readout(F.adaptive_avg_pool2d(x, 1).flatten(1))


class _Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        return self.relu2(
            self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x))))) + self.shortcut(x)
        )


class PreActivation(nn.Module):
    """Blocks that add to a real-valued stream, as in a WideResNet; the stem never spikes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(4))
        self.readout = nn.Linear(3, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in (0, 2):
            y = self.convs[block](F.relu(self.norms[block](x)))
            x = x + self.convs[block + 1](F.relu(self.norms[block + 1](y)))
        x = F.relu(self.norms[4](x))
        return self.readout(F.adaptive_avg_pool2d(x, 1).flatten(1))


NETWORKS = {"vgg": Vgg, "residual": Residual, "pre-activation": PreActivation}


def spiking(network, granularity=Granularity.LAYER, reset=Reset.ZERO):
    converted = to_spiking(
        network,
        input_shape=SHAPE,
        steps=3,
        reset=reset,
        keep=1.0,
        granularity=granularity,
        surrogate=TRIANGLE,
    )
    return converted.eval()


def random(name, dtype=torch.float64, **kind):
    """Return a network with random weights and gains, some of them negative."""
    torch.manual_seed(1)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.5, 0.5)
            nn.init.normal_(module.bias, 0.3, 0.3)
    return spiking(network.to(dtype), **kind)


def images(sizes=(7, 7, 4), dtype=torch.float64):
    draw = torch.Generator().manual_seed(2)
    return [torch.rand(n, *SHAPE, generator=draw, dtype=dtype) for n in sizes]


def calibrated(network, batches, **limits):
    """Return the thresholds of a network after each layer was calibrated and passed."""
    network = copy.deepcopy(network)
    calibration = Calibration(network, batches, steps=STEPS, **limits)
    for name, fire in network.fires.items():
        fire.threshold.data.copy_(calibration.percentiles(name, RHO))
        calibration.pass_on(name)
    return {name: fire.threshold.detach() for name, fire in network.fires.items()}


class _Recorder(fx.Interpreter):
    """Runs a network on the merged batch and remembers the current of each spiking layer."""

    def __init__(self, body):
        super().__init__(body)
        self.currents = {}

    def call_module(self, target, args, kwargs):
        if isinstance(self.fetch_attr(target), Fire):
            self.currents[target] = args[0]
        return super().call_module(target, args, kwargs)


@torch.no_grad()
def by_definition(network, batches):
    """Run the whole network on every batch again for every layer, all time steps at once."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None  # then eval mode uses the batch's
        if isinstance(module, Fire):
            module.steps = STEPS
    for name, fire in network.fires.items():
        largest = torch.full_like(fire.threshold.flatten(), -torch.inf)
        for batch in batches:
            recorder = _Recorder(network.body)
            recorder.run(batch.repeat(STEPS, 1, 1, 1))
            current = recorder.currents[name]
            if bool((expand(current, STEPS) == expand(current, STEPS)[0]).all()):
                current = expand(current, STEPS)[0]  # no spike before: one step tells all
            rows = shared(current, fire.granularity)
            found = torch.tensor([percentile(row, RHO) for row in rows], dtype=largest.dtype)
            largest = torch.maximum(largest, found)
        fire.threshold.data.copy_(largest.reshape(fire.threshold.shape))
    return {name: fire.threshold.detach() for name, fire in network.fires.items()}


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_threshold_is_what_the_definition_says(name, granularity):
    network = random(name, granularity=granularity)
    found, expected = calibrated(network, images()), by_definition(network, images())
    assert list(found) == list(expected) and len(found) >= 3
    for layer in expected:
        assert found[layer].shape == network.fires[layer].threshold.shape
        # float64 sums in another order; a spike that flips would show in the second digit
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reset", Reset)
@pytest.mark.parametrize("name", NETWORKS)
def test_in_exact_arithmetic_the_thresholds_are_equal_bit_for_bit(name, reset):
    network = _without_rounding(NETWORKS[name](), reset)
    pixels = [(batch * 8).round() / 8 for batch in images(dtype=torch.float32)]
    found, expected = calibrated(network, pixels), by_definition(network, pixels)
    assert {layer: value.item() for layer, value in found.items()} == {
        layer: value.item() for layer, value in expected.items()
    }
    assert len(set(map(float, found.values()))) > 2


def _without_rounding(network, reset):
    """Return a network whose sums float32 holds exactly: small fractions, no batch norm."""
    draw = torch.Generator().manual_seed(4)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, nn.Identity())
    for parameter in network.parameters():
        parameter.data = torch.randint(-3, 5, parameter.shape, generator=draw) / 16
    return spiking(network, reset=reset)


@pytest.mark.parametrize("memory", [0, 20_000])
@pytest.mark.parametrize("name", NETWORKS)
def test_neither_the_memory_nor_the_chunks_change_a_threshold(name, memory):
    network = random(name)
    usual = calibrated(network, images())
    small = calibrated(network, images(), chunk=1, memory=memory)
    for layer in usual:
        torch.testing.assert_close(small[layer], usual[layer], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("granularity", [Granularity.LAYER, Granularity.CHANNEL])
def test_a_counted_percentile_is_within_its_bound_of_the_exact_one(granularity):
    network = random("vgg", dtype=torch.float32, granularity=granularity)
    batches = images(dtype=torch.float32)
    exact = Calibration(network, batches, steps=STEPS)
    counted = Calibration(network, batches, steps=STEPS, kept=0)
    for name in network.fires:
        one, other = (c.percentiles(name, RHO) for c in (exact, counted))
        exact.pass_on(name)
        counted.pass_on(name)  # at thresholds 1: both see the same spikes
        positive = one.clamp(min=0)  # in bins, what is not positive counts as 0
        assert (abs(other - positive) <= counted.error * positive + 2.0**-20).all()
    assert exact.error == 0 and 0 < counted.error < 0.001


def test_a_neuron_of_a_residual_block_is_calibrated_by_its_own_currents_only():
    quiet, loud = random("residual"), random("residual")
    for gain in ("norm1.weight", "norm1.bias"):
        loud.body.get_parameter(f"one.{gain}").data.mul_(1000)
    ours, theirs = calibrated(quiet, images()), calibrated(loud, images())
    # a threshold a thousand times higher for currents a thousand times stronger: same spikes,
    # so the published code, which hands the first neuron's maximum on, would show here
    assert theirs["one.relu1"].item() == pytest.approx(1000 * ours["one.relu1"].item(), rel=1e-9)
    assert theirs["one.relu2"].item() == pytest.approx(ours["one.relu2"].item(), rel=1e-9)
    assert theirs["one.relu1"].item() > 100 * theirs["one.relu2"].item()


def test_spikes_are_dropped_after_their_last_reader():
    network = random("vgg")
    calibration = Calibration(network, images((8, 8)), steps=STEPS)
    for name in network.fires:
        calibration.percentiles(name, RHO)
        calibration.pass_on(name)
    # A sample's 5 * 144 spikes of the first layer are 90 bytes, its 5 * 36 of the second 23.
    # The peak is when the first batch has passed the second layer: its spikes of the first
    # layer are about to go.
    assert calibration.peak_spikes == 16 * 90 + 8 * 23


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_works_on_more_than_a_chunk_at_once(name, monkeypatch):
    seen = []
    forward = Fire.forward
    watch = lambda fire, current: (seen.append(current.nbytes), forward(fire, current))[1]
    monkeypatch.setattr(Fire, "forward", watch)
    chunk = 3 * STEPS * 4 * 6 * 6 * 8  # three samples of the largest layer, in float64
    network = random(name)
    seen.clear()
    calibrated(network, images(), chunk=chunk)
    assert len(seen) > 2 * len(images()) and max(seen) <= chunk


def test_a_current_that_is_not_finite_names_the_layer_and_the_batch():
    network = random("vgg")
    batches = images()
    batches[1][0] = torch.nan
    calibration = Calibration(network, batches, steps=STEPS)
    with pytest.raises(TrainingFailed, match="layer features.2 .* not finite in .* batch 2"):
        calibration.percentiles("features.2", RHO)


# What the passes are made of


@pytest.mark.parametrize("shape", [(3, 5, 5), (7,), (8,)])
def test_packed_spikes_come_back_as_they_were(shape):
    draw = torch.Generator().manual_seed(3)
    spikes = (torch.rand(STEPS, 6, *shape, generator=draw) < 0.3).float()
    packed = PackedSpikes(samples=6, steps=STEPS, shape=shape, device=torch.device("cpu"))
    for part in (slice(0, 4), slice(4, 6)):
        packed.write(part, spikes[:, part].flatten(0, 1))
    back = packed.read(slice(1, 5), torch.float32)
    assert torch.equal(back, spikes[:, 1:5].flatten(0, 1))
    assert packed.nbytes == 6 * -(-STEPS * torch.Size(shape).numel() // 8)


def test_moments_of_parts_are_the_moments_of_the_whole_even_far_from_zero():
    draw = torch.Generator().manual_seed(3)
    whole = torch.randn(60, 3, 4, generator=draw) * 0.01 + 1000.0
    moments = Moments()
    for part in whole.split([7, 1, 52]):
        moments.add(part)
    mean, variance = moments.result(torch.float64)
    exact = torch.var_mean(whole.double(), (0, 2), correction=0)
    # naive float32 sums of squares would be off by more than the variance itself
    torch.testing.assert_close(mean, exact[1], rtol=1e-7, atol=0)
    torch.testing.assert_close(variance, exact[0], rtol=1e-4, atol=0)
