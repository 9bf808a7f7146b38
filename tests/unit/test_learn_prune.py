"""Pruners: what goes, what learns meanwhile, and what is refused."""

import copy

import pytest
import torch
from pydantic import ValidationError
from snnc.errors import InvalidSetting, Refusal, TrainingFailed
from snnc.learn.adapt import Adapt
from snnc.learn.balance import Balance
from snnc.learn.convert import Convert
from snnc.learn.fit import Training, fit
from snnc.learn.objectives import Pgd, Standard
from snnc.learn.objectives.perturbation import gradient_sign
from snnc.learn.prune import (
    Harp,
    Hydra,
    Magnitude,
    Random,
    apply_masks,
    check,
    choose,
    nonzero_masks,
    prunable,
    sparsity,
)
from snnc.learn.prune.counts import emptied, kept, largest
from snnc.learn.prune.harp import Budgeted
from snnc.learn.prune.hydra import scored_copy
from snnc.learn.prune.magnitude import magnitude_mask, prune
from snnc.learn.prune.masks import masked_copy
from snnc.learn.prune.scores import Rate, Scored, masked_network, score
from snnc.learn.snapshots import Snapshots
from snnc.learn.stage import Context, Samples, State, TrainingData
from snnc.learn.views import eval_view
from torch import nn

SCORES = Training(
    epochs=2,
    batch=16,
    rate=0.1,
    momentum=0.9,
    decay=1e-4,
    validate_every=1,
    accumulate=1,
    precision="float32",
    objective=Standard(),
)
CONVERT = Convert(
    steps=4,
    reset="zero",
    keep=1.0,
    granularity="layer",
    surrogate="triangle",
    width=1.0,
    thresholds="learned",
    restart=False,
    adapt=Adapt(epochs=1, batch=24),
)
LAYERS = ["0.weight", "5.weight", "7.weight"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


def data(samples=48):
    """Return images whose brightest third is their class, with noise."""
    draw = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (samples + 24,), generator=draw)
    images = torch.rand(len(labels), 1, 4, 4, generator=draw) * 0.5
    images[torch.arange(len(labels)), 0, labels] += 0.5
    everything = Samples(pixels=images, white=1.0, labels=labels)
    rows = torch.arange(len(labels))
    return TrainingData(
        train=everything.rows(rows[:samples]),
        validation=everything.rows(rows[samples:]),
        augment=(),
    )


def hydra(level=0.5, **keys):
    return Hydra(sparsity=level, scores=SCORES.model_copy(update=keys))


def harp(level=0.5, **keys):
    settings = {
        "sparsity": level,
        "budget": "weights",
        "least": 0.1,
        "start": 0.1,
        "gamma": 0.5,
        "scores": SCORES,
    }
    return Harp(**{**settings, **keys})


def chosen(settings, module=None, seed=3, using=None):
    state = State(network=module or network())
    return choose(state, settings, using or data(), Context(seed=seed), CONVERT)


def layer_sizes(module):
    return [weight.numel() for weight in prunable(module).values()]


def budgeted(settings, costs=layer_sizes):
    return Budgeted(network(), settings, costs)


# Counting


def test_rounding_of_floats_does_not_keep_a_weight_too_many():
    assert kept(100, 0.29) == 71  # 0.29 * 100 is 28.999999999999996


def test_the_largest_are_counted_exactly_and_the_first_of_equal_ones_stay():
    values = torch.tensor([1.0, 3.0, 1.0, 2.0, 1.0])
    assert largest(values, 3).tolist() == [True, True, False, True, False]
    assert largest(torch.ones(10), 1).tolist() == [True] + [False] * 9
    assert largest(values, 5).all() and not largest(values, 0).any()


def test_the_smallest_weights_go_whatever_their_sign():
    weight = torch.tensor([[0.1, -5.0], [3.0, -0.2]])
    assert magnitude_mask(weight, 0.5).tolist() == [[False, True], [True, False]]


# Masks


@pytest.mark.parametrize(
    "settings",
    [
        Magnitude(sparsity=0.5, scope="layer"),
        Magnitude(sparsity=0.5, scope="global"),
        Random(sparsity=0.5),
        hydra(),
        harp(),
    ],
    ids=["layer", "global", "random", "hydra", "harp"],
)
def test_every_pruner_keeps_values_and_leaves_its_input_and_all_else_alone(settings):
    module = network()
    before = copy.deepcopy(module.state_dict())
    pruned = chosen(settings, module).network
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert type(pruned) is nn.Sequential and [type(m) for m in pruned] == [type(m) for m in module]
    assert list(pruned.state_dict()) == list(before)
    assert all(parameter.requires_grad for parameter in pruned.parameters())
    for name, weight in prunable(pruned).items():
        living = weight != 0
        assert 0 < int(living.sum()) < weight.numel()
        assert torch.equal(weight[living], before[name][living])
        assert not weight[~living].signbit().any()  # +0, which is what files compare
    for name in ("0.bias", "5.bias", "7.bias"):
        assert torch.equal(pruned.get_parameter(name), before[name])


