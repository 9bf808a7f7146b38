"""What holds for every attack on any classifier, image and label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snnc.attack.curve import sweep
from snnc.attack.deployed import Deployed, attack_deployed
from snnc.attack.steps import Attack, Fgsm, Pgd, at, ball, craft, worst
from snnc.learn.surrogates import TRIANGLE
from snnc.simulate import reference
from snnc.testing.programs import programs
from snnc.twin import IntegerTwin

epsilons = st.floats(0, 1) | st.sampled_from([0.0, 2 / 255, 8 / 255, 0.1, 1.0])
quickly = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def attacks(draw: st.DrawFn) -> Attack:
    eps = draw(epsilons)
    if draw(st.booleans()):
        return Fgsm(eps=eps)
    random_start = draw(st.booleans())
    return Pgd(
        eps=eps,
        steps=draw(st.integers(1, 5)),
        restarts=draw(st.integers(1, 3)) if random_start else 1,
        reach=draw(st.floats(0.1, 20)),
        random_start=random_start,
    )


@st.composite
def situations(draw: st.DrawFn):
    """A random two-layer network with images that touch the box, and labels."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    first, second = (torch.randn(8, 5, generator=generator), torch.randn(3, 8, generator=generator))
    images = draw(
        hnp.arrays(
            draw(st.sampled_from([np.float32, np.float64])),
            (6, 5),
            elements=st.sampled_from([0.0, 1.0]) | st.floats(0, 1, width=32),
        )
    )

    def classifier(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ first.T.to(x.dtype)) @ second.T.to(x.dtype)

    labels = torch.randint(3, (6,), generator=generator)
    return classifier, torch.from_numpy(images), labels, generator


@quickly
@given(attacks(), situations())
def test_an_example_is_admissible_judged_and_no_better_than_the_image(attack, situation):
    classifier, images, labels, generator = situation
    kept, state = images.clone(), torch.get_rng_state()

    found = craft(attack, [classifier], images, labels, generator=generator)

    low, high = ball(images, attack.eps)
    assert ((low <= found.images) & (found.images <= high)).all()
    assert ((found.images.double() - images.double()).abs() <= attack.eps).all()
    assert found.images.min() >= 0 and found.images.max() <= 1
    assert torch.equal(classifier(found.images).argmax(dim=1), found.predictions)
    assert (found.broken >= (classifier(images).argmax(dim=1) != labels)).all()
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), state)


@quickly
@given(situations(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_worst_of_two_is_broken_where_either_is(situation, eps, other_eps):
    classifier, images, labels, generator = situation
    one, other = (
        craft(Pgd(eps=e, steps=2), [classifier], images, labels, generator=generator)
        for e in (eps, other_eps)
    )
    both = worst(one, other)
    assert torch.equal(both.broken, one.broken | other.broken)
    assert torch.equal(classifier(both.images).argmax(dim=1), both.predictions)
    standing = ~both.broken
    assert torch.equal(both.losses[standing], torch.maximum(one.losses, other.losses)[standing])


@quickly
@given(attacks(), situations())
def test_a_curve_never_rises(attack, situation):
    classifier, images, labels, generator = situation

    def strike(eps):
        found = craft(at(attack, eps), [classifier], images, labels, generator=generator)
        return {"net": found.broken}

    broken = sweep(strike, [0.0, 0.05, 0.1, 0.5])["net"].broken
    assert (broken[1:] >= broken[:-1]).all()


@quickly
@given(programs(), attacks(), st.integers(0, 2**31))
def test_on_the_integers_the_union_is_at_least_each_attacker(program, attack, seed):
    assume(program.classes > 1)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, *program.input.shape, generator=generator)
    labels = torch.randint(program.classes, (4,), generator=generator)
    if isinstance(attack, Pgd):
        attack = replace(attack, steps=2)
    other = torch.nn.Flatten()
    weight = torch.randn(program.classes, images[0].numel(), generator=generator)
    crafted = craft(attack, [lambda x: other(x) @ weight.T], images, labels, generator=generator)

    found = attack_deployed(
        attack,
        Deployed(program=program, engine=reference.run),
        images,
        labels,
        crafted=crafted,
        generator=generator,
    )

    clean = IntegerTwin(program, TRIANGLE)(images).argmax(dim=1) != labels
    assert torch.equal(found.clean, clean)
    assert (found.broken >= found.transferred).all()
    assert (found.broken >= found.adaptive.broken).all()
    assert (found.transferred >= clean).all() and (found.adaptive.broken >= clean).all()
    if attack.eps == 0:
        assert torch.equal(found.broken, clean)
