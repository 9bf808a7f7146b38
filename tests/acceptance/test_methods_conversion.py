"""Acceptance tests 7 to 12 of METHODS section 7: from a ReLU network to a spiking one."""

import copy

import pytest
import torch
from snnc.ir.graph import Granularity, Reset
from snnc.learn.balance import Balance, balance
from snnc.learn.neurons import THRESHOLD_FLOOR, Fire, expand, merge
from snnc.learn.percentile import percentile
from snnc.learn.spiking import to_spiking
from snnc.learn.stage import Context, Samples, State, TrainingData
from snnc.learn.surrogates import TRIANGLE
from torch import nn

STEPS = 4
FIRST, SECOND, THIRD = "2", "6", "9"  # the spiking layers of `network`
BALANCE = Balance(steps=6, percentile=90.0, scale=1.0, batches=2, batch=16)


def network():
    """Return a trained-looking ReLU network: batch norm with statistics and gains of its own."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    for norm in (ann[1], ann[8]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    ann.train()(images())
    return ann.eval()


def images(samples=8):
    return torch.rand(samples, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def data():
    samples = Samples(pixels=images(32), white=1.0, labels=torch.arange(32) % 3)
    return TrainingData(train=samples, validation=samples, augment=())


def spiking(ann, *, steps=STEPS):
    return to_spiking(
        ann,
        input_shape=(1, 4, 4),
        steps=steps,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )


def balanced(spikes, **changes):
    settings = BALANCE.model_copy(update=changes)
    return balance(State(network=spikes), settings, data(), Context(seed=3)).network


def thresholds(spikes):
    return {name: fire.threshold.item() for name, fire in spikes.fires.items()}


@pytest.mark.parametrize(("n", "rank"), [(1000, 997), (64, 64)])
def test_the_percentile_is_the_counted_order_statistic(n, rank):
    """Test 7: rho = 99.7 takes number 1 + round(0.01 rho (n - 1)) in order."""
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0)) + 1
    assert percentile(shuffled.float(), 99.7) == rank


@pytest.mark.parametrize(("n", "rank"), [(1000, 997), (64, 64)])
def test_a_threshold_is_the_counted_order_statistic_of_the_currents(n, rank):
    """Test 7, in use: n pixels 1/n, 2/n, ... 1 are all the currents of the only layer."""
    values = torch.randperm(n, generator=torch.Generator().manual_seed(0)) + 1
    samples = Samples(pixels=values.reshape(8, -1), white=float(n), labels=torch.arange(8) % 2)
    bare = to_spiking(
        nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(n // 8, 2)),
        input_shape=(n // 8,),
        steps=STEPS,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    once = BALANCE.model_copy(update={"steps": 1, "percentile": 99.7, "batches": 1, "batch": 8})
    only = TrainingData(train=samples, validation=samples, augment=())
    (threshold,) = thresholds(
        balance(State(network=bare), once, only, Context(seed=0)).network
    ).values()
    assert threshold == torch.tensor(rank / n).item()


def test_a_threshold_depends_on_the_layers_before_it_only():
    """Test 8, front to back: what changes behind a layer never shows in its threshold."""
    changed = network()
    with torch.no_grad():
        changed[5].weight.mul_(2)
    ours, theirs = thresholds(balanced(spiking(network()))), thresholds(balanced(spiking(changed)))
    assert ours[FIRST] == theirs[FIRST]
    assert ours[SECOND] != theirs[SECOND]


def test_a_layer_is_driven_by_calibrated_unscaled_layers_before_it():
    """Test 8, upstream: neither the start of 1 nor the scale drives the next layer."""
    restarted = spiking(network())
    for fire in restarted.fires.values():
        fire.threshold.data.fill_(17.0)
    assert thresholds(balanced(restarted)) == thresholds(balanced(spiking(network())))


def test_the_scale_multiplies_every_threshold():
    """Test 8, lambda."""
    whole, scaled = (thresholds(balanced(spiking(network()), scale=s)) for s in (1.0, 0.3))
    assert list(whole) == [FIRST, SECOND, THIRD]
    for name, threshold in whole.items():
        assert threshold > THRESHOLD_FLOOR / 0.3
        # float32 keeps 7 digits of a product
        assert scaled[name] == pytest.approx(0.3 * threshold, rel=1e-6)


def test_the_first_threshold_does_not_depend_on_the_calibration_steps():
    """Test 8, direct coding: the first layer's current is the same at every step."""
    # 7 images: repeating their 448 currents nine times would move the rank of the percentile
    few, many = (thresholds(balanced(spiking(network()), steps=t, batch=7)) for t in (1, 9))
    assert few[FIRST] == pytest.approx(many[FIRST], rel=1e-6)  # "up to float"
    assert few[SECOND] != many[SECOND]