def test_metrics_tell_the_share_of_weights_that_each_layer_keeps():
    result = chosen(Magnitude(sparsity=0.5, scope="layer"))
    assert result.metrics == {"sparsity": 0.5, "kept.0": 0.5, "kept.5": 0.5, "kept.7": 0.5}


def test_masks_are_values_that_revive_nothing():
    pruned = prune(network(), sparsity=0.5)
    masks = nonzero_masks(pruned)
    with torch.no_grad():
        for weight in prunable(pruned).values():
            weight.add_(1)
    apply_masks(pruned, masks)
    assert all((w[~masks[name]] == 0).all() for name, w in prunable(pruned).items())


def test_the_global_threshold_is_one_for_all_layers():
    module = network()
    prunable(module)["7.weight"].data.mul_(100)
    result = chosen(Magnitude(sparsity=0.5, scope="global"), module)
    gone = torch.cat([w[w == 0] for w in prunable(result.network).values()])
    weights = prunable(module)
    masks = nonzero_masks(result.network)
    smallest = min(float(weights[name][mask].abs().min().detach()) for name, mask in masks.items())
    largest_gone = max(
        float(weights[name][~mask].abs().max().detach())
        for name, mask in masks.items()
        if not mask.all()
    )
    assert len(gone) == 132 and sparsity(result.network) == 0.5  # of 36 + 192 + 36
    assert largest_gone <= smallest
    assert result.metrics["kept.7"] == 1.0


def test_random_connections_depend_on_the_seed_and_not_on_the_weights():
    settings = Random(sparsity=0.5)
    first, again, other = (chosen(settings, seed=seed).network for seed in (3, 3, 4))
    doubled = network()
    for weight in prunable(doubled).values():
        weight.data.mul_(torch.rand(weight.shape, generator=torch.Generator().manual_seed(8)))
    of_others = chosen(settings, doubled).network
    masks, others = nonzero_masks(first), nonzero_masks(other)
    assert all(torch.equal(mask, nonzero_masks(again)[name]) for name, mask in masks.items())
    assert all(torch.equal(mask, nonzero_masks(of_others)[name]) for name, mask in masks.items())
    assert all(not torch.equal(mask, others[name]) for name, mask in masks.items())


def test_random_masks_of_layers_of_one_shape_differ():
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    masks = nonzero_masks(chosen(Random(sparsity=0.5), module).network)
    assert not torch.equal(masks["0.weight"], masks["1.weight"])


# Refusals


