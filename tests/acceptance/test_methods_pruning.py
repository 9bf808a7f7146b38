"""Acceptance tests 17 to 20 and 33 of METHODS section 7: pruning."""

import copy

import pytest
import torch
from snnc import data as datasets
from snnc.errors import TrainingFailed
from snnc.frontend.checkpoint import from_module, load_checkpoint, save_checkpoint, to_module
from snnc.frontend.torch_module import from_torch
from snnc.ir.weights import unpack
from snnc.learn.adapt import Adapt
from snnc.learn.convert import Convert, convert
from snnc.learn.finetune import finetune
from snnc.learn.fit import Training
from snnc.learn.objectives import Rfgsm, Standard, Trades
from snnc.learn.prune import (
    Harp,
    Hydra,
    Magnitude,
    Random,
    choose,
    nonzero_masks,
    prunable,
    sparsity,
)
from snnc.learn.prune.counts import kept
from snnc.learn.prune.harp import Budgeted
from snnc.learn.prune.hydra import scored_copy
from snnc.learn.prune.scores import Scored, initial_scores
from snnc.learn.stage import Context, State, training_data
from snnc.learn.train import train
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers
from snnc_models.small import small_conv
from torch import nn

ROBUST = Trades(epsilon=0.05, steps=2, beta=2.0)
COUNTS = [(1728, (173, 87, 18)), (36864, (3687, 1844, 369)), (2560, (256, 128, 26))]
LEVELS = (0.9, 0.95, 0.99)


def training(epochs=2, rate=0.1, objective=ROBUST, decay=5e-4):
    return Training(
        epochs=epochs,
        batch=64,
        rate=rate,
        momentum=0.9,
        decay=decay,
        validate_every=1,
        accumulate=1,
        precision="float32",
        objective=objective,
    )


def harp(level, epochs=4, gamma=1.0, **keys):
    settings = {
        "sparsity": level,
        "budget": "weights",
        "least": 0.1,
        "start": 0.1,
        "gamma": gamma,
        "scores": training(epochs, objective=Standard()),
    }
    return Harp(**{**settings, **keys})


CONVERT = Convert(
    steps=4,
    reset="zero",
    keep=1.0,
    granularity="layer",
    surrogate="triangle",
    width=1.0,
    thresholds="learned",
    restart=False,
    adapt=Adapt(epochs=1, batch=64),
)


def network(seed=0):
    torch.manual_seed(seed)
    return small_conv(channels=[8, 16], pool_after=[1, 2])


@pytest.fixture(scope="module")
def digits():
    return training_data(datasets.load("digits"))


@pytest.fixture(scope="module")
def dense(digits):
    settings = training(epochs=3, objective=Standard())
    return train(State(network=network()), settings, digits, Context(seed=0))


# 17


@pytest.mark.parametrize(("weights", "counts"), COUNTS)
def test_scores_keep_the_published_number_of_weights(weights, counts):
    """Test 17: n - int((1 - k) n), counted in the mask that runs."""
    for level, count in zip(LEVELS, counts, strict=True):
        rule = Scored(torch.randn(weights, generator=torch.Generator().manual_seed(1)), level)
        assert int((rule(torch.ones(weights)) != 0).sum()) == count
        assert int(rule.mask().sum()) == count


@pytest.mark.parametrize("level", LEVELS)
def test_before_any_update_the_scores_choose_what_magnitude_chooses(dense, level):
    """Test 17: HYDRA's first mask is the LWM mask of each layer."""
    settings = Hydra(sparsity=level, scores=training())
    scored = scored_copy(dense.network, settings).network
    lwm = choose(dense, Magnitude(sparsity=level, scope="layer"), None, Context(seed=0), CONVERT)
    for name, weight in prunable(scored).items():
        assert torch.equal(weight, prunable(lwm.network)[name]), name


def test_the_gradient_of_a_score_is_that_of_its_weight_times_the_weight_and_its_sign():
    """Test 17: dL/ds = (dL/dw_eff) w sign(s), for pruned weights too."""
    weight = torch.tensor([[0.5, -2.0, 0.1], [1.0, -0.3, 3.0]])
    rule = Scored(initial_scores(weight), 0.5)
    upstream = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
    rule(weight).backward(upstream)
    assert torch.equal(rule.score.grad, upstream * weight * rule.score.detach().sign())
    assert (rule.score.grad[~rule.mask()] != 0).all() and (~rule.mask()).sum() == 3


def test_the_first_scores_are_scaled_by_the_fan_in():
    """Test 17: s = sqrt(6 / fan_in) w / max|w|, with its sign."""
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    expected = (6 / 12) ** 0.5 * weight / weight.abs().max()
    torch.testing.assert_close(initial_scores(weight), expected)


