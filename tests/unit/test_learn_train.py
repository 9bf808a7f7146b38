"""The training loop, on a network and data small enough to see everything."""

import copy
from dataclasses import replace
from itertools import pairwise
from math import cos, inf, pi

import numpy as np
import pytest
import torch
from snnc.data import Dataset, Split
from snnc.errors import InvalidFile, InvalidSetting, TrainingFailed
from snnc.ir.graph import Granularity, Reset
from snnc.learn.augment import Flip
from snnc.learn.curriculum import Curriculum
from snnc.learn.finetune import finetune
from snnc.learn.fit import Subject, Training, fit
from snnc.learn.machine import Machine
from snnc.learn.neurons import THRESHOLD_FLOOR
from snnc.learn.objectives import Pgd, Rfgsm, Standard
from snnc.learn.objectives.perturbation import divergence
from snnc.learn.precision import logits_in_float32
from snnc.learn.prune.masks import nonzero_masks, prunable
from snnc.learn.snapshots import Snapshots
from snnc.learn.spiking import to_spiking
from snnc.learn.stage import (
    Advance,
    Context,
    Samples,
    State,
    TrainingData,
    accuracy,
    batches,
    duration,
    in_order,
    samples,
    training_data,
)
from snnc.learn.surrogates import TRIANGLE
from snnc.learn.train import train, whole
from snnc.learn.views import eval_view
from torch import nn

TRAINING = Training(
    epochs=2,
    batch=16,
    rate=0.05,
    momentum=0.9,
    decay=0.01,
    validate_every=1,
    accumulate=1,
    precision="float32",
    objective=Standard(),
)
ADVERSARIAL = TRAINING.model_copy(update={"objective": Rfgsm(epsilon=0.1, beta=2.0)})


class Killed(BaseException):
    """Stands for the end of the process at a chosen moment."""


def changed(settings=TRAINING, **keys):
    return settings.model_copy(update=keys)


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


def data(count=48):
    """Return images one of whose first three pixels is bright: their class."""
    draw = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (count + 24,), generator=draw)
    images = torch.rand(len(labels), 1, 4, 4, generator=draw) * 0.5
    for row, label in enumerate(labels.tolist()):
        images[row, 0, 0, label] += 0.5
    everything = Samples(pixels=images, white=1.0, labels=labels)
    rows = torch.arange(len(labels))
    return TrainingData(
        train=everything.rows(rows[:count]), validation=everything.rows(rows[count:]), augment=()
    )


def spiking(ann=None):
    return to_spiking(
        ann or network(),
        input_shape=(1, 4, 4),
        steps=4,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )


def pruned(module, share=0.5):
    """Zero the smallest weights of every layer, in place."""
    with torch.no_grad():
        for weight in prunable(module).values():
            weight[weight.abs() < weight.abs().flatten().quantile(share)] = 0
    return module


def run(module, settings=TRAINING, seed=3, using=None, **context):
    return train(State(network=module), settings, using or data(), Context(seed=seed, **context))


def tune(module, settings=ADVERSARIAL, learn_thresholds=True):
    state = State(network=module)
    return finetune(state, settings, data(), Context(seed=3), learn_thresholds=learn_thresholds)


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_training_learns():
    result = run(network(), changed(epochs=30, rate=0.1))
    assert result.metrics["validation_accuracy"] > 0.8  # chance is 1/3


def test_no_zero_weight_comes_back_in_any_stage():
    module = pruned(network())
    masks = nonzero_masks(module)
    tuned = tune(spiking(run(module, ADVERSARIAL).network))
    weights = prunable(tuned.network.body)
    for name, mask in masks.items():
        assert (weights[name][~mask] == 0).all()
        assert int((weights[name] != 0).sum()) <= int(mask.sum())
    assert tuned.metrics["sparsity"] == pytest.approx(0.5, abs=0.02)  # whole weights