def test_calibration_touches_thresholds_and_running_statistics_only():
    """Test 9: weights, gains and shifts are bit-identical; statistics are 0 and 1."""
    before = spiking(network())
    after = balanced(before)
    for name, value in after.state_dict().items():
        if name.endswith("running_mean"):
            assert (value == 0).all()
        elif name.endswith("running_var"):
            assert (value == 1).all()
        elif not name.endswith(("threshold", "num_batches_tracked")):
            assert torch.equal(value, before.state_dict()[name]), name


def test_no_neuron_runs_below_the_floor_whatever_is_stored():
    """Test 9: a current just under 0.03 needs two steps, even with a threshold of -5."""
    neuron = Fire(
        threshold=torch.tensor(-5.0),
        granularity=Granularity.LAYER,
        reset=Reset.ZERO,
        keep=1.0,
        steps=4,
        surrogate=TRIANGLE,
    )
    assert neuron(torch.full((4, 1), THRESHOLD_FLOOR * 0.9)).flatten().tolist() == [0, 1, 0, 1]


def test_batch_norm_sees_steps_and_samples_as_one_batch():
    """Test 10: merged-time batch norm is batch norm on the flattened (T * N) batch."""
    spikes = spiking(network()).train()
    norm = spikes.body.get_submodule("8")
    start = copy.deepcopy(norm)
    seen = []
    norm.register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output)))
    spikes(images())
    ((merged, normalised),) = seen
    assert merged.shape[0] == STEPS * 8
    assert torch.equal(normalised, start(merged.reshape(STEPS * 8, -1)))
    # 0.1 of the flattened batch's own variance, unbiased: float32 rounding of 32 squares
    torch.testing.assert_close(
        norm.running_var, 0.9 * network()[8].running_var + 0.1 * merged.var(0)
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str
)
def test_folded_batch_norm_reproduces_the_logits(dtype, tolerance):
    """Test 10: W times gain / std, and a bias at every step, give the same logits."""
    spikes = spiking(network().to(dtype))
    for fire in spikes.fires.values():
        fire.threshold.data.fill_(0.3)
    folded = copy.deepcopy(spikes)
    for linear, norm in (("0", "1"), ("7", "8")):
        _fold(folded.body, linear, norm)
    x = images(64).to(dtype)
    assert spikes(x).abs().max() > 0.1
    torch.testing.assert_close(folded(x), spikes(x), rtol=0, atol=tolerance)


def _fold(body, linear, norm):
    synapse, norm_module = body.get_submodule(linear), body.get_submodule(norm)
    gain = norm_module.weight / (norm_module.running_var + norm_module.eps).sqrt()
    bias = 0 if synapse.bias is None else synapse.bias
    synapse.weight.data *= gain.reshape(-1, *[1] * (synapse.weight.dim() - 1))
    synapse.bias = nn.Parameter(norm_module.bias + gain * (bias - norm_module.running_mean))
    body.set_submodule(norm, nn.Identity())


def test_merging_is_time_major_and_expanding_inverts_it():
    """Test 11: row t * N + n of the merged batch is sample n at step t."""
    steps = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    merged = merge(steps)
    assert merged[1 * 3 + 2].tolist() == steps[1, 2].tolist()
    assert torch.equal(expand(merged, 2), steps)


def test_logits_are_the_mean_over_time_of_the_last_linear_layer():
    """Test 11: and the image is the input of every step."""
    spikes = spiking(network())
    seen = []
    spikes.body.get_submodule("10").register_forward_hook(lambda _m, _x, y: seen.append(y))
    logits = spikes(images())
    assert torch.equal(logits, expand(seen[0], STEPS).mean(0))
    body = spikes.body(merge(images().expand(STEPS, -1, -1, -1, -1)))
    # float32: what is the same at every step may be computed once, in another order of sums
    torch.testing.assert_close(logits, expand(body, STEPS).mean(0))


def test_one_step_of_time_is_one_pass_with_a_step_for_each_relu():
    """Test 11: T = 1 is the ReLU network with H(x - 1) in place of each ReLU."""
    stepped = network()
    for name in (FIRST, SECOND, THIRD):
        stepped.set_submodule(name, _Step())
    assert torch.equal(spiking(network(), steps=1)(images()), stepped(images()))


class _Step(nn.Module):
    def forward(self, x):
        return (x >= 1).to(x.dtype)


def test_relus_in_place_of_the_neurons_give_back_the_logits_of_the_source():
    """Test 12: weights, gains and running statistics are those of the source network."""
    ann = network()
    spikes = spiking(ann, steps=1)
    for name in spikes.fires:
        spikes.body.set_submodule(name, nn.ReLU())
    assert not torch.equal(ann[1].running_var, torch.ones(4))
    assert torch.equal(spikes(images()), ann(images()))  # the same operations in one order