@pytest.mark.parametrize("level", [-0.1, 1.0, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(level):
    with pytest.raises(InvalidSetting, match="sparsity"):
        prune(network(), sparsity=level)
    for make in (hydra, harp, lambda s: Random(sparsity=s)):
        with pytest.raises(ValidationError, match="sparsity"):
            make(level)


@pytest.mark.parametrize(
    "settings",
    [
        Magnitude(sparsity=1 - 1e-13, scope="layer"),
        Random(sparsity=1 - 1e-13),
        hydra(1 - 1e-13),
        harp(1 - 1e-13),
    ],
    ids=["magnitude", "random", "hydra", "harp"],
)
def test_every_layer_that_would_be_emptied_is_named_before_any_training(settings):
    with pytest.raises(Refusal) as caught:
        check(network(), settings)
    assert [issue.layer for issue in caught.value.issues] == ["0", "5", "7"]
    assert {issue.code for issue in caught.value.issues} == {"empty-layer"}
    assert "0: sparsity 1 leaves none of its 36 weights; lower the sparsity" in str(caught.value)
    with pytest.raises(Refusal):
        chosen(settings)


def test_a_layer_keeps_a_weight_as_long_as_the_count_rounds_up():
    check(network(), hydra(0.999))
    check(network(), harp(0.999))
    assert emptied(prunable(network()), 0.999) == []


def test_a_global_threshold_needs_a_weight_for_each_layer():
    check(network(), Magnitude(sparsity=0.989, scope="global"))  # 3 of 264 weights, 3 layers
    with pytest.raises(Refusal, match="0, 5, 7: sparsity 0.995 leaves 2 of 264 weights for 3 lay"):
        check(network(), Magnitude(sparsity=0.995, scope="global"))


def test_a_global_threshold_that_empties_layers_names_all_of_them():
    module = network()
    prunable(module)["5.weight"].data.mul_(100)
    with pytest.raises(Refusal) as caught:
        chosen(Magnitude(sparsity=0.5, scope="global"), module)
    assert [issue.layer for issue in caught.value.issues] == ["0", "7"]
    assert "sparsity 0.5 leaves none of its 36 weights" in str(caught.value)


@pytest.mark.parametrize(("level", "least", "start"), [(0.0, 0.1, 0.1), (0.5, 0.4, 0.1)])
def test_a_rate_cannot_start_at_or_below_its_least_value(level, least, start):
    with pytest.raises(Refusal, match="every layer: start is 0.1, not above least x"):
        check(network(), harp(level, least=least, start=start))


def test_the_least_rate_must_leave_a_weight_too():
    with pytest.raises(Refusal) as caught:
        check(network(), harp(0.9, least=1e-13))
    assert [issue.layer for issue in caught.value.issues] == ["0", "5", "7"]


def test_a_network_without_weights_is_refused():
    with pytest.raises(Refusal, match="no layer has weights to prune"):
        check(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), hydra())


def test_layers_of_zeros_cannot_be_scored_or_left_empty():
    module = network()
    prunable(module)["0.weight"].data.zero_()
    prunable(module)["5.weight"].data.zero_()
    with pytest.raises(Refusal) as caught:
        chosen(hydra(), module)
    assert [issue.layer for issue in caught.value.issues] == ["0", "5"]
    with pytest.raises(Refusal, match="leaves none of its 36 weights"):
        masked_copy(module, nonzero_masks(network()), sparsity=0.0)


def test_events_need_statistics_and_the_weights_that_are_pruned():
    balance = Balance(steps=4, percentile=99.0, scale=0.5, batches=1, batch=24)
    settings = harp(budget="events")
    check(network(), settings, CONVERT)
    bad = CONVERT.model_copy(update={"restart": True, "balance": balance, "adapt": None})
    with pytest.raises(Refusal) as caught:
        check(network(), settings, bad)
    assert [issue.layer for issue in caught.value.issues] == ["convert.restart", "convert.adapt"]
    check(network(), harp(), bad)  # weights are counted without a spiking network
    check(nn.Sequential(nn.Linear(20, 3)), settings, bad.model_copy(update={"restart": False}))


# Scores


def test_a_score_stage_moves_scores_and_batch_norm_and_nothing_else():
    subject = scored_copy(network(), hydra())
    names = {id(p): name for name, p in subject.network.named_parameters()}
    moved = {names[id(p)] for p in subject.parameters}
    scores = {f"{i}.parametrizations.weight.0.score" for i in (0, 5, 7)}
    assert moved == scores | {"1.weight", "1.bias"}
    assert {n for n, p in subject.network.named_parameters() if p.requires_grad} == moved
    before = copy.deepcopy(subject.network.state_dict())
    fit(subject, SCORES, data(), Context(seed=1))
    for name, value in subject.network.state_dict().items():
        learns = name in moved or "running" in name or "num_batches" in name
        assert torch.equal(value, before[name]) != learns, name


def test_the_learned_scores_choose_other_weights_than_magnitude_does():
    settings = hydra(0.8, epochs=6, rate=1.0)
    result = chosen(settings)
    masks = nonzero_masks(result.network)
    lwm = nonzero_masks(prune(network(), sparsity=0.8))
    assert all(int(mask.sum()) == int(lwm[name].sum()) for name, mask in masks.items())
    assert any(not torch.equal(mask, lwm[name]) for name, mask in masks.items())
    assert set(result.metrics) >= {"scores.validation_loss", "scores.epoch", "sparsity", "kept.0"}


def test_the_pruned_network_computes_what_the_scored_one_did():
    subject = scored_copy(network(), hydra(0.8))
    fit(subject, SCORES, data(), Context(seed=1))
    plain = masked_network(subject.network, like=network())
    images = data().validation.images
    assert torch.equal(plain(images), subject.network(images))
    assert not torch.equal(plain[1].running_mean, network()[1].running_mean)


def test_making_a_plain_network_leaves_the_scored_one_at_work():
    subject = scored_copy(network(), hydra())
    masked_network(subject.network, like=network())
    assert int((subject.network[5].weight == 0).sum()) == 96
    subject.network(data().train.images).sum().backward()
    assert subject.network[5].parametrizations.weight[0].score.grad is not None


def test_what_was_frozen_before_is_frozen_after():
    module = network()
    module[0].bias.requires_grad_(False)
    pruned = chosen(hydra(), module).network
    assert [n for n, p in pruned.named_parameters() if not p.requires_grad] == ["0.bias"]


def test_an_adversary_sees_the_masked_network_and_leaves_no_gradient():
    subject = scored_copy(network().eval(), hydra(0.8))
    images = data().validation.images
    seen = eval_view(subject.network)
    assert torch.equal(seen(images), subject.network(images))
    sign = gradient_sign(seen, lambda logits: logits[:, 0].sum(), images)
    plain = masked_network(subject.network, like=network())
    assert torch.equal(sign, gradient_sign(plain, lambda logits: logits[:, 0].sum(), images))
    assert all(p.grad is None for p in subject.network.parameters())
    subject.network[5].parametrizations.weight[0].score.data.neg_().add_(1)  # a view shares them
    assert torch.equal(seen(images), subject.network(images))


def test_scores_learn_against_an_adversary():
    result = chosen(hydra(0.5, objective=Pgd(epsilon=0.1, steps=2)))
    assert result.metrics["sparsity"] == 0.5


def test_scores_that_stop_and_go_on_choose_the_same(tmp_path):
    class Killed(BaseException):
        pass

    def kill(advance):
        if advance.work == "epochs" and advance.done == 1:
            raise Killed

    for settings in (hydra(0.8), harp(0.8, start=0.3, gamma=3.0)):
        whole = chosen(settings).network
        path = tmp_path / settings.method
        snapshots = Snapshots(path=path, every=0.0)
        state = State(network=network())
        with pytest.raises(Killed):
            context = Context(seed=3, progress=kill, snapshots=snapshots)
            choose(state, settings, data(), context, CONVERT)
        assert path.exists()
        resumed = choose(state, settings, data(), Context(seed=3, snapshots=snapshots), CONVERT)
        for name, value in resumed.network.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name]), name