def test_one_finetuning_step_moves_weights_gains_shifts_and_thresholds():
    before = spiking(pruned(network()))
    after = tune(before, changed(ADVERSARIAL, epochs=1, batch=48)).network
    for name, parameter in after.named_parameters():
        old = before.get_parameter(name)
        living = old != 0 if name.endswith("weight") and old.dim() > 1 else torch.ones_like(old) > 0
        assert (parameter[living] != old[living]).any(), name


def test_fixed_thresholds_stay_where_they_are():
    before = spiking()
    after = tune(before, learn_thresholds=False).network
    for name, fire in after.fires.items():
        assert torch.equal(fire.threshold, before.fires[name].threshold)
    assert not torch.equal(
        after.body.get_parameter("5.weight"), before.body.get_parameter("5.weight")
    )


def test_finetuning_needs_a_spiking_network():
    with pytest.raises(InvalidSetting, match="finetune needs a spiking network"):
        tune(network())


def test_a_threshold_never_stays_below_the_floor():
    module = spiking()
    with torch.no_grad():
        module.fires["6"].threshold.fill_(-1.0)
    result = tune(module, TRAINING).network
    assert result.fires["6"].threshold.item() >= THRESHOLD_FLOOR - 1e-9  # float32 of 0.03


def test_a_stage_leaves_the_network_it_is_given_alone():
    module = network()
    original = copy.deepcopy(module)
    run(module)
    assert same_weights(module, original)


