import copy

import pytest
import torch
import torch.nn.functional as F
from snnc.ir.graph import Granularity, Reset
from snnc.learn.objectives import Pgd, Rfgsm, Standard, Trades, loss
from snnc.learn.objectives.perturbation import ascend, divergence, uniform_start
from snnc.learn.objectives.rfgsm import rfgsm
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from torch import nn

EPSILON = 0.1
ALL = [
    Standard(),
    Pgd(epsilon=EPSILON, steps=3),
    Trades(epsilon=EPSILON, steps=3, beta=2.0),
    Rfgsm(epsilon=EPSILON, beta=2.0),
]


def smooth_network():
    """Return a network whose logits are differentiable everywhere."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 3))


def relu_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, 3),
    )


def spiking_network():
    return to_spiking(
        relu_network(),
        input_shape=(1, 4, 4),
        steps=3,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )


def batch(samples=16):
    draw = torch.Generator().manual_seed(1)
    # a quarter of the range away from both ends: no clipping to [0, 1] at these epsilons
    images = 0.25 + torch.rand(samples, 1, 4, 4, generator=draw) / 2
    return images, torch.randint(3, (samples,), generator=draw)


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


def test_the_divergence_weighs_by_the_clean_prediction():
    clean = torch.tensor([[2.0, 0, -1]], dtype=torch.float64)
    adversarial = torch.tensor([[1.0, 0.5, -1]], dtype=torch.float64)
    # reference values from METHODS section 7, test 13, seven digits
    assert divergence(clean, adversarial).item() == pytest.approx(0.1718080, abs=1e-7)
    assert divergence(adversarial, clean).item() == pytest.approx(0.2148958, abs=1e-7)


def test_the_divergence_is_a_mean_over_the_batch():
    clean, adversarial = torch.randn(2, 5, 3, generator=seeded())
    each = [divergence(c[None], a[None]) for c, a in zip(clean, adversarial, strict=True)]
    # float32 rounding of five terms
    assert divergence(clean, adversarial).item() == pytest.approx(
        torch.stack(each).mean().item(), rel=1e-6
    )


def test_the_clean_branch_of_the_divergence_learns_too():
    clean = torch.tensor([[2.0, 0, -1]], requires_grad=True)
    divergence(clean, torch.tensor([[1.0, 0.5, -1]])).backward()
    assert clean.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [relu_network, spiking_network])
@pytest.mark.parametrize("objective", ALL, ids=lambda objective: objective.kind)
def test_every_objective_gives_every_parameter_a_gradient(make, objective):
    network = make().train()
    images, labels = batch()
    loss(objective, network, images, labels, seeded()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("objective", ALL, ids=lambda objective: objective.kind)
def test_the_loss_draws_from_its_generator_only(objective):
    network = relu_network().eval()
    images, labels = batch()
    torch.manual_seed(0)
    first = loss(objective, network, images, labels, seeded())
    torch.manual_seed(1)
    assert torch.equal(first, loss(objective, network, images, labels, seeded()))


@pytest.mark.parametrize(
    ("objective", "updates"), [(ALL[0], 1), (ALL[1], 1), (ALL[2], 2), (ALL[3], 2)]
)
def test_batch_norm_is_updated_by_the_loss_and_never_by_the_attack(objective, updates):
    network = spiking_network().train()
    images, labels = batch()
    loss(objective, network, images, labels, seeded())
    assert network.body.get_submodule("1").num_batches_tracked.item() == updates
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("objective", [ALL[2], ALL[3]], ids=["trades", "rfgsm"])
def test_a_beta_of_zero_leaves_clean_cross_entropy(objective):
    network = smooth_network()
    images, labels = batch()
    value = loss(objective.model_copy(update={"beta": 0.0}), network, images, labels, seeded())
    assert torch.equal(value, F.cross_entropy(network(images), labels))


@pytest.mark.parametrize("objective", [ALL[2], ALL[3]], ids=["trades", "rfgsm"])
def test_beta_charges_for_the_divergence_that_was_found(objective):
    network, (images, labels) = smooth_network(), batch()
    clean = F.cross_entropy(network(images), labels).item()
    single = loss(objective, network, images, labels, seeded()).item() - clean
    triple = objective.model_copy(update={"beta": 3 * objective.beta})
    assert single > 1e-3
    # float32 rounding of sums near 1
    tripled = loss(triple, network, images, labels, seeded()).item() - clean
    assert tripled == pytest.approx(3 * single, rel=1e-3)


def test_pgd_trains_on_images_that_are_harder_than_clean_ones():
    network = smooth_network()
    images, labels = batch()
    clean = loss(Standard(), network, images, labels, seeded())
    assert loss(Pgd(epsilon=EPSILON, steps=5), network, images, labels, seeded()) > clean


def test_rfgsm_moves_each_pixel_by_epsilon_or_not_at_all():
    images, _ = batch()
    moved = rfgsm(smooth_network(), images, EPSILON, seeded()) - images
    steps = (moved / EPSILON).round()
    assert set(steps.unique().tolist()) == {-1.0, 0.0, 1.0}
    torch.testing.assert_close(moved, steps * EPSILON, rtol=0, atol=1e-7)  # float32 near 0.75


def test_rfgsm_diverges_more_than_its_random_start():
    network, (images, _) = smooth_network(), batch()
    noise = torch.empty_like(images).normal_(generator=seeded()).sign()
    start = images + EPSILON / 2 * noise
    found = rfgsm(network, images, EPSILON, seeded())
    target = network(images)

    def each(x):
        return torch.stack(
            [divergence(p[None], q[None]) for p, q in zip(target, network(x), strict=True)]
        )

    assert (each(found) >= each(start)).float().mean() >= 0.5
    mirrored = 2 * start - found  # the same length the other way, downhill
    assert each(found).mean() > each(mirrored).mean()


@pytest.mark.parametrize("spiking", [False, True])
def test_an_attack_leaves_modes_state_and_the_global_stream_alone(spiking):
    network = (spiking_network() if spiking else relu_network()).train()
    before, stream = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with torch.random.fork_rng():  # dropout of the loss itself draws from the global stream
        loss(ALL[3].model_copy(update={"beta": 0.0}), network.eval(), *batch(), seeded())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)


def test_ascent_climbs():
    network, (images, labels) = smooth_network(), batch()
    start = uniform_start(images, EPSILON, seeded())

    def value(logits):
        return F.cross_entropy(logits, labels)

    found = ascend(network, value, images, start, epsilon=EPSILON, step=EPSILON / 4, steps=10)
    assert value(network(found)) > value(network(start))
