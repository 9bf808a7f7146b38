"""The two stages that follow a conversion: balanced thresholds, fresh batch statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from snnc.errors import InvalidSetting
from snnc.ir.graph import Granularity, Reset
from snnc.learn.adapt import Adapt, adapt
from snnc.learn.augment import Flip, augment, channel_means
from snnc.learn.balance import Balance, balance
from snnc.learn.calibration_images import training_images
from snnc.learn.convert import restart
from snnc.learn.neurons import THRESHOLD_FLOOR
from snnc.learn.percentile import percentile
from snnc.learn.spiking import to_spiking
from snnc.learn.stage import Context, Samples, State, TrainingData
from snnc.learn.surrogates import TRIANGLE
from torch import nn

BALANCE = Balance(steps=6, percentile=90.0, scale=0.3, batches=2, batch=20)
ADAPT = Adapt(epochs=1, batch=16)


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(12, 3),
    )


def data(*steps):
    """Return 48 images to train on and 24 to validate, whose brightest pixel is their class."""
    draw = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (72,), generator=draw)
    pixels = torch.rand(len(labels), 1, 4, 4, generator=draw) * 0.5
    pixels[torch.arange(72), 0, labels] += 0.5
    everything = Samples(pixels=pixels, white=1.0, labels=labels)
    rows = torch.arange(72)
    return TrainingData(
        train=everything.rows(rows[:48]), validation=everything.rows(rows[48:]), augment=steps
    )


def spiking(ann=None, granularity=Granularity.LAYER):
    return to_spiking(
        ann or network(),
        input_shape=(1, 4, 4),
        steps=4,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=granularity,
        surrogate=TRIANGLE,
    )


def balanced(settings=BALANCE, module=None, seed=3, using=None):
    state = State(network=module or spiking())
    return balance(state, settings, using or data(), Context(seed=seed))


def thresholds(result):
    return {name: fire.threshold.detach() for name, fire in result.network.fires.items()}


def first_pass(size, using=None):
    return list(training_images(using or data(), size, Context(seed=3), 0))


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# Thresholds


def test_the_scale_multiplies_every_threshold():
    unscaled = thresholds(balanced(BALANCE.model_copy(update={"scale": 1.0})))
    for name, scaled in thresholds(balanced()).items():
        # float32 keeps 7 digits of a product
        assert scaled.item() == pytest.approx(0.3 * unscaled[name].item(), rel=1e-6)


def test_the_first_layer_does_not_depend_on_the_calibration_steps():
    # 7 images: repeating their 448 currents nine times would move the rank of the percentile
    settings = BALANCE.model_copy(update={"batch": 7})
    few, many = (thresholds(balanced(settings.model_copy(update={"steps": n}))) for n in (1, 9))
    assert few["2"].item() == many["2"].item()
    assert few["6"].item() != many["6"].item()


def test_a_threshold_depends_on_the_layers_before_it_only():
    changed = spiking()
    with torch.no_grad():
        changed.body.get_submodule("5").weight.mul_(2)
    ours, theirs = thresholds(balanced()), thresholds(balanced(module=changed))
    assert ours["2"].item() == theirs["2"].item()
    assert ours["6"].item() != theirs["6"].item()


def test_the_threshold_is_the_largest_percentile_over_the_batches():
    module = spiking()
    values = []
    for images in first_pass(12):
        current = F.batch_norm(module.body.get_submodule("0")(images), None, None, training=True)
        values.append(percentile(current.detach(), 90.0))
    for count in range(1, len(values) + 1):
        settings = BALANCE.model_copy(update={"batches": count, "batch": 12, "scale": 1.0})
        found = thresholds(balanced(settings, module))["2"].item()
        assert found == pytest.approx(max(values[:count]), rel=1e-6)  # float32
    assert values[0] < max(values) != values[-1]  # neither the first nor the last batch decides


def test_later_layers_are_driven_by_the_calibrated_spikes_of_earlier_ones():
    module = spiking()
    result = balanced(BALANCE.model_copy(update={"batches": 1, "scale": 1.0}), module).network
    images = first_pass(20)[0].repeat(6, 1, 1, 1)
    current = F.batch_norm(module.body.get_submodule("0")(images), None, None, training=True)
    first = copy.deepcopy(result.fires["2"])
    first.steps = 6
    pooled = F.avg_pool2d(first(current), 2).flatten(1)
    expected = percentile(module.body.get_submodule("5")(pooled).detach(), 90.0)
    assert result.fires["6"].threshold.item() == pytest.approx(expected, rel=1e-6)  # float32


def test_more_batches_than_one_pass_holds_come_from_the_next_pass_in_another_order():
    one, two = (list(training_images(data(), 20, Context(seed=3), number)) for number in (0, 1))
    assert [len(images) for images in one] == [20, 20, 8]
    assert not torch.equal(one[0], two[0])
    assert torch.equal(torch.cat(one).sort(0).values, torch.cat(two).sort(0).values)
    steps = BALANCE.model_copy(update={"batches": 4, "scale": 1.0})
    fourth = F.batch_norm(network()[0](two[0]), None, None, training=True).detach()
    found = thresholds(balanced(steps))["2"].item()
    third = thresholds(balanced(steps.model_copy(update={"batches": 3})))["2"].item()
    assert found == pytest.approx(max(third, percentile(fourth, 90.0)), rel=1e-6)  # float32


def test_calibration_sees_the_variations_of_training():
    using = data(Flip())
    context = Context(seed=3)
    plain, varied = first_pass(20)[0], first_pass(20, using)[0]
    means = channel_means(using.train.pixels, using.train.white)
    expected = augment(plain, using.augment, means, context.generator("augment", 0, 0))
    assert torch.equal(varied, expected) and not torch.equal(varied, plain)
    assert thresholds(balanced(using=using))["2"] != thresholds(balanced())["2"]


def test_balancing_touches_thresholds_and_running_statistics_only():
    before = spiking(network().train())
    before.train()(data().train.images)  # statistics that are not 0 and 1
    original = copy.deepcopy(before)
    after = balanced(module=before).network
    assert same_weights(before, original)
    for name, value in after.state_dict().items():
        if name.endswith("running_mean"):
            assert (value == 0).all()
        elif name.endswith("running_var"):
            assert (value == 1).all()
        elif not name.endswith(("threshold", "num_batches_tracked")):
            assert torch.equal(value, before.state_dict()[name]), name
    assert [m.training for m in after.modules()] == [m.training for m in original.modules()]
    assert after.fires["2"].steps == 4


@pytest.mark.parametrize("granularity", Granularity)
def test_what_is_never_excited_is_set_to_the_floor_and_counted(granularity):
    module = spiking(granularity=granularity)
    with torch.no_grad():
        module.body.get_submodule("5").bias[:4] = -100
        module.body.get_submodule("5").bias[4:] = 2
    result = balanced(module=module)
    found = thresholds(result)["6"]
    floor = torch.tensor(THRESHOLD_FLOOR)
    if granularity is Granularity.LAYER:  # the percentile is one of the other eight neurons
        assert found > floor and result.metrics["thresholds_at_floor"] == 0
    else:
        assert (found[:4] == floor).all() and (found[4:] > floor).all()
        assert result.metrics["thresholds_at_floor"] >= 4 / (12 + 64)
    assert result.metrics["percentile_error"] == 0


def test_channels_and_neurons_get_percentiles_of_their_own():
    module = spiking(granularity=Granularity.CHANNEL)
    settings = BALANCE.model_copy(update={"batches": 1, "scale": 1.0})
    (images, *_) = first_pass(20)
    current = F.batch_norm(module.body.get_submodule("0")(images), None, None, training=True)
    by_channel = thresholds(balanced(settings, module))["2"]
    by_neuron = thresholds(balanced(settings, spiking(granularity=Granularity.NEURON)))["2"]
    for channel in range(4):
        expected = percentile(current[:, channel].detach(), 90.0)
        assert by_channel[channel].item() == pytest.approx(expected, rel=1e-6)  # float32
        expected = percentile(current[:, channel, 1, 2].detach(), 90.0)
        assert by_neuron[channel, 1, 2].item() == pytest.approx(
            max(expected, THRESHOLD_FLOOR), rel=1e-6
        )


def test_progress_is_told_for_each_layer():
    told = []
    balance(State(network=spiking()), BALANCE, data(), Context(seed=3, progress=told.append))
    assert [str(advance) for advance in told] == ["thresholds 1/2", "thresholds 2/2"]


def test_balancing_repeats_bit_for_bit_and_another_seed_differs():
    first, again, other = (thresholds(balanced(seed=seed)) for seed in (3, 3, 4))
    assert first == again and first != other


def test_balancing_needs_a_spiking_network():
    with pytest.raises(InvalidSetting, match="balance needs a spiking network"):
        balanced(module=network())


# Batch statistics


def adapted(module, settings=ADAPT):
    return adapt(State(network=module), settings, data(), Context(seed=3))


def test_adaptation_averages_the_statistics_of_merged_batches():
    module = balanced().network
    norm = adapted(module).network.body.get_submodule("1")
    convolution = module.body.get_submodule("0")
    parts = [convolution(images.repeat(4, 1, 1, 1)) for images in first_pass(16)]
    means = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1


def test_adaptation_changes_nothing_but_statistics():
    module = balanced().network
    result = adapted(module).network
    assert not any(part.training for part in result.modules())
    for name, parameter in result.named_parameters():
        assert torch.equal(parameter, module.get_parameter(name)), name


def test_adaptation_drops_nothing_out():
    module = balanced(module=spiking(network(dropout=0.5))).network
    before = torch.random.get_rng_state()
    with_dropout = adapted(module).network
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same_weights(with_dropout, adapted(balanced().network).network)


def test_adaptation_repeats_passes_in_other_orders():
    module = balanced().network
    once, twice = (adapted(module, Adapt(epochs=n, batch=16)).network for n in (1, 2))
    means = [n.body.get_submodule("1").running_mean for n in (once, twice)]
    # both are means over the same 48 images, cut into batches in another way
    torch.testing.assert_close(*means, rtol=1e-4, atol=1e-5)
    variances = [n.body.get_submodule("1").running_var for n in (once, twice)]
    assert not torch.equal(*variances)


def test_folded_statistics_reproduce_the_adapted_network():
    network = adapted(balanced().network).network.double()
    body = network.body
    images = data().validation.images.double()
    expected = network(images)
    convolution, norm = body.get_submodule("0"), body.get_submodule("1")
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = nn.Conv2d(1, 4, 3, padding=1).double()
    with torch.no_grad():
        folded.weight.copy_(convolution.weight * gain[:, None, None, None])
        folded.bias.copy_(norm.bias - norm.running_mean * gain)
    body.set_submodule("0", folded)
    body.set_submodule("1", nn.Identity())
    assert (network(images) - expected).abs().max() < 1e-10  # float64; a spike moves 0.01


def test_adaptation_needs_a_spiking_network():
    with pytest.raises(InvalidSetting, match="adapt needs a spiking network"):
        adapted(network())


# Drawing anew


def test_a_restart_draws_weights_by_the_fan_in_that_is_left():
    layer = nn.Linear(8000, 2)
    with torch.no_grad():
        layer.weight[0, 2000:] = 0
    restart(layer, torch.Generator().manual_seed(1))
    sparse, dense = layer.weight.detach()
    assert (sparse[2000:] == 0).all()
    # five standard errors of a deviation of 2,000 draws are 8 %
    assert float(sparse[:2000].std()) == pytest.approx((2 / 2000) ** 0.5, rel=0.08)
    assert float(dense.std()) == pytest.approx((2 / 8000) ** 0.5, rel=0.08)
    assert layer.bias.tolist() == [0.0, 0.0]