def test_training_repeats_bit_for_bit_and_another_seed_differs():
    first, again, other = (run(network(0.5), ADVERSARIAL, seed).network for seed in (3, 3, 4))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_dropout_follows_the_seed_and_leaves_the_global_stream_alone():
    results = []
    for seed in (1, 2):
        module = network(0.5)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(run(module).network)
        assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(*results)
    assert not same_weights(results[0], run(network(0.0)).network)


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 6, 7])
def test_a_fit_killed_at_any_step_ends_with_the_same_bits(tmp_path, stop):
    settings = changed(ADVERSARIAL, epochs=3)
    full = run(network(0.5), settings)
    kept = Snapshots(path=tmp_path / "half", every=0.0)
    with pytest.raises(Killed):
        run(network(0.5), settings, snapshots=_Stopping(path=kept.path, every=0.0, stop=stop))
    progressed = []
    resumed = run(network(0.5), settings, snapshots=kept, progress=progressed.append)
    assert same_weights(full.network, resumed.network)
    assert full.metrics == resumed.metrics
    assert [advance.done for advance in progressed] == list(range(1 + (stop - 1) // 3, 4))


class _Stopping(Snapshots):
    """Snapshots that end the process after so many steps."""

    def __init__(self, *, path, every, stop):
        super().__init__(path=path, every=every)
        object.__setattr__(self, "left", [stop])

    def save(self, content):
        super().save(content)
        self.left[0] -= 1
        if self.left[0] == 0:
            raise Killed


def test_a_damaged_snapshot_is_refused(tmp_path):
    path = tmp_path / "half"
    path.write_bytes(b"not a snapshot")
    with pytest.raises(InvalidFile, match="half is damaged; delete it"):
        run(network(), snapshots=Snapshots(path=path, every=60.0))


def test_how_often_one_validates_does_not_change_the_training():
    settings = changed(objective=Pgd(epsilon=0.1, steps=2))
    rarely = run(network(), changed(settings, validate_every=2))
    seen = []
    often = run(network(), settings, progress=seen.append)
    assert [advance.done for advance in seen] == [1, 2]
    assert seen[0].left > 0 and seen[1].left is None
    assert often.metrics["epoch"] == 2  # so that both kept the last epoch
    assert same_weights(rarely.network, often.network)


def test_the_epoch_with_the_lowest_validation_loss_wins():
    right = data()
    wrong = replace(right, train=replace(right.train, labels=right.train.labels.flip(0)))
    result = run(network(), changed(epochs=8, rate=0.2), using=wrong)
    assert result.metrics["epoch"] < 8


def test_an_epoch_that_is_not_acceptable_is_never_kept():
    module = network()
    verdicts = iter([False, True, False])
    subject = replace(whole(module, {}), acceptable=lambda: next(verdicts))
    found = fit(subject, changed(epochs=3), data(), Context(seed=3))
    assert found["epoch"] == 2
    with pytest.raises(TrainingFailed, match="no epoch ended with a network to keep"):
        fit(replace(subject, acceptable=lambda: False), TRAINING, data(), Context(seed=3))


def test_a_penalty_is_minimised_with_the_objective():
    module = network()
    weight = module[0].weight

    def penalty(epoch):
        return 10.0 * weight.square().sum()

    before = float(weight.detach().square().sum())
    subject = Subject(
        network=module,
        parameters=(weight,),
        penalty=penalty,
        after_step=lambda: None,
        acceptable=lambda: True,
    )
    others = [p.detach().clone() for p in module.parameters() if p is not weight]
    fit(subject, changed(rate=0.01, momentum=0.0, epochs=4), data(), Context(seed=3))
    assert float(weight.detach().square().sum()) < 0.2 * before
    after = [p for p in module.parameters() if p is not weight]
    assert all(torch.equal(a, b) for a, b in zip(others, after, strict=True))


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    using = data(40)
    using = replace(
        using,
        train=replace(using.train, pixels=using.train.pixels.double()),
    )
    results = []
    for parts in (1, 3):
        copied = copy.deepcopy(module).float()
        settings = changed(accumulate=parts, epochs=1, batch=40)
        results.append(run(copied, settings, using=using).network[1].weight)
    # float32 sums in another order
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    assert not torch.equal(results[0], module[1].weight.float())


def test_bfloat16_trains_nearly_the_same_network_in_float32():
    exact = run(network(), changed(epochs=1)).network
    rough = run(network(), changed(epochs=1, precision="bfloat16")).network
    assert all(p.dtype == torch.float32 for p in rough.parameters())
    assert not same_weights(exact, rough)
    for one, other in zip(exact.parameters(), rough.parameters(), strict=True):
        # 8 bits of mantissa in products, three small steps
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.01)


def test_a_spiking_network_trains_in_bfloat16():
    result = tune(spiking(), changed(ADVERSARIAL, precision="bfloat16"))
    assert all(p.dtype == torch.float32 for p in result.network.parameters())
    assert np.isfinite(result.metrics["validation_loss"])


def test_augmentation_changes_training_images_and_follows_the_seed():
    flipped = replace(data(), augment=(Flip(),))
    plain, one, again = (
        run(network(), using=using).network for using in (data(), flipped, flipped)
    )
    assert not same_weights(plain, one)
    assert same_weights(one, again)


def test_a_curriculum_trains_the_first_epochs_at_a_smaller_epsilon():
    settings = changed(objective=Pgd(epsilon=0.4, steps=2), epochs=3)
    plain = run(network(), settings).network
    eased = run(network(), changed(settings, curriculum=Curriculum(start=0.1, epochs=2))).network
    at_once = run(network(), changed(settings, curriculum=Curriculum(start=1.0, epochs=2))).network
    assert not same_weights(plain, eased)
    assert same_weights(plain, at_once)


def test_batches_hold_every_sample_once_in_the_given_order():
    order = Context(seed=1).order(48, "order", 0)
    seen = [part.labels for part in batches(data().train, 20, order)]
    assert [len(part) for part in seen] == [20, 20, 8]
    assert torch.equal(torch.cat(seen), data().train.labels[order])
    assert torch.equal(
        torch.cat([p.labels for p in in_order(data().train, 20)]), data().train.labels
    )
    assert not torch.equal(order, Context(seed=1).order(48, "order", 1))
    assert not torch.equal(order, Context(seed=2).order(48, "order", 0))


def test_phases_draw_differently_and_keep_their_snapshots_apart(tmp_path):
    context = Context(seed=1, snapshots=Snapshots(path=tmp_path / "02-prune.part"))
    phase = context.phase("scores")
    assert phase.seed != context.seed
    assert phase.snapshots.path == tmp_path / "02-prune.part.scores"  # as the clean-up expects


def test_a_loss_that_is_not_a_number_stops_and_names_batch_and_layer():
    broken = data()
    broken.train.pixels[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingFailed, match=r"epoch 1, batch \d: the loss is nan, .*; layer 0 is"):
        run(network(), using=broken)


def test_a_loss_that_is_not_a_number_keeps_the_last_good_snapshot(tmp_path):
    kept = Snapshots(path=tmp_path / "half", every=0.0)
    module = network()
    with pytest.raises(TrainingFailed, match="epoch 1, batch 3: the loss is nan"):
        run(module, using=_poisoned_last_batch(), snapshots=kept)
    found = kept.load()
    assert (found["epoch"], found["batch"]) == (0, 2)
    assert all(torch.isfinite(t).all() for t in found["network"].values())


def _poisoned_last_batch():
    broken = data()
    order = Context(seed=3).order(48, "order", 0)
    broken.train.pixels[order[-1]] = float("nan")
    return broken


def test_a_weight_that_is_not_finite_is_named():
    module = network()
    with torch.no_grad():
        module[5].weight[0, 0] = float("inf")
    with pytest.raises(TrainingFailed, match="layer 5 has a weight not finite"):
        run(module)


def test_a_split_becomes_tensors_without_a_change():
    split = Split(pixels=np.full((2, 1, 4, 4), 4, np.uint8), white=16, labels=np.array([0, 2]))
    converted = samples(split)
    assert converted.images.dtype == torch.float32 and converted.labels.tolist() == [0, 2]
    assert (converted.images == 0.25).all() and converted.pixels.dtype == torch.uint8


def test_accuracy_counts_all_samples():
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False))
    with torch.no_grad():
        module[1].weight.zero_()
        for k in range(3):
            module[1].weight[k, k] = 1.0
    using = data().train
    expected = (using.images.flatten(1)[:, :3].argmax(1) == using.labels).float().mean()
    assert accuracy(module, using, batch=7) == pytest.approx(float(expected), abs=1e-7)


