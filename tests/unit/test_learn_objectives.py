import copy

import pytest
import torch
import torch.nn.functional as F
from snnc.ir.graph import Granularity, Reset
from snnc.learn.objectives import Mart, Pgd, Rfgsm, Standard, Trades, loss
from snnc.learn.objectives.mart import boosted_cross_entropy, weighted_divergence
from snnc.learn.objectives.perturbation import (
    ascend,
    default_step,
    divergence,
    frozen_view,
    gradient_sign,
    uniform_start,
)
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
    Mart(epsilon=EPSILON, steps=3, beta=4.0),
]
each_objective = pytest.mark.parametrize("objective", ALL, ids=lambda objective: objective.kind)
KINDS = [objective.kind for objective in ALL]
each_divergent = pytest.mark.parametrize("objective", ALL[2:], ids=lambda objective: objective.kind)


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
    return spikes_of(relu_network())


def spikes_of(ann):
    return to_spiking(
        ann,
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
@each_objective
def test_every_objective_gives_every_parameter_a_gradient(make, objective):
    network = make().train()
    images, labels = batch()
    loss(objective, network, images, labels, seeded()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@each_objective
def test_the_loss_draws_from_its_generator_only(objective):
    network = relu_network().eval()
    images, labels = batch()
    torch.manual_seed(0)
    first = loss(objective, network, images, labels, seeded())
    torch.manual_seed(1)
    assert torch.equal(first, loss(objective, network, images, labels, seeded()))


@pytest.mark.parametrize(
    ("objective", "updates"), [*zip(ALL, (1, 1, 2, 2, 2), strict=True)], ids=KINDS
)
def test_batch_norm_is_updated_by_the_loss_and_never_by_the_attack(objective, updates):
    network = spiking_network().train()
    images, labels = batch()
    loss(objective, network, images, labels, seeded())
    assert network.body.get_submodule("1").num_batches_tracked.item() == updates
    assert all(module.training for module in network.modules())


@each_divergent
def test_beta_charges_for_the_divergence_that_was_found(objective):
    network, (images, labels) = smooth_network().double(), batch()

    def charged(beta):
        changed = objective.model_copy(update={"beta": beta})
        return loss(changed, network, images.double(), labels, seeded()).item()

    single, tripled = (charged(n * objective.beta) - charged(0.0) for n in (1, 3))
    assert single > 1e-3
    assert tripled == pytest.approx(3 * single, rel=1e-9)  # float64 differences of sums near 1


@pytest.mark.parametrize("make", [smooth_network, relu_network, spiking_network])
def test_pgd_trains_on_images_that_are_harder_than_clean_ones(make):
    network = make().eval()
    images, labels = batch()
    clean = loss(Standard(), network, images, labels, seeded())
    assert loss(Pgd(epsilon=EPSILON, steps=5), network, images, labels, seeded()) > clean


@pytest.mark.parametrize("make", [relu_network, spiking_network])
def test_an_attack_leaves_modes_state_and_the_global_stream_alone(make):
    network = make().train()
    before, stream = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    rfgsm(frozen_view(network), batch()[0], EPSILON, seeded())
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)


def test_ascent_climbs():
    network, (images, labels) = smooth_network(), batch()
    start = uniform_start(images, EPSILON, seeded())

    def value(logits):
        return F.cross_entropy(logits, labels)

    found = ascend(network, value, images, start, epsilon=EPSILON, step=EPSILON / 4, steps=10)
    assert value(network(found)) > value(network(start))


class Watched(nn.Module):
    """Notes what each forward pass is asked, and answers as another network does."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = []  # a view shares the list

    def forward(self, images):
        self.seen.append((images.detach(), self.training, images.requires_grad))
        return self.network(images)


@pytest.mark.parametrize(
    ("objective", "targets", "steps", "losses"),
    [
        (ALL[0], 0, 0, 1),
        (ALL[1], 0, 3, 1),
        (ALL[2], 1, 3, 2),
        (ALL[3], 1, 1, 2),
        (ALL[4], 0, 3, 2),
    ],
    ids=KINDS,
)
def test_no_forward_pass_is_made_that_the_objective_does_not_need(
    objective, targets, steps, losses
):
    network = Watched(relu_network()).train()
    loss(objective, network, *batch(), seeded())
    modes = [(training, attacked) for _, training, attacked in network.seen]
    assert modes == [(False, False)] * targets + [(False, True)] * steps + [(True, False)] * losses


@each_divergent
def test_clean_images_go_before_adversarial_ones(objective):
    network, (images, labels) = Watched(relu_network()).train(), batch()
    loss(objective, network, images, labels, seeded())
    (clean, _, _), (adversarial, _, _) = network.seen[-2:]
    assert torch.equal(clean, images)
    assert 0 < (adversarial - images).abs().max() <= EPSILON + 1e-6  # float32 of x + epsilon


@pytest.mark.parametrize("objective", [ALL[2], ALL[4]], ids=["trades", "mart"])
def test_trades_and_mart_start_beside_the_clean_images(objective):
    network, (images, labels) = Watched(smooth_network()), batch(256)
    loss(objective, network, images, labels, seeded())
    start = next(seen for seen, _, attacked in network.seen if attacked)
    # the deviation of 4096 normal draws is known to about 1 %
    assert (start - images).std().item() == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize(
    ("objective", "step"),
    [(Trades(epsilon=0.5, steps=4, beta=1.0), 2.5 * 0.5 / 4), (Rfgsm(epsilon=0.5, beta=1.0), 0.25)],
    ids=["trades", "rfgsm"],
)
def test_the_last_step_climbs_away_from_the_clean_prediction(objective, step):
    network, (images, labels) = Watched(smooth_network().double()), batch()
    loss(objective, network, images.double(), labels, seeded())
    (clean, _, _), (adversarial, _, _) = network.seen[-2:]
    x = [seen for seen, _, attacked in network.seen if attacked][-1].requires_grad_()
    logits = network.network(x)
    slope = (logits.softmax(1) - network.network(clean).softmax(1)).detach()  # dKL/d logits
    (gradient,) = torch.autograd.grad((logits * slope).sum(), x)
    moved = (x + step * gradient.sign() - clean).clamp(-0.5, 0.5)
    # float64: the two ways to differentiate agree in every sign
    torch.testing.assert_close(adversarial, (clean + moved).clamp(0, 1), rtol=0, atol=1e-12)


def test_mart_attacks_the_label_and_trades_the_prediction():
    network, (images, labels) = Watched(smooth_network()), batch(256)
    found = {}
    for objective in (ALL[2], ALL[4]):
        loss(objective, network, images, labels, seeded())
        found[objective.kind] = network.seen[-1][0]
    entropy, moved = ({}, {})
    for kind, adversarial in found.items():
        logits = network.network(adversarial)
        entropy[kind] = F.cross_entropy(logits, labels).item()
        moved[kind] = divergence(network.network(images), logits).item()
    assert entropy["mart"] > entropy["trades"]
    assert moved["trades"] > moved["mart"]


def test_mart_weighs_by_the_doubt_in_the_clean_label():
    clean = torch.tensor([[4.0, 0, 0], [0, 4.0, 0]], requires_grad=True)
    adversarial = torch.tensor([[3.0, 1, 0], [1, 3.0, 0]])  # the same divergence in both rows
    right, wrong = torch.tensor([0, 1]), torch.tensor([1, 0])
    known = weighted_divergence(clean, adversarial, right)
    assert 0 < known < 0.1 * weighted_divergence(clean, adversarial, wrong)
    known.backward()
    assert clean.grad.abs().sum() > 0


def test_boosted_cross_entropy_pushes_the_strongest_wrong_class_down():
    logits = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    plain, boosted = (
        torch.autograd.grad(value(logits, torch.tensor([0])), logits)[0]
        for value in (F.cross_entropy, boosted_cross_entropy)
    )
    assert boosted[0, 1] > plain[0, 1]
    assert boosted[0, 0] < plain[0, 0]


def test_boosted_cross_entropy_is_finite_when_a_wrong_class_is_certain():
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    value = boosted_cross_entropy(logits, torch.tensor([0]))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()


class Scale(torch.autograd.Function):
    """x times one number, with a backward pass of its own that says what it is asked for."""

    asked: list  # set by the test

    @staticmethod
    def forward(ctx, x, by):
        ctx.save_for_backward(x, by)
        return x * by

    @staticmethod
    def backward(ctx, gradient):
        x, by = ctx.saved_tensors
        Scale.asked.append(ctx.needs_input_grad)
        return gradient * by, (gradient * x).sum()


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return Scale.apply(x, self.by)


@pytest.mark.parametrize("objective", ALL[1:], ids=KINDS[1:])
def test_an_attack_asks_no_layer_for_the_gradients_of_its_parameters(objective):
    Scale.asked = []
    network = nn.Sequential(Scaled(), *smooth_network())
    value = loss(objective, network, *batch(), seeded())
    assert Scale.asked == [(True, False)] * len(Scale.asked) and Scale.asked
    assert all(parameter.grad is None for parameter in network.parameters())
    value.backward()
    assert network[0].by.grad.abs() > 0


def test_a_frozen_view_shares_its_numbers_and_leaves_the_network_learning():
    network = spiking_network().train()
    frozen = frozen_view(network)
    before = frozen(batch()[0])
    with torch.no_grad():
        network.body.get_submodule("5").bias.add_(1)
    # three classes, each one higher: float32 sums near 1
    torch.testing.assert_close(frozen(batch()[0]), before + 1)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())


@each_objective
def test_a_loss_can_be_measured_without_gradients(objective):
    network, (images, labels) = spiking_network().eval(), batch()
    expected = loss(objective, network, images, labels, seeded())
    with torch.no_grad():
        value = loss(objective, network, images, labels, seeded())
    assert torch.equal(value, expected.detach()) and not value.requires_grad


def test_the_direction_of_an_attack_is_the_sign_of_the_slope():
    slope = torch.tensor([[2.0, -3.0, 0.0]])
    images = torch.zeros(1, 3)
    assert gradient_sign(lambda x: x * slope, torch.sum, images).tolist() == [[1, -1, 0]]


@each_objective
@pytest.mark.parametrize("make", [relu_network, spiking_network])
def test_every_tensor_is_made_on_the_device_and_of_the_type_of_the_images(make, objective):
    network, (images, labels) = make().double().train(), batch()
    # a tensor made without a device would lie on `meta` and could not meet the others
    with torch.device("meta"):
        value = loss(objective, network, images.double(), labels, seeded())
    assert value.dtype == torch.float64 and value.device.type == "cpu"


class InFloats(nn.Module):
    """Answers in float32, as a network's logits must under autocast."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).float()


@each_objective
def test_every_objective_runs_under_autocast(objective):
    network = InFloats(relu_network()).train()
    images, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(objective, network, images, labels, seeded())
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value)
    for name, parameter in network.named_parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.abs().sum() > 0, name


def trained_on_spikes(objective, images, labels):
    """Return a spiking network that never was a trained ReLU network, after 40 steps."""
    torch.manual_seed(0)
    network = spikes_of(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, 3),
        )
    ).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        loss(objective, network, images, labels, seeded()).backward()
        optimizer.step()
    return network.eval()


def test_adversarial_objectives_make_spiking_networks_robust_from_their_first_weights():
    images, labels = batch(64)
    images[torch.arange(64), 0, labels] += 0.25  # row k is brighter in class k
    attack = Pgd(epsilon=EPSILON, steps=10)
    plain, *robust = (trained_on_spikes(objective, images, labels) for objective in ALL)
    fooled = loss(attack, plain, images, labels, seeded())
    for network in robust:
        assert loss(attack, network, images, labels, seeded()) < 0.75 * fooled
        assert (network(images).argmax(1) == labels).double().mean() > 0.9


def test_the_steps_of_an_attack_are_two_and_a_half_epsilons_together():
    for steps in (1, 7, 10):
        assert steps * default_step(8 / 255, steps) == pytest.approx(2.5 * 8 / 255)
