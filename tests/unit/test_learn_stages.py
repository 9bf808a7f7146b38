import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from snnc.data import Split
from snnc.errors import InvalidSetting, Refusal, TrainingFailed
from snnc.ir.graph import Granularity, Reset
from snnc.learn.adapt import Adapt, adapt
from snnc.learn.balance import Balance, balance, percentile
from snnc.learn.finetune import finetune
from snnc.learn.neurons import THRESHOLD_FLOOR
from snnc.learn.objectives import Pgd, Rfgsm, Standard
from snnc.learn.prune import apply_masks, nonzero_masks, prunable, sparsity
from snnc.learn.prune.magnitude import kept, magnitude_mask, prune
from snnc.learn.prune.stage import Prune, prune_and_finetune
from snnc.learn.spiking import to_spiking
from snnc.learn.stage import Samples, State, TrainingData, batches, samples, silent
from snnc.learn.surrogates import TRIANGLE
from snnc.learn.train import Training, train
from torch import nn

BALANCE = Balance(steps=6, percentile=90.0, scale=0.3, batches=2, batch=20)
TRAINING = Training(
    epochs=2,
    batch=16,
    rate=0.05,
    momentum=0.9,
    decay=0.01,
    validate_every=1,
    objective=Standard(),
)
ADVERSARIAL = TRAINING.model_copy(update={"objective": Rfgsm(epsilon=0.1, beta=2.0)})


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