def test_an_advance_reads_as_a_sentence():
    shown = Advance(work="epochs", done=3, total=20, loss=0.51234, left=200.0)
    assert str(shown) == "epochs 3/20, loss 0.512, 3 min left"
    assert str(Advance(work="thresholds", done=1, total=2, loss=None)) == "thresholds 1/2"
    assert [duration(s) for s in (89, 91, 5399, 5401)] == ["89 s", "2 min", "90 min", "1.5 h"]


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def test_every_epoch_has_an_order_of_its_own():
    module, seen = network(), []
    module.register_forward_pre_hook(lambda m, x: seen.append(x[0]) if m.training else None)
    run(module)
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert not torch.equal(first, second)
    one, other = ({tuple(image.flatten().tolist()) for image in each} for each in (first, second))
    assert one == other and len(one) == 48


@pytest.fixture
def deaf(monkeypatch):
    """Let one of several processes hear nothing of the others."""
    for name in ("all_reduce", "broadcast", "broadcast_object_list"):
        monkeypatch.setattr(torch.distributed, name, lambda *_, **__: None)


def test_every_draw_of_training_has_its_own_stream_and_those_of_validation_repeat(
    deaf, monkeypatch
):
    draw, drawn = Context.generator, []
    monkeypatch.setattr(
        Context, "generator", lambda self, *key: drawn.append(key) or draw(self, *key)
    )
    using = replace(data(), augment=(Flip(),))
    for rank in (0, 1):
        machine = Machine(rank=rank, processes=2)
        run(linear(), changed(ADVERSARIAL, accumulate=2), using=using, machine=machine)
    validation = sorted(key for key in drawn if key[0] == "validation")
    assert validation == [("validation", 0)] * 2 + [("validation", 1)] * 2  # two epochs
    training = [key for key in drawn if key[0] != "validation"]
    # image and attack of 2 parts of 3 batches of 2 epochs of 2 processes
    assert len(training) == len(set(training)) == 48


