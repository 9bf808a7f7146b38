from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from snnc.attack.gradients import plain
from snnc.attack.steps import (
    AttackFailed,
    Fgsm,
    Pgd,
    at,
    ball,
    craft,
    describe,
    input_gradient,
    random_point,
    unit_magnitude,
)
from snnc.errors import InvalidSetting
from torch import nn

ATTACKS = [
    Fgsm(eps=0.1),
    Pgd(eps=0.1, steps=7),
    Pgd(eps=0.07, steps=3, restarts=3),
    Pgd(eps=0.3, steps=5, reach=9.0, random_start=False),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_network(seed: int = 0, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(64, classes),
        )  # fmt: skip
    return network.eval()


def samples(count: int = 40, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(1)
    images = torch.rand(count, 1, 6, 6, generator=generator)
    images[::3] = images[::3].round()  # corners of the box too
    labels = torch.randint(classes, (count,), generator=generator)
    half = a_network()(images[::2]).argmax(dim=1)  # half of them right
    labels[::2] = half
    return images, labels


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_example_stays_in_the_ball_and_in_the_box(attack):
    images, labels = samples()
    found = craft(attack, [a_network()], images, labels, generator=seeded())
    moved = (found.images.double() - images.double()).abs().max()
    assert 0.5 * attack.eps < moved <= attack.eps  # exactly, not up to rounding
    assert 0.0 <= found.images.min() and found.images.max() <= 1.0
    assert found.images.dtype == images.dtype


def test_the_ball_is_exact_in_float32():
    images = torch.rand(100_000, generator=seeded())
    for eps in (8 / 255, 0.1, 1 / 3, 0.0, 1.0):
        low, high = ball(images, eps)
        assert (images.double() - low.double()).max() <= eps
        assert (high.double() - images.double()).max() <= eps
        # and no smaller than rounding asks for: two units in the last place of 1
        full = (images.double() + eps).clamp(max=1)
        assert (full - high.double()).max() <= 2 * 2**-24


def test_a_random_point_fills_the_ball():
    images = torch.full((2000,), 0.5)
    points = random_point(images, 0.2, seeded())
    assert points.min() < 0.302 and points.max() > 0.698  # 2000 draws leave gaps of 1e-4
    assert abs(points.mean() - 0.5) < 0.01  # standard error 0.0026
    edge = random_point(torch.zeros(2000), 0.2, seeded())
    assert edge.min() == 0.0 and edge.max() <= 0.2


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_epsilon_0_gives_clean_accuracy(attack):
    images, labels = samples()
    network = a_network()
    looks = []

    def counting(x: torch.Tensor) -> torch.Tensor:
        looks.append(len(x))
        return network(x)

    found = craft(at(attack, 0.0), [counting], images, labels, generator=seeded())
    assert looks[0] == len(images) and sum(looks) <= 3 * len(images)  # once for each restart
    assert torch.equal(found.images, images)
    assert torch.equal(found.broken, network(images).argmax(dim=1) != labels)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_what_is_wrong_on_the_clean_image_is_broken(attack):
    images, labels = samples()
    network = a_network()
    found = craft(attack, [network], images, labels, generator=seeded())
    wrong = network(images).argmax(dim=1) != labels
    assert 0 < wrong.sum() < found.broken.sum()  # and the attack adds some
    assert found.broken[wrong].all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_example_returned_is_the_one_that_was_judged(attack):
    images, labels = samples()
    network = a_network()
    found = craft(attack, [network], images, labels, generator=seeded())
    logits = network(found.images)
    assert torch.equal(logits.argmax(dim=1), found.predictions)
    losses = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(losses.detach(), found.losses)  # batches round differently


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_leaves_no_trace(attack):
    images, labels = samples()
    network = a_network().train()
    network[3].eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    kept, kept_labels = images.clone(), labels.clone()
    random_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()

    craft(attack, plain(network), images, labels, generator=seeded())

    assert torch.equal(images, kept) and torch.equal(labels, kept_labels)
    assert not images.requires_grad
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_an_attack_depends_on_its_generator_and_on_nothing_else():
    images, labels = samples()
    attack = Pgd(eps=0.05, steps=3)

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed + 10)
        with torch.no_grad():
            return craft(attack, [a_network()], images, labels, generator=seeded(seed)).images

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_fgsm_is_the_textbook_step():
    images, labels = samples()
    network = a_network()
    found = craft(Fgsm(eps=0.05), [network], images, labels, generator=seeded())
    x = images.clone().requires_grad_()
    F.cross_entropy(network(x), labels).backward()
    step = (images + 0.05 * x.grad.sign()).clamp(0, 1)
    grew = (
        network(step).log_softmax(1)[torch.arange(40), labels]
        < network(images).log_softmax(1)[torch.arange(40), labels]
    )
    assert grew.sum() > 30
    torch.testing.assert_close(found.images[grew], step[grew], atol=6e-8, rtol=0)  # one ulp of 1


def test_fgsm_is_pgd_of_one_full_step_from_the_image():
    images, labels = samples()
    plan = Pgd(eps=0.05, steps=1, reach=1.0, random_start=False)
    one = craft(Fgsm(eps=0.05), [a_network()], images, labels, generator=seeded())
    other = craft(plan, [a_network()], images, labels, generator=seeded())
    assert torch.equal(one.images, other.images)


def test_a_step_of_pgd_is_reach_times_eps_over_steps():
    # d loss / d x has a constant sign, so the path is known: 3 steps of 2.5 * 0.1 / 10.
    seen = []

    def classifier(x: torch.Tensor) -> torch.Tensor:
        seen.append(float(x.detach()[0, 0]))
        return torch.cat([-x, x], dim=1)

    craft(
        Pgd(eps=0.1, steps=10, random_start=False),
        [classifier],
        torch.tensor([[0.5]]),
        torch.tensor([0]),
        generator=seeded(),
    )
    expected = [0.5, 0.525, 0.55, 0.575, *[0.6] * 7]
    assert seen == pytest.approx(expected, abs=1e-6)  # float32
    assert len(seen) == 11  # the image, and every iterate with the last


def test_a_success_at_any_iterate_counts():
    # The judge is fooled between 0.52 and 0.53 only: the path passes, its end does not.
    def judge(x: torch.Tensor) -> torch.Tensor:
        return ((x[:, 0] > 0.52) & (x[:, 0] < 0.53)).long()

    found = craft(
        Pgd(eps=0.1, steps=10, random_start=False),
        [lambda x: torch.cat([-x, x], dim=1)],
        torch.tensor([[0.5]]),
        torch.tensor([0]),
        generator=seeded(),
        judge=judge,
    )
    assert found.broken.tolist() == [True]
    assert found.images.item() == pytest.approx(0.525, abs=1e-6)  # float32


def test_the_last_iterate_is_judged():
    found = craft(
        Pgd(eps=0.1, steps=4, reach=1.0, random_start=False),
        [lambda x: torch.cat([-x, x], dim=1)],
        torch.tensor([[0.5]]),
        torch.tensor([0]),
        generator=seeded(),
        judge=lambda x: (x[:, 0] > 0.59).long(),
    )
    assert found.broken.item()


def test_the_judge_decides_and_not_the_source():
    images, labels = samples()
    never = craft(
        Pgd(eps=0.3, steps=5),
        [a_network()],
        images,
        labels,
        generator=seeded(),
        judge=lambda x: labels[: len(x)],
    )
    assert not never.broken.any()


def test_a_second_source_adds_to_the_first():
    images, labels = samples()
    source, other = a_network(), a_network(seed=5)

    def broken(sources):
        # one network judges, as it does for a spiking network with several estimators
        return craft(
            Pgd(eps=0.02, steps=2),
            sources,
            images,
            labels,
            generator=seeded(),
            judge=lambda x: source(x).argmax(dim=1),
        ).broken

    one, both = broken([other]), broken([other, source])
    assert (both >= one).all() and both.sum() > one.sum()


def test_restarts_begin_at_other_points():
    # The judge is fooled in a tenth of the ball, and the gradient leads away from there.
    images, labels = torch.full((2000, 1), 0.5), torch.zeros(2000, dtype=torch.long)

    def broken(restarts):
        return craft(
            Pgd(eps=0.1, steps=2, restarts=restarts),
            [lambda x: torch.cat([-x, x], dim=1)],
            images,
            labels,
            generator=seeded(),
            judge=lambda x: (x[:, 0] < 0.42).long(),
            batch=2000,
        ).broken

    assert broken(1).double().mean() == pytest.approx(0.1, abs=0.03)  # standard error 0.007
    assert broken(8).double().mean() == pytest.approx(1 - 0.9**8, abs=0.05)  # 0.011
    assert (broken(8) >= broken(1)).all()


def test_later_sources_attack_only_what_still_stands():
    images, labels = samples()
    network = a_network()
    counts = []

    def counting(x: torch.Tensor) -> torch.Tensor:
        counts.append(len(x))
        return network(x)

    first = craft(Fgsm(eps=0.03), [network], images, labels, generator=seeded())
    craft(Fgsm(eps=0.03), [network, counting], images, labels, generator=seeded())
    assert set(counts) == {int((~first.broken).sum())}


def test_batches_change_nothing_but_the_random_draws():
    images, labels = samples()
    attack = Pgd(eps=0.05, steps=4, random_start=False)
    whole = craft(attack, [a_network()], images, labels, generator=seeded())
    parts = craft(attack, [a_network()], images, labels, generator=seeded(), batch=7)
    assert torch.equal(whole.broken, parts.broken)
    torch.testing.assert_close(whole.losses, parts.losses)  # batches round differently


def test_large_logits_hide_the_gradient_and_unit_magnitude_finds_it():
    images, labels = samples()
    network = a_network()
    right = network(images).argmax(dim=1) == labels
    images, labels = images[right], labels[right]

    def loud(x: torch.Tensor) -> torch.Tensor:
        return 1e6 * network(x)

    hidden = (input_gradient(loud, images, labels) == 0).flatten(1).all(dim=1)
    found = (input_gradient(unit_magnitude(loud), images, labels) == 0).flatten(1).all(dim=1)
    assert hidden.double().mean() > 0.5
    assert not found.any()


def test_unit_magnitude_keeps_the_order_and_treats_each_sample_alone():
    logits = torch.tensor([[3.0, -1.0, 2.0], [300.0, -100.0, 200.0], [0.0, 0.0, 0.0]])
    scaled = unit_magnitude(lambda x: x)(logits)
    assert torch.equal(scaled, torch.tensor([[1.5, -0.5, 1.0], [1.5, -0.5, 1.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Fgsm(eps=-0.1), "eps is -0.1"),
        (lambda: Fgsm(eps=float("nan")), "eps is nan"),
        (lambda: Pgd(eps=8, steps=5), r"8/255, not 8"),
        (lambda: Pgd(eps=0.1, steps=0), "steps is 0"),
        (lambda: Pgd(eps=0.1, steps=1, restarts=0), "restarts is 0"),
        (lambda: Pgd(eps=0.1, steps=1, reach=0), "reach is 0"),
        (lambda: Pgd(eps=0.1, steps=1, restarts=2, random_start=False), "repeat the first"),
        (lambda: at(Fgsm(eps=0.1), -1), "eps is -1"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(make, problem):
    with pytest.raises(InvalidSetting, match=problem):
        make()


def test_inputs_that_do_not_fit_are_refused():
    images, labels = samples()
    network = a_network()

    def attempt(sources, images, labels):
        craft(Fgsm(eps=0.1), sources, images, labels, generator=seeded())

    with pytest.raises(InvalidSetting, match=r"attack images in \[0, 1\]"):
        attempt([network], images * 255, labels)
    with pytest.raises(InvalidSetting, match=r"attack images in \[0, 1\]"):
        attempt([network], images * float("nan"), labels)
    with pytest.raises(InvalidSetting, match="one label to each"):
        attempt([network], images, labels[1:])
    with pytest.raises(InvalidSetting, match="at least one"):
        attempt([], images, labels)
    with pytest.raises(InvalidSetting, match="training mode"):
        attempt([a_network().train()], images, labels)
    with pytest.raises(AttackFailed, match="differentiate"):
        attempt([lambda x: network(x).detach()], images, labels)
    with pytest.raises(AttackFailed, match="not finite"):
        attempt([lambda x: network(x) * float("inf")], images, labels)


def test_an_attack_describes_itself():
    assert describe(Pgd(eps=0.1, steps=20)) == {
        "name": "pgd",
        "steps": 20,
        "restarts": 1,
        "step_size": "2.5 * eps / steps",
        "random_start": True,
    }
    assert describe(Fgsm(eps=0.1))["name"] == "fgsm"


def worst_case(weight, bias, images, labels, eps) -> torch.Tensor:
    """Who a linear classifier can lose within the ball and the box, exactly.

    For each other class the difference of logits is linear in every pixel alone, so its
    minimum takes each pixel to one end of its interval.
    """
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    lost = torch.zeros(len(images), dtype=torch.bool)
    for other in range(len(weight)):
        direction = weight[labels] - weight[other]
        least = torch.where(direction > 0, low, high)
        margin = (direction * least).sum(dim=1) + bias[labels] - bias[other]
        # a tie goes to the lower class
        lost |= (labels != other) & ((margin < 0) | ((margin == 0) & (other < labels)))
    return lost


@pytest.mark.parametrize("eps", [0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("attack", [Fgsm(eps=0.0), Pgd(eps=0.0, steps=20)], ids=str)
def test_canary_two_linear_classes_are_attacked_to_the_exact_worst_case(attack, eps):
    generator = seeded(3)
    weight = torch.randn(2, 64, generator=generator, dtype=torch.float64)
    bias = torch.zeros(2, dtype=torch.float64)
    images = torch.rand(1000, 64, generator=generator, dtype=torch.float64)
    images[::2] = images[::2].round()
    labels = (images @ weight.T + bias).argmax(dim=1)

    found = craft(
        at(attack, eps), [lambda x: x @ weight.T + bias], images, labels, generator=generator
    )

    exact = worst_case(weight, bias, images, labels, eps)
    assert 0.02 < exact.double().mean() <= 1
    assert not (found.broken & ~exact).any()  # no impossible success
    gap = (exact & ~found.broken).double().mean()
    # PGD: the limit of the design, in samples; FGSM: the worst corner is its one step
    assert gap <= (0.005 if isinstance(attack, Pgd) else 0.0)


def test_canary_many_linear_classes_are_never_lost_impossibly():
    generator = seeded(4)
    weight = torch.randn(10, 64, generator=generator, dtype=torch.float64)
    bias = torch.randn(10, generator=generator, dtype=torch.float64)
    images = torch.rand(500, 64, generator=generator, dtype=torch.float64)
    labels = (images @ weight.T + bias).argmax(dim=1)
    found = craft(
        Pgd(eps=0.03, steps=20, restarts=3),
        [lambda x: x @ weight.T + bias],
        images,
        labels,
        generator=generator,
    )
    exact = worst_case(weight, bias, images, labels, 0.03)
    assert 0.2 < exact.double().mean() < 0.8
    assert not (found.broken & ~exact).any()
    # untargeted cross-entropy is known not to reach the worst of many classes
    assert (exact & ~found.broken).double().mean() < 0.05