def data(train_samples=48):
    """Return images whose brightest third is their class, with noise."""
    draw = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (train_samples + 24,), generator=draw)
    images = torch.rand(len(labels), 1, 4, 4, generator=draw) * 0.5
    for row, label in enumerate(labels.tolist()):
        images[row, 0, label] += 0.5
    everything = Samples(images=images, labels=labels)
    rows = torch.arange(len(labels))
    return TrainingData(
        train=everything.rows(rows[:train_samples]),
        validation=everything.rows(rows[train_samples:]),
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


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def run(stage, module, settings, progress=silent, generator=None, using=None):
    return stage(State(network=module), settings, using or data(), generator or seeded(), progress)


def balanced(settings=BALANCE, module=None):
    return run(balance, module or spiking(), settings).network


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# Thresholds


@pytest.mark.parametrize(("n", "expected"), [(1000, 997), (64, 64)])
def test_the_percentile_is_the_counted_order_statistic(n, expected):
    shuffled = torch.randperm(n, generator=seeded()) + 1
    assert percentile(shuffled.float(), 99.7) == expected


def test_the_percentile_counts_negative_currents():
    assert percentile(torch.tensor([-3.0, -2.0, -1.0, 5.0]), 50.0) == -1.0


def test_the_scale_multiplies_every_threshold():
    unscaled = balanced(BALANCE.model_copy(update={"scale": 1.0}))
    scaled = balanced()
    for name, fire in scaled.fires.items():
        # float32 keeps 7 digits of a product
        assert fire.threshold.item() == pytest.approx(
            0.3 * unscaled.fires[name].threshold.item(), rel=1e-6
        )


def test_the_first_layer_does_not_depend_on_the_calibration_steps():
    # 7 images: repeating their 448 currents nine times would move the rank of the percentile
    few, many = (balanced(BALANCE.model_copy(update={"steps": n, "batch": 7})) for n in (1, 9))
    assert few.fires["2"].threshold.item() == many.fires["2"].threshold.item()
    assert few.fires["6"].threshold.item() != many.fires["6"].threshold.item()


def test_a_threshold_depends_on_the_layers_before_it_only():
    changed = spiking()
    with torch.no_grad():
        changed.body.get_submodule("5").weight.mul_(2)
    ours, theirs = balanced(), balanced(module=changed)
    assert ours.fires["2"].threshold.item() == theirs.fires["2"].threshold.item()
    assert ours.fires["6"].threshold.item() != theirs.fires["6"].threshold.item()


def test_the_threshold_is_the_largest_percentile_over_the_batches():
    module = spiking()
    values = []
    for part in batches(data().train, 20, seeded()):
        convolved = module.body.get_submodule("0")(part.images)
        current = F.batch_norm(convolved, None, None, training=True)
        values.append(percentile(current.detach(), 90.0))
    assert len(set(values)) == 3
    for count in (1, 2, 3):
        settings = BALANCE.model_copy(update={"batches": count, "scale": 1.0})
        found = balanced(settings, module).fires["2"].threshold.item()
        assert found == pytest.approx(max(values[:count]), rel=1e-6)  # float32
    assert values[0] < max(values)


def test_later_layers_are_driven_by_the_calibrated_spikes_of_earlier_ones():
    module = spiking()
    settings = BALANCE.model_copy(update={"batches": 1, "scale": 1.0})
    result = balanced(settings, module)
    (images, *_) = (part.images for part in batches(data().train, 20, seeded()))
    current = F.batch_norm(
        module.body.get_submodule("0")(images.repeat(6, 1, 1, 1)), None, None, training=True
    )
    first = copy.deepcopy(result.fires["2"])
    first.steps = 6
    pooled = F.avg_pool2d(first(current), 2).flatten(1)
    expected = percentile(module.body.get_submodule("5")(pooled).detach(), 90.0)
    assert result.fires["6"].threshold.item() == pytest.approx(expected, rel=1e-6)  # float32


def test_balancing_touches_thresholds_and_running_statistics_only():
    before = spiking(network().train())
    before.train()(data().train.images)  # statistics that are not 0 and 1
    original = copy.deepcopy(before)
    after = balanced(module=before)
    assert same_weights(before, original)
    for name, value in after.state_dict().items():
        if name.endswith("running_mean"):
            assert (value == 0).all()
        elif name.endswith("running_var"):
            assert (value == 1).all()
        elif not name.endswith(("threshold", "num_batches_tracked")):
            assert torch.equal(value, before.state_dict()[name]), name


def test_a_layer_that_gets_only_negative_current_is_set_to_the_floor():
    module = spiking()
    with torch.no_grad():
        module.body.get_submodule("5").bias.fill_(-100)
    assert balanced(module=module).fires["6"].threshold.item() == pytest.approx(THRESHOLD_FLOOR)


def test_a_layer_with_many_thresholds_starts_with_one_value():
    result = balanced(module=spiking(granularity=Granularity.CHANNEL))
    assert result.fires["2"].threshold.shape == (4,)
    assert result.fires["2"].threshold.unique().numel() == 1


def test_balancing_needs_a_spiking_network():
    with pytest.raises(InvalidSetting, match="balance needs a spiking network"):
        run(balance, network(), BALANCE)


# Batch statistics


def test_adaptation_averages_the_statistics_of_merged_batches():
    module = balanced()
    result = run(adapt, module, Adapt(epochs=1, batch=16)).network
    convolution = module.body.get_submodule("0")
    parts = [
        convolution(part.images.repeat(4, 1, 1, 1)) for part in batches(data().train, 16, seeded())
    ]
    means = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    norm = result.body.get_submodule("1")
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1


def test_adaptation_changes_nothing_but_statistics():
    module = balanced()
    result = run(adapt, module, Adapt(epochs=1, batch=16)).network
    for name, parameter in result.named_parameters():
        assert torch.equal(parameter, module.get_parameter(name)), name


# Pruning


@pytest.mark.parametrize(
    ("weights", "counts"),
    [(1728, (173, 87, 18)), (36864, (3687, 1844, 369)), (2560, (256, 128, 26))],
)
def test_the_number_of_kept_weights_is_the_published_one(weights, counts):
    assert tuple(kept(weights, level) for level in (0.9, 0.95, 0.99)) == counts


def test_rounding_of_floats_does_not_keep_a_weight_too_many():
    assert kept(100, 0.29) == 71  # 0.29 * 100 is 28.999999999999996


def test_the_smallest_weights_go():
    weight = torch.tensor([[0.1, -5.0], [3.0, -0.2]])
    assert magnitude_mask(weight, 0.5).tolist() == [[False, True], [True, False]]


def test_of_equal_weights_exactly_the_counted_number_stays():
    assert magnitude_mask(torch.ones(10), 0.9).sum() == 1


def test_every_layer_gets_the_same_sparsity_and_nothing_else_is_pruned():
    module = network()
    pruned = prune(module, sparsity=0.5)
    assert list(prunable(module)) == ["0.weight", "5.weight", "7.weight"]
    for name, weight in prunable(pruned).items():
        assert int((weight != 0).sum()) == kept(weight.numel(), 0.5)
        assert (weight[weight != 0] == prunable(module)[name][weight != 0]).all()
    assert torch.equal(pruned[5].bias, module[5].bias)
    assert sparsity(module) == 0.0 and sparsity(pruned) == 0.5


@pytest.mark.parametrize("level", [-0.1, 1.0, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(level):
    with pytest.raises(InvalidSetting, match="sparsity"):
        prune(network(), sparsity=level)


def test_every_layer_that_would_be_emptied_is_named():
    with pytest.raises(Refusal) as caught:
        prune(network(), sparsity=1 - 1e-13)
    assert [issue.layer for issue in caught.value.issues] == ["0", "5", "7"]
    assert "leaves none of its 36 weights" in str(caught.value)


def test_masks_are_values_that_revive_nothing():
    pruned = prune(network(), sparsity=0.5)
    masks = nonzero_masks(pruned)
    with torch.no_grad():
        for weight in prunable(pruned).values():
            weight.add_(1)
    apply_masks(pruned, masks)
    assert all((w[~masks[name]] == 0).all() for name, w in prunable(pruned).items())


# Training


def test_training_learns():
    result = run(train, network(), TRAINING.model_copy(update={"epochs": 30, "rate": 0.1}))
    assert result.metrics["validation_accuracy"] > 0.8  # chance is 1/3


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_no_zero_weight_comes_back_in_any_stage(level):
    settings = Prune(method="magnitude", sparsity=level, finetune=ADVERSARIAL)
    pruned = run(prune_and_finetune, network(), settings)
    masks = nonzero_masks(pruned.network)
    tuned = run(finetune, balanced(module=spiking(pruned.network)), ADVERSARIAL)
    weights = prunable(tuned.network.body)
    for name, mask in masks.items():
        assert (weights[name][~mask] == 0).all()
        assert int((weights[name] != 0).sum()) <= int(mask.sum())
    assert tuned.metrics["sparsity"] == pruned.metrics["sparsity"] >= level - 0.03


def test_one_finetuning_step_moves_weights_gains_shifts_and_thresholds():
    before = balanced(module=spiking(prune(network(), sparsity=0.5)))
    settings = ADVERSARIAL.model_copy(update={"epochs": 1, "batch": 48})
    after = run(finetune, before, settings).network
    for name, parameter in after.named_parameters():
        old = before.get_parameter(name)
        living = old != 0 if name.endswith("weight") and old.dim() > 1 else torch.ones_like(old) > 0
        assert (parameter[living] != old[living]).any(), name


def test_finetuning_needs_a_spiking_network():
    with pytest.raises(InvalidSetting, match="finetune needs a spiking network"):
        run(finetune, network(), TRAINING)


def test_a_threshold_never_stays_below_the_floor():
    module = balanced()
    with torch.no_grad():
        module.fires["6"].threshold.fill_(-1.0)
    result = run(finetune, module, TRAINING).network
    assert result.fires["6"].threshold.item() >= THRESHOLD_FLOOR - 1e-9  # float32 of 0.03


def test_a_stage_leaves_the_network_it_is_given_alone():
    module = network()
    original = copy.deepcopy(module)
    run(train, module, TRAINING)
    assert same_weights(module, original)


def test_training_repeats_bit_for_bit_and_another_seed_differs():
    first, again, other = (
        run(train, network(), ADVERSARIAL, generator=seeded(seed)).network for seed in (3, 3, 4)
    )
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_how_often_one_validates_does_not_change_the_training():
    settings = TRAINING.model_copy(update={"objective": Pgd(epsilon=0.1, steps=2)})
    rarely = run(train, network(), settings.model_copy(update={"validate_every": 2}))
    losses = []
    often = run(train, network(), settings, progress=lambda a: losses.append(a.loss))
    assert len(losses) == 2
    if often.metrics["epoch"] == 2:
        assert same_weights(rarely.network, often.network)


def test_the_epoch_with_the_lowest_validation_loss_wins():
    scrambled = TrainingData(  # learning the wrong labels makes validation worse and worse
        train=Samples(images=data().train.images, labels=data().train.labels.flip(0)),
        validation=data().validation,
    )
    settings = TRAINING.model_copy(update={"epochs": 8, "rate": 0.2})
    result = run(train, network(), settings, using=scrambled)
    assert result.metrics["epoch"] < 8


def test_data_is_visited_once_per_epoch_in_a_drawn_order():
    seen = [part.labels for part in batches(data().train, 20, seeded())]
    assert [len(part) for part in seen] == [20, 20, 8]
    assert torch.equal(torch.cat(seen).sort().values, data().train.labels.sort().values)


def test_a_loss_that_is_not_a_number_stops_and_names_batch_and_layer():
    broken = data()
    broken.train.images[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingFailed, match=r"epoch 1, batch \d: the loss is nan; layer 0 is"):
        run(train, network(), TRAINING, using=broken)


def test_a_weight_that_is_not_finite_is_named():
    module = network()
    with torch.no_grad():
        module[5].weight[0, 0] = float("inf")
    with pytest.raises(TrainingFailed, match="layer 5 has a weight not finite"):
        run(train, module, TRAINING)


def test_a_split_becomes_tensors_without_a_change():
    split = Split(images=np.full((2, 1, 4, 4), 0.25, dtype=np.float32), labels=np.array([0, 2]))
    converted = samples(split)
    assert converted.images.dtype == torch.float32 and converted.labels.tolist() == [0, 2]
    assert (converted.images == 0.25).all()
