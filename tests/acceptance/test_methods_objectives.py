"""Acceptance tests 13, 14 and 16 of METHODS section 7: what training minimises.

The reference values were computed in float64, apart from this code. Number 15 (the DLR
loss) belongs to the attacks.
"""

import pytest
import torch
import torch.nn.functional as F
from snnc.ir.graph import Granularity, Reset
from snnc.learn.finetune import finetune
from snnc.learn.fit import Training
from snnc.learn.objectives import Mart, Rfgsm, Trades, loss
from snnc.learn.objectives.mart import boosted_cross_entropy, weighted_divergence
from snnc.learn.objectives.perturbation import divergence, divergences
from snnc.learn.objectives.rfgsm import rfgsm
from snnc.learn.prune.masks import prunable
from snnc.learn.spiking import to_spiking
from snnc.learn.stage import Context, Samples, State, TrainingData
from snnc.learn.surrogates import TRIANGLE
from torch import nn

EPSILON = 0.1
DIGITS = 1e-7  # the reference values are written with seven digits
CLEAN = torch.tensor([[2.0, 0, -1]], dtype=torch.float64)
ADVERSARIAL = torch.tensor([[1.0, 0.5, -1]], dtype=torch.float64)
LABEL = torch.tensor([0])


def seeded():
    return torch.Generator().manual_seed(7)


def smooth_network():
    """Return a network whose logits are differentiable everywhere."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 3))


def batch(samples=64):
    draw = torch.Generator().manual_seed(1)
    # a quarter of the range away from both ends: no clipping to [0, 1] at this epsilon
    images = 0.25 + torch.rand(samples, 1, 4, 4, generator=draw) / 2
    return images, torch.randint(3, (samples,), generator=draw)


def test_the_divergence_weighs_by_the_clean_prediction():
    """Test 13: KL(clean || adversarial), and the reverse is another number."""
    assert divergence(CLEAN, ADVERSARIAL).item() == pytest.approx(0.1718080, abs=DIGITS)
    assert divergence(ADVERSARIAL, CLEAN).item() == pytest.approx(0.2148958, abs=DIGITS)


def test_mart_of_given_logits_is_the_published_sum():
    """Test 13: boosted cross entropy, weighted divergence and their sum at lambda 4."""
    boosted = boosted_cross_entropy(ADVERSARIAL, LABEL)
    weighted = weighted_divergence(CLEAN, ADVERSARIAL, LABEL)
    assert boosted.item() == pytest.approx(0.982832, abs=1e-6)  # written with six digits
    assert weighted.item() == pytest.approx(0.0268373, abs=DIGITS)
    assert (boosted + 4 * weighted).item() == pytest.approx(1.0901818, abs=DIGITS)


def test_rfgsm_moves_each_pixel_by_epsilon_or_not_at_all():
    """Test 14: with a = epsilon / 2, away from clipping, delta is in {-eps, 0, +eps}."""
    images, _ = batch()
    moved = rfgsm(smooth_network(), images, EPSILON, seeded()) - images
    steps = (moved / EPSILON).round()
    assert set(steps.unique().tolist()) == {-1.0, 0.0, 1.0}
    torch.testing.assert_close(moved, steps * EPSILON, rtol=0, atol=1e-7)  # float32 near 0.75


def test_rfgsm_stays_within_epsilon_and_within_the_pixels():
    """Test 14: the ball and the box, with images at both ends of the range."""
    images = batch()[0].mul(4).sub(1.5).clamp(0, 1)
    found = rfgsm(smooth_network(), images, EPSILON, seeded())
    assert (found - images).abs().max() <= EPSILON + 1e-6  # float32 rounding of x + epsilon
    assert found.min() >= 0 and found.max() <= 1


def test_rfgsm_diverges_more_than_its_random_start():
    """Test 14: KL after the step >= KL at the start on at least half of a batch."""
    network, (images, _) = smooth_network(), batch()
    noise = torch.empty_like(images).normal_(generator=seeded()).sign()
    start = images + EPSILON / 2 * noise
    found = rfgsm(network, images, EPSILON, seeded())
    mirrored = 2 * start - found  # the same length the other way, downhill
    target = network(images)
    at_start, after, downhill = (divergences(target, network(x)) for x in (start, found, mirrored))
    assert (after >= at_start).double().mean() >= 0.5
    assert after.mean() > downhill.mean()


@pytest.mark.parametrize(
    "objective",
    [Trades(epsilon=EPSILON, steps=2, beta=0.0), Rfgsm(epsilon=EPSILON, beta=0.0)],
    ids=lambda objective: objective.kind,
)
def test_a_beta_of_zero_leaves_clean_cross_entropy(objective):
    """Test 16: beta = 0 reduces to clean cross entropy."""
    network, (images, labels) = smooth_network(), batch()
    value = loss(objective, network, images, labels, seeded())
    assert torch.equal(value, F.cross_entropy(network(images), labels))


def test_a_beta_of_zero_leaves_boosted_cross_entropy_of_mart():
    """Test 16, for the objective whose first term is adversarial."""
    network, (images, labels) = smooth_network(), batch()
    one, none = (
        loss(Mart(epsilon=EPSILON, steps=2, beta=beta), network, images, labels, seeded())
        for beta in (1.0, 0.0)
    )
    assert F.cross_entropy(network(images), labels) < none < one


def test_one_finetuning_step_moves_weights_gains_shifts_and_thresholds():
    """Test 16: W where the mask is 1, both affine parts of batch norm, and thresholds."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    with torch.no_grad():
        for weight in prunable(ann).values():
            weight[weight.abs() < weight.abs().median()] = 0
    before = to_spiking(
        ann,
        input_shape=(1, 4, 4),
        steps=4,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    images, labels = batch()
    samples = Samples(pixels=images, white=1.0, labels=labels)
    one_step = Training(
        epochs=1,
        batch=len(samples),
        rate=0.1,
        momentum=0.9,
        decay=1e-4,
        validate_every=1,
        accumulate=1,
        precision="float32",
        objective=Rfgsm(epsilon=EPSILON, beta=2.0),
    )
    data = TrainingData(train=samples, validation=samples, augment=())
    after = finetune(
        State(network=before), one_step, data, Context(seed=0), learn_thresholds=True
    ).network
    weights = prunable(before)
    assert set(weights) == {"body.0.weight", "body.4.weight"}
    for name, parameter in after.named_parameters():
        old = before.get_parameter(name)
        if name in weights:
            assert torch.equal(parameter == 0, old == 0)
            assert (parameter[old != 0] != old[old != 0]).all(), name
        else:
            assert (parameter != old).any(), name