def test_a_curriculum_leaves_the_validation_at_the_whole_epsilon():
    settings = changed(objective=Pgd(epsilon=0.4, steps=2))
    losses = []
    for curriculum in (None, Curriculum(start=0.1, epochs=1)):
        verdicts = iter([True, False])  # the eased epoch is the best
        subject = Subject(
            network=linear(),  # stays as it is
            parameters=(nn.Parameter(torch.zeros(())),),
            penalty=None,
            after_step=lambda: None,
            acceptable=lambda verdicts=verdicts: next(verdicts),
        )
        found = fit(subject, changed(settings, curriculum=curriculum), data(), Context(seed=3))
        losses.append(found["validation_loss"])
    assert losses[0] == losses[1]


def test_the_rate_follows_a_cosine_over_all_steps():
    place, places = nn.Parameter(torch.zeros((), dtype=torch.float64)), [0.0]
    subject = Subject(
        network=linear(),
        parameters=(place,),
        penalty=lambda epoch: -place,  # so each step adds the rate
        after_step=lambda: places.append(float(place.detach())),
        acceptable=lambda: True,
    )
    fit(subject, changed(momentum=0.0, decay=0.0), data(), Context(seed=3))
    expected = [0.05 * (1 + cos(pi * step / 6)) / 2 for step in range(6)]
    assert [b - a for a, b in pairwise(places)] == pytest.approx(expected)


def test_the_shares_of_processes_add_up_to_the_gradient_of_the_batch(deaf):
    def moved(machine):
        module, before = linear(), linear()
        weight = module[1].weight
        subject = replace(whole(module, {}), penalty=lambda epoch: weight.square().sum())
        settings = changed(epochs=1, decay=0.0)
        fit(subject, settings, data(5), Context(seed=3, machine=machine))  # 3 and 2 images
        return weight.detach() - before[1].weight.detach()

    one, other = (moved(Machine(rank=rank, processes=2)) for rank in (0, 1))
    # float32 sums in another order
    torch.testing.assert_close(one + other, moved(Machine()), rtol=1e-4, atol=1e-6)


def test_gradients_are_summed_over_processes_and_statistics_averaged(monkeypatch):
    # the other process has the same numbers
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.mul_(2))
    machine, norm = Machine(processes=2), nn.BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([3.0, 5.0]))
    norm.weight.grad = torch.tensor([1.0, -2.0])
    total = machine.sum_gradients(tuple(norm.parameters()), torch.tensor(0.5))
    machine.average_statistics(norm)
    assert total.item() == 1.0
    assert norm.weight.grad.tolist() == [2.0, -4.0] and norm.bias.grad.tolist() == [0.0, 0.0]
    assert norm.running_mean.tolist() == [3.0, 5.0] and norm.running_var.tolist() == [1.0, 1.0]


def test_a_network_given_in_eval_mode_is_trained_in_train_mode():
    one, other = (run(module).network for module in (network(), network().eval()))
    assert same_weights(one, other)
    assert not one.training and not other.training


def test_an_infinite_loss_stops_too():
    module = network()
    subject = replace(whole(module, {}), penalty=lambda epoch: module[0].weight.sum() + inf)
    with pytest.raises(TrainingFailed, match="epoch 1, batch 1: the loss is inf"):
        fit(subject, TRAINING, data(), Context(seed=3))


def test_the_best_network_is_the_one_that_is_left():
    module, states = network(), []

    def first():
        states.append(copy.deepcopy(module.state_dict()))
        return len(states) == 1

    fit(replace(whole(module, {}), acceptable=first), TRAINING, data(), Context(seed=3))
    best, last = states
    assert all(torch.equal(tensor, best[name]) for name, tensor in module.state_dict().items())
    assert not torch.equal(best["0.weight"], last["0.weight"])


def test_training_sees_the_training_and_the_validation_split_only():
    train, validation, test = (
        Split(pixels=np.full((2, 1, 1, 1), value, np.uint8), white=9, labels=np.array([0, 1]))
        for value in (1, 2, 3)
    )
    dataset = Dataset(
        name="tiny",
        train=train,
        validation=validation,
        test=test,
        class_names=("a", "b"),
        digest="00",
    )
    found = training_data(dataset)
    assert found.train.pixels.flatten().tolist() == [1, 1]
    assert found.validation.pixels.flatten().tolist() == [2, 2]