# Rates and budgets


def test_a_rate_counts_as_the_fixed_sparsity_does():
    for weights in (1000, 1728, 36864, 2560):
        values = torch.randn(weights, generator=torch.Generator().manual_seed(1))
        for share in (0.1, 0.05, 0.29):
            learned = Scored(values, Rate(least=0.01, start=share, like=values))
            assert learned.count() == kept(weights, round(1 - share, 9)), (weights, share)


def test_a_rate_learns_with_momentum_and_decay_like_the_scores():
    subject = budgeted(harp()).subject()
    rates = [m.logit for m in subject.network.modules() if isinstance(m, Rate)]
    assert len(rates) == 3
    assert all(any(rate is p for p in subject.parameters) for rate in rates)
    assert len(subject.parameters) == 3 + 3 + 2  # rates, scores, batch norm


def test_the_first_step_of_a_rate_is_its_gradient_and_its_decay():
    module = Budgeted(network(), harp(0.8, gamma=7.0), layer_sizes)
    rate = module.rates["5.weight"]
    start = rate.logit.detach().clone()
    settings = SCORES.model_copy(update={"epochs": 1, "batch": 48, "decay": 0.3, "rate": 0.01})
    subject = module.subject()
    twin = Budgeted(network(), harp(0.8, gamma=7.0), layer_sizes)
    twin.train()
    images, labels = data().train.images, data().train.labels
    loss = nn.functional.cross_entropy(twin(images), labels) + twin.penalty(0)
    (gradient,) = torch.autograd.grad(loss, [twin.rates["5.weight"].logit])
    with pytest.raises(TrainingFailed, match="budget"):  # one step does not meet it
        tight = harp(0.8, gamma=7.0, start=0.5)
        fit(Budgeted(network(), tight, layer_sizes).subject(), settings, data(), Context(seed=1))
    module.within_budget = lambda: True
    fit(module.subject(), settings, data(), Context(seed=1))
    expected = start - 0.01 * (gradient + 0.3 * start)
    torch.testing.assert_close(rate.logit.detach(), expected)
    assert subject.penalty is not None


def test_the_budget_weighs_each_rate_by_what_its_layer_costs():
    module = budgeted(harp(0.8), costs=lambda _: [10, 30, 60])
    for rate, logit in zip(module.rates.values(), (-1.0, 0.0, 2.0), strict=True):
        rate.logit.data.fill_(logit)
    module.within_budget()
    r = [0.02 + 0.98 / (1 + 2.718281828459045**-x) for x in (-1.0, 0.0, 2.0)]
    expected = (0.1 * r[0] + 0.3 * r[1] + 0.6 * r[2]) / 0.2 - 1
    assert float(module.excess().detach()) == pytest.approx(expected, rel=1e-6)  # float32
    module.excess().backward()
    slopes = [(x - 0.02) * (1 - x) / 0.98 for x in r]  # dr / dlogit
    for rate, share, slope in zip(module.rates.values(), (0.1, 0.3, 0.6), slopes, strict=True):
        assert float(rate.logit.grad) == pytest.approx(share * slope / 0.2, rel=1e-5)  # float32