def test_scores_learn_while_weights_stay_and_then_the_other_way_round(dense, digits):
    """Test 17: weights are frozen in the score stage, the mask in finetuning."""
    settings = Hydra(sparsity=0.9, scores=training())
    pruned = choose(dense, settings, digits, Context(seed=1), CONVERT)
    masks = nonzero_masks(pruned.network)
    for name, weight in prunable(pruned.network).items():
        assert torch.equal(weight[masks[name]], prunable(dense.network)[name][masks[name]]), name
    tuned = train(pruned, training(rate=0.01), digits, Context(seed=2)).network
    for name, weight in prunable(tuned).items():
        assert (weight[~masks[name]] == 0).all()
        assert (weight[masks[name]] != prunable(pruned.network)[name][masks[name]]).any()


# 18


@pytest.mark.parametrize(("level", "excess"), [(0.9, 0), (0.95, 1), (0.99, 9)])
def test_every_rate_starts_at_a_tenth_whatever_the_sparsity(level, excess):
    """Test 18: r0 = 0.1, and the budget loss is 0, 1, 9 for k = 0.1, 0.05, 0.01."""
    budgeted = Budgeted(network(), harp(level), weights_of)
    budgeted.within_budget()
    rates = torch.stack([rate() for rate in budgeted.rates.values()])
    assert len(rates) == 3
    # float32 knows a tenth to 1e-8, and the loss divides its error by k
    torch.testing.assert_close(rates, torch.full((3,), 0.1), rtol=0, atol=1e-7)
    assert float(budgeted.excess().detach()) == pytest.approx(excess, abs=1e-5)


@pytest.mark.parametrize(("level", "logit"), [(0.9, -2.3026), (0.95, -2.2485), (0.99, -2.2073)])
def test_the_rates_start_at_the_published_logits(level, logit):
    """Section 1.2: k_score for k = 0.1, 0.05, 0.01, written with four digits."""
    budgeted = Budgeted(network(), harp(level), weights_of)
    for rate in budgeted.rates.values():
        assert float(rate.logit.detach()) == pytest.approx(logit, abs=1e-4)


def test_the_gradient_of_a_rate_is_the_sum_of_those_of_the_mask():
    """Test 18: straight through, sum(g), then through r = least + (1 - least) sigmoid."""
    budgeted = Budgeted(nn.Linear(4, 3, bias=False), harp(0.5, least=0.2, start=0.5), weights_of)
    (rate,) = budgeted.rates.values()
    weight = budgeted.network.parametrizations["weight"].original
    upstream = torch.arange(12.0).reshape(3, 4)
    budgeted.network.weight.backward(upstream)
    mask_gradient = (upstream * weight).sum()  # w_eff = w mask
    r = rate().detach()
    slope = (r - rate.least) * (1 - r) / (1 - rate.least)  # dr / dlogit
    torch.testing.assert_close(rate.logit.grad, mask_gradient * slope)


@pytest.mark.parametrize("level", LEVELS)
def test_a_rate_stays_between_a_tenth_of_the_target_and_one(level):
    """Test 18: r in [0.1 k, 1] wherever learning drives its logit."""
    budgeted = Budgeted(network(), harp(level), weights_of)
    for logit, bound in ((-1e4, 0.1 * (1 - level)), (1e4, 1.0)):
        for rate in budgeted.rates.values():
            rate.logit.data.fill_(logit)
            assert float(rate().detach()) == pytest.approx(bound, rel=1e-6)  # float32


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_learned_rates_end_within_the_budget(dense, digits, level):
    """Test 18: sum r n <= k sum n, and the layers differ."""
    result = choose(dense, harp(level, epochs=6), digits, Context(seed=1), CONVERT)
    weights = prunable(result.network)
    total = sum(weight.numel() for weight in weights.values())
    living = sum(int((weight != 0).sum()) for weight in weights.values())
    # each layer rounds its count up by less than one weight
    assert living <= (1 - level) * total * (1 + 1e-4) + len(weights)
    shares = [result.metrics[f"kept.{name.removesuffix('.weight')}"] for name in weights]
    assert max(shares) > 2 * min(shares)


def test_a_budget_that_is_never_met_yields_no_network(dense, digits):
    """Test 18: the best network is accepted only within the budget."""
    with pytest.raises(TrainingFailed, match="budget"):
        choose(dense, harp(0.99, epochs=1, gamma=1e-3), digits, Context(seed=1), CONVERT)


# 19