def test_a_spiking_network_that_meets_no_number_stops_before_it_learns_it(tmp_path):
    broken = data()
    broken.train.pixels[0, 0, 0, 0] = float("nan")  # a spike hides it: nan >= threshold is False
    kept = Snapshots(path=tmp_path / "half", every=0.0)
    state, context = State(network=spiking()), Context(seed=3, snapshots=kept)
    with pytest.raises(TrainingFailed, match="the gradient's norm nan; layer body.0 is the first"):
        finetune(state, ADVERSARIAL, broken, context, learn_thresholds=True)
    found = kept.load()
    if found is not None:
        assert all(torch.isfinite(t).all() for t in found["network"].values())


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path):
    module = network()
    kept = Snapshots(path=tmp_path / "half", every=0.0)
    weight = module[0].weight

    def penalty(epoch):  # 0 at 0, with an infinite slope
        return (weight - weight.detach()).abs().sum().sqrt()

    before = copy.deepcopy(module.state_dict())
    subject = replace(whole(module, {}), penalty=penalty)
    with pytest.raises(TrainingFailed, match="epoch 1, batch 1: .* the gradient's norm nan"):
        fit(subject, TRAINING, data(), Context(seed=3, snapshots=kept))
    assert kept.load() is None
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


def test_an_infinite_validation_loss_is_no_best():
    broken = data()
    broken.validation.pixels[:] = 3e38
    with pytest.raises(TrainingFailed, match="no epoch ended with a network to keep"):
        run(network(), using=broken)


def test_a_part_of_one_sample_is_refused_where_batch_norm_has_no_variance_of_it():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with pytest.raises(InvalidSetting, match="leave a part of one sample, of which 2 has no"):
        run(module, changed(batch=47))
    with pytest.raises(InvalidSetting, match="2 parts and 1 processes leave a part of one sample"):
        run(module, changed(batch=46, accumulate=2))
    run(module, changed(batch=46, epochs=1))
    run(network(), changed(batch=47, epochs=1))


def test_a_snapshot_of_another_stage_is_refused(tmp_path):
    kept = Snapshots(path=tmp_path / "half", every=0.0)
    run(network(), snapshots=kept)
    other = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(InvalidFile, match="half is not a snapshot of this stage"):
        run(other, snapshots=kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 2, "batch": 20},
        {"precision": "bfloat16"},
        {"curriculum": Curriculum(start=0.2, epochs=2), "validate_every": 2},
    ],
)
def test_whatever_the_settings_a_killed_fit_ends_with_the_same_bits(tmp_path, changes):
    settings = changed(ADVERSARIAL, epochs=3, **changes)
    using = replace(data(), augment=(Flip(),))
    full = run(network(0.5), settings, using=using)
    stopping = _Stopping(path=tmp_path / "half", every=0.0, stop=5)
    with pytest.raises(Killed):
        run(network(0.5), settings, using=using, snapshots=stopping)
    kept = Snapshots(path=tmp_path / "half", every=0.0)
    assert same_weights(
        full.network, run(network(0.5), settings, using=using, snapshots=kept).network
    )


def test_in_bfloat16_equal_predictions_do_not_diverge_by_rounding():
    module = network().eval()
    image = data().train.images[:1]
    nearly = data().train.images + 1e-4
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        with logits_in_float32(module, image, "bfloat16"):
            one, other = module(data().train.images), eval_view(module)(nearly)
        rough = module(data().train.images)
    assert one.dtype == other.dtype == torch.float32 and rough.dtype == torch.bfloat16
    exact = divergence(module(data().train.images), module(nearly))
    assert abs(divergence(one, other) - exact) < 1e-4  # features still have 8 bits
    assert not module._forward_hooks and not module[8]._forward_hooks


def test_in_float32_the_readout_is_left_alone():
    module = network()
    with logits_in_float32(module, data().train.images[:1], "float32"):
        assert not module._forward_hooks and not module[8]._forward_hooks