def test_below_the_budget_there_is_no_penalty():
    module = budgeted(harp(0.5))  # every rate starts at 0.1 of 0.5
    penalty = module.penalty(0)
    penalty.backward()
    assert float(penalty.detach()) == 0
    assert all(float(rate.logit.grad) == 0 for rate in module.rates.values())


def test_the_penalty_grows_with_the_epochs_until_one_ends_within_the_budget():
    module = budgeted(harp(0.8, start=0.4, gamma=0.5))  # excess 1
    strengths = [float(module.penalty(epoch).detach()) for epoch in (0, 1, 2)]
    assert strengths == pytest.approx([0.5, 1.0, 1.5], rel=1e-5)  # float32
    set_rates(module, 0.15)
    assert float(module.penalty(2).detach()) == 0  # within the epoch: not yet held
    assert int(module.held) == -1
    assert float(module.penalty(3).detach()) == 0  # epoch 2 ended within the budget
    assert int(module.held) == 2
    set_rates(module, 0.4)
    # from now on gamma is that of epoch 2, and the excess is 1 again
    assert float(module.penalty(3).detach()) == pytest.approx(1.5, rel=1e-5)
    assert float(module.penalty(9).detach()) == pytest.approx(1.5, rel=1e-5)


def test_starting_within_the_budget_is_not_having_met_it():
    module = budgeted(harp(0.9, gamma=0.5))
    module.penalty(0)
    assert int(module.held) == -1


@pytest.mark.parametrize(
    ("share", "accepted"),
    [(0.19, True), (0.2, True), (0.200006, True), (0.2001, False)],  # 0.200006 is 3e-5 too much
)
def test_only_a_network_within_the_budget_may_be_the_best(share, accepted):
    module = budgeted(harp(0.8))
    set_rates(module, share)
    assert module.subject().acceptable() is accepted


def test_a_network_over_the_budget_is_not_kept_although_an_earlier_one_met_it():
    module = budgeted(harp(0.8))
    set_rates(module, 0.15)
    assert module.within_budget()
    set_rates(module, 0.3)
    assert not module.within_budget()


def test_costs_are_found_at_the_start_of_an_epoch_and_before_a_network_is_kept():
    seen = []

    def costs(masked):
        seen.append(sparsity(masked))
        return [10 * len(seen), 10, 10]

    module = budgeted(harp(0.8), costs=costs)
    module.penalty(0)
    module.penalty(0)
    assert len(seen) == 1 and module.costs.tolist() == [10, 10, 10]
    module.penalty(1)
    assert len(seen) == 2 and module.costs.tolist() == [20, 10, 10]
    module.within_budget()
    assert len(seen) == 3
    assert seen[0] == pytest.approx(0.9, abs=0.02)  # of the masked network, by its rates


def test_what_a_budget_remembers_is_in_the_state_and_is_not_averaged():
    module = budgeted(harp(0.8, start=0.15), costs=lambda _: [1, 2, 3])
    module.penalty(0)
    module.penalty(1)
    other = budgeted(harp(0.8, start=0.15), costs=lambda _: [1, 2, 3])
    other.load_state_dict(module.state_dict())
    assert (int(other.epoch), int(other.held), other.costs.tolist()) == (1, 0, [1, 2, 3])
    remembered = (other.epoch, other.held, other.costs)
    assert not any(buffer.is_floating_point() for buffer in remembered)


def test_a_convolution_may_be_the_whole_network():
    scored = nn.Linear(4, 2)
    rules = score(scored, {"weight": 0.5})
    assert list(rules) == ["weight"] and int((scored.weight == 0).sum()) == 4
    plain = masked_network(scored, like=nn.Linear(4, 2))
    assert int((plain.weight == 0).sum()) == 4


def set_rates(module, share):
    for rate in module.rates.values():
        value = (share - rate.least) / (1 - rate.least)
        rate.logit.data.copy_(torch.logit(torch.tensor(value)))


def test_a_budget_that_was_met_before_is_no_excuse():
    module = budgeted(harp(0.8, start=0.15))
    module.penalty(0)
    module.penalty(1)
    assert int(module.held) == 0  # epoch 0 ended within the budget
    set_rates(module, 0.3)
    assert not module.subject().acceptable()