@pytest.mark.parametrize("method", ["magnitude", "random", "hydra"])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_a_uniform_pruner_is_within_one_weight_of_the_sparsity_in_every_layer(
    dense, digits, method, level
):
    """Test 19, with the global sparsity counted by weights and not by layers."""
    settings = {
        "magnitude": Magnitude(sparsity=level, scope="layer"),
        "random": Random(sparsity=level),
        "hydra": Hydra(sparsity=level, scores=training(1, objective=Standard())),
    }[method]
    result = choose(dense, settings, digits, Context(seed=1), CONVERT)
    weights = prunable(result.network)
    for name, weight in weights.items():
        zeros = int((weight == 0).sum())
        assert abs(zeros - level * weight.numel()) < 1, name
        assert weight.numel() - zeros == kept(weight.numel(), level)
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    total = sum(weight.numel() for weight in weights.values())
    assert result.metrics["sparsity"] == zeros / total


def test_sparsity_is_weighted_by_weights():
    """Test 19: a layer of 80 weights counts ten times one of 8."""
    module = nn.Sequential(nn.Linear(8, 10), nn.Linear(8, 1))
    module[1].weight.data.zero_()
    assert sparsity(module) == 8 / 88


# 20


@pytest.mark.parametrize(
    "settings",
    [
        Magnitude(sparsity=0.9, scope="layer"),
        Magnitude(sparsity=0.9, scope="global"),
        Random(sparsity=0.9),
        Hydra(sparsity=0.9, scores=training(1, objective=Standard())),
        harp(0.9, epochs=3),
    ],
    ids=["layer", "global", "random", "hydra", "harp"],
)
def test_no_zero_comes_back_from_the_pruner_to_the_integers(dense, digits, settings, tmp_path):
    """Test 20: under momentum and weight decay, conversion, a file, and quantisation."""
    pruned = choose(dense, settings, digits, Context(seed=1), CONVERT)
    masks = nonzero_masks(pruned.network)
    assert all(not mask.all() for mask in masks.values())
    tuned = train(pruned, training(3, objective=Standard(), decay=0.01), digits, Context(seed=2))
    spiking = convert(tuned, CONVERT, digits, Context(seed=3))
    robust = training(1, 0.05, objective=Rfgsm(epsilon=0.1, beta=2.0), decay=0.01)
    finished = finetune(spiking, robust, digits, Context(seed=4), learn_thresholds=True).network
    save_checkpoint(tmp_path / "model.pt", _checkpoint(finished), force=False)
    read = to_module(load_checkpoint(tmp_path / "model.pt"))
    for network in (tuned.network, finished.body, read.body):
        for name, weight in prunable(network).items():
            assert (weight[~masks[name]] == 0).all()
            assert int((weight != 0).sum()) <= int(masks[name].sum())
    program = compile_graph(from_torch(read, input_shape=(1, 8, 8)), Numbers())
    bundles = {each.name: each for into in program.populations for each in into.synapses}
    first = unpack(bundles["conv1"].weight)  # no pooling is folded into it
    assert (first[~masks["conv1.weight"].numpy()] == 0).all()


def _checkpoint(spiking):
    return from_module(
        spiking,
        architecture="small_conv",
        arguments={"channels": [8, 16], "pool_after": [1, 2]},
        input_shape=(1, 8, 8),
        class_names=tuple("0123456789"),
        provenance={},
    )


# 33


def test_at_high_sparsity_learned_scores_beat_magnitudes(digits):
    """Test 33, on three seeds of a small network of the digits, clean training.

    In clean accuracy after the same finetuning. Measured with torch 2.13 on one core:
    0.73, 0.81, 0.85 against 0.59, 0.51, 0.43.
    """
    clean = training(6, objective=Standard(), decay=1e-4)
    gentle = clean.model_copy(update={"epochs": 3, "rate": 0.01})
    for seed in range(3):
        torch.manual_seed(seed)
        untrained = State(network=small_conv(channels=[16, 32], pool_after=[1, 2]))
        dense = train(untrained, clean, digits, Context(seed=seed))
        found = {}
        for settings in (
            Magnitude(sparsity=0.95, scope="layer"),
            Hydra(sparsity=0.95, scores=clean),
        ):
            pruned = choose(copy.copy(dense), settings, digits, Context(seed=1), CONVERT)
            tuned = train(pruned, gentle, digits, Context(seed=2))
            found[settings.method] = tuned.metrics["validation_accuracy"]
        assert found["hydra"] >= found["magnitude"], seed


def weights_of(network):
    return [weight.numel() for weight in prunable(network).values()]
