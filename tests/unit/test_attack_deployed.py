"""The float network, its integers, and the curves of both."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from snnc.attack.curve import Chain, Curve, chain_curves, sweep
from snnc.attack.deployed import Deployed, attack_deployed
from snnc.attack.gradients import QUICK, plain, spiking, twins
from snnc.attack.steps import Fgsm, Pgd, craft
from snnc.errors import InvalidSetting
from snnc.evaluate.checks import Subject, masking_checks, zero_gradient
from snnc.evaluate.robustness import robustness
from snnc.evaluate.statistics import proportion
from snnc.ir.graph import Granularity, Reset
from snnc.ir.program import INPUT, Accumulator, FullyConnected, ImageInput, Layer, Program, Synapses
from snnc.ir.weights import Dense, integers
from snnc.learn.spiking import SpikingNetwork, to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.semantics.encode import encode
from snnc.simulate import reference
from torch import nn

LEVELS, STEPS, PIXELS, HIDDEN, CLASSES = 15, 6, 20, 16, 4
PGD = Pgd(eps=0.1, steps=6)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def an_ann() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES, bias=False)
        )
    with torch.no_grad():
        network[0].weight *= 3
    return network.eval()


def a_spiking_network(ann: nn.Module) -> SpikingNetwork:
    return to_spiking(
        ann,
        input_shape=(PIXELS,),
        steps=STEPS,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )


def a_program(ann: nn.Sequential, scale: float = 20.0) -> Program:
    """Round the weights to `scale` units; thresholds are 1 in the float network."""

    def bundle(name, source, weight):
        values = np.rint(weight.detach().numpy() * scale).astype(np.int32)
        return Synapses(
            name=name, source=source, weight=Dense(integers(values)), kind=FullyConnected()
        )

    hidden = Layer(
        name="hidden",
        shape=(HIDDEN,),
        synapses=(bundle("0", INPUT, ann[0].weight),),
        bias=integers(np.rint(ann[0].bias.detach().numpy() * scale * LEVELS)),
        threshold=int(scale * LEVELS * 64),
        decay=0,
        reset=Reset.ZERO,
        scale=scale * LEVELS,
    )
    readout = Accumulator(
        name="2",
        shape=(CLASSES,),
        synapses=(bundle("2", "hidden", ann[2].weight),),
        bias=integers([0] * CLASSES),
        scale=scale,
    )
    coding = ImageInput(shape=(PIXELS,), levels=LEVELS, zero_point=integers([0] * PIXELS))
    return Program(input=coding, layers=(hidden,), readout=readout, steps=STEPS)


@pytest.fixture
def chain() -> Chain:
    ann = an_ann()
    return Chain(
        ann=ann,
        snn=a_spiking_network(ann),
        deployed=Deployed(program=a_program(ann), engine=reference.run),
    )


@pytest.fixture
def samples(chain) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples that the float network names mostly right."""
    images = torch.rand(60, PIXELS, generator=seeded(1))
    labels = chain.snn(images).argmax(dim=1)
    labels[:5] = (labels[:5] + 1) % CLASSES
    return images, labels


def predicted(deployed: Deployed, images: torch.Tensor) -> torch.Tensor:
    codes = encode(deployed.program.input, images.numpy())
    return torch.from_numpy(reference.run(deployed.program, codes, raster=False).predictions)


def test_the_float_network_and_its_integers_agree_mostly_but_not_always(chain, samples):
    images, _ = samples
    same = (chain.snn(images).argmax(dim=1) == predicted(chain.deployed, images)).double().mean()
    assert 0.7 < same < 1.0  # else the tests below could not tell the two apart


def test_the_twin_of_each_estimator_is_the_program(chain, samples):
    images, _ = samples
    expected = predicted(chain.deployed, images)
    sources = twins(chain.deployed.program)
    assert len(sources) == len(QUICK) == 2
    for source in sources:
        logits = source(images)
        assert torch.equal(logits.argmax(dim=1), expected)
        # unit magnitude, or a sample without any spike
        size = logits.abs().mean(dim=1)
        assert torch.logical_or((size - 1).abs() < 1e-12, size == 0).all()


def test_the_estimators_give_different_gradients_of_one_network(chain, samples):
    images, _ = samples
    gradients, logits = [], []
    for source in spiking(chain.snn):
        x = images.clone().requires_grad_()
        logits.append(source(x))
        gradients.append(torch.autograd.grad(logits[-1][:, 0].sum(), x)[0])
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(gradients[0], gradients[1])


def test_attacking_a_spiking_network_leaves_no_trace(chain, samples):
    images, labels = samples
    network = chain.snn.train()
    before = copy.deepcopy(network.state_dict())
    surrogates = [fire.surrogate for fire in network.fires.values()]
    craft(PGD, spiking(network), images, labels, generator=seeded())
    assert all(module.training for module in network.modules())
    assert [fire.surrogate for fire in network.fires.values()] == surrogates
    assert all(torch.equal(v, before[name]) for name, v in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def both(chain, samples, attack=PGD, seed=0):
    images, labels = samples
    crafted = craft(attack, spiking(chain.snn), images, labels, generator=seeded(seed))
    return crafted, attack_deployed(
        attack, chain.deployed, images, labels, crafted=crafted, generator=seeded(seed)
    )


def test_success_is_what_the_integers_say(chain, samples):
    images, labels = samples
    crafted, found = both(chain, samples)

    on_clean = predicted(chain.deployed, images) != labels
    on_crafted = predicted(chain.deployed, crafted.images)
    assert torch.equal(found.clean, on_clean)
    assert torch.equal(found.transferred, on_clean | (on_crafted != labels))
    assert torch.equal(predicted(chain.deployed, found.adaptive.images), found.adaptive.predictions)
    assert found.agreement == (on_crafted == crafted.predictions).double().mean()
    assert found.agreement < 1.0


def test_the_union_is_the_worst_of_both_attackers_for_each_sample(chain, samples):
    _, found = both(chain, samples)
    assert torch.equal(found.broken, found.transferred | found.adaptive.broken)
    assert (found.broken >= found.clean).all()
    assert found.broken.sum() > found.clean.sum()


def test_epsilon_0_on_the_integers_gives_clean_accuracy(chain, samples):
    _, found = both(chain, samples, Fgsm(eps=0.0))
    assert torch.equal(found.broken, found.clean)
    assert torch.equal(found.transferred, found.clean)


def test_every_iterate_is_shown_to_the_engine(chain, samples):
    images, labels = samples
    shown = []

    def engine(program, codes, *, raster):
        shown.append(len(codes))
        return reference.run(program, codes, raster=raster)

    crafted = craft(PGD, spiking(chain.snn), images, labels, generator=seeded())
    attack_deployed(
        PGD,
        replace(chain.deployed, engine=engine),
        images,
        labels,
        crafted=crafted,
        generator=seeded(),
        estimators=QUICK[:1],
    )
    # the clean and the crafted images; then clean, random start and every iterate
    assert shown == [60] * (2 + 2 + PGD.steps)


def test_crafted_examples_of_something_else_are_refused(chain, samples):
    images, labels = samples
    crafted, _ = both(chain, samples)

    def attempt(attack, images, labels):
        attack_deployed(attack, chain.deployed, images, labels, crafted=crafted, generator=seeded())

    with pytest.raises(InvalidSetting, match="same samples in the same order"):
        attempt(PGD, images[1:], labels[1:])
    with pytest.raises(InvalidSetting, match="same samples in the same order"):
        attempt(PGD, images, labels.flip(0))
    with pytest.raises(InvalidSetting, match="craft them with the same epsilon"):
        attempt(replace(PGD, eps=0.05), images, labels)


def test_a_curve_carries_broken_samples_forward_and_keeps_what_was_measured():
    strikes = {0.0: [1, 0, 0, 0], 0.1: [1, 1, 0, 0], 0.2: [1, 0, 1, 0]}
    curve = sweep(lambda eps: {"snn": torch.tensor(strikes[eps]).bool()}, list(strikes))["snn"]
    assert curve.epsilons == (0.0, 0.1, 0.2)
    assert curve.measured.astype(int).tolist() == list(strikes.values())
    assert curve.broken.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]


@pytest.mark.parametrize("epsilons", [[], [0.2, 0.1], [0.1, 0.1]])
def test_epsilons_must_ascend(epsilons):
    with pytest.raises(InvalidSetting, match="at least one, ascending"):
        sweep(lambda eps: {"snn": torch.ones(3).bool()}, epsilons)


EPSILONS = (0.0, 0.05, 0.15)


@pytest.fixture
def curves(chain, samples):
    images, labels = samples
    return chain_curves(chain, images, labels, attack=PGD, epsilons=EPSILONS, generator=seeded())


def test_a_chain_is_attacked_at_every_stage(chain, samples, curves):
    images, labels = samples
    assert list(curves.curves) == ["ann", "snn", "deployed", "transfer", "adaptive"]
    clean = {
        "ann": chain.ann(images).argmax(dim=1),
        "snn": chain.snn(images).argmax(dim=1),
        "deployed": predicted(chain.deployed, images),
    }
    for name, predictions in clean.items():
        curve = curves.curves[name]
        assert curve.broken[0].tolist() == (predictions != labels).tolist()
        assert curve.broken[-1].sum() > curve.broken[0].sum()
    union = curves.curves["transfer"].measured | curves.curves["adaptive"].measured
    assert (curves.curves["deployed"].measured == union).all()
    assert len(curves.agreement) == len(EPSILONS)


def test_the_ann_is_attacked_with_its_own_gradients(chain, samples, curves):
    images, labels = samples
    found = craft(
        replace(PGD, eps=0.15, restarts=1), plain(chain.ann), images, labels, generator=seeded()
    )
    measured = curves.curves["ann"].measured[-1]
    assert abs(measured.sum() - found.broken.sum().item()) <= 2  # another random start


def test_progress_counts_the_epsilons(chain, samples):
    images, labels = samples
    seen = []
    chain_curves(
        replace(chain, ann=None),
        images[:4],
        labels[:4],
        attack=Fgsm(eps=0.0),
        epsilons=(0.0, 0.1),
        generator=seeded(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_robustness_is_written_as_the_metrics_file_wants_it(curves):
    twin = replace(curves, curves={k: v for k, v in curves.curves.items() if k != "ann"})
    written = json.loads(json.dumps(robustness(curves, twin).to_json()))
    assert written["attack"] == {
        "name": "pgd",
        "steps": 6,
        "restarts": 1,
        "step_size": "2.5 * eps / steps",
        "random_start": True,
        "estimators": "triangle 1, exp_damped 2",
        "threat": "L-infinity, on the float image in [0, 1], before the input quantiser",
        "curve": "a sample broken at a smaller epsilon counts as broken at every larger one",
    }
    assert written["epsilons"] == list(EPSILONS)
    assert list(written["curves"]) == ["ann", "snn", "deployed", "twin"]
    for name, curve in (("ann", "ann"), ("snn", "snn"), ("deployed", "deployed")):
        broken = curves.curves[curve].broken
        assert written["curves"][name] == [proportion(~row).to_json() for row in broken]
    assert list(written["transfer"]) == ["transfer", "adaptive", "agreement"]


def test_a_twin_attacked_in_another_way_is_refused(curves):
    with pytest.raises(InvalidSetting, match="attacked in another way"):
        robustness(curves, replace(curves, attack=replace(PGD, steps=9)))
    with pytest.raises(InvalidSetting, match="attacked in another way"):
        robustness(curves, replace(curves, estimators=QUICK[:1]))
    moved = Curve(epsilons=(0.0, 0.05, 0.2), measured=curves.curves["deployed"].measured)
    with pytest.raises(InvalidSetting, match="attacked in another way"):
        robustness(curves, replace(curves, curves={**curves.curves, "deployed": moved}))


def checks(sources, images, labels, judge=None):
    subject = Subject(sources=sources, images=images, labels=labels, judge=judge)
    found = masking_checks(subject, attack=PGD, generator=seeded(), draws=50)
    return {check.name: check for check in found}


def test_an_honest_network_is_not_flagged(chain, samples):
    images, _ = samples
    labels = chain.ann(images).argmax(dim=1)
    found = checks(plain(chain.ann), images, labels)
    assert list(found) == ["zero-gradient", "one-step", "unbounded", "random-noise"]
    assert [name for name, check in found.items() if check.flagged] == []
    assert found["unbounded"].numbers == {"accuracy": 0.0, "chance": 0.25}
    assert found["random-noise"].numbers["random"] > found["random-noise"].numbers["gradient"]


def test_saturated_logits_are_flagged(chain, samples):
    images, _ = samples
    labels = chain.ann(images).argmax(dim=1)
    found = checks([lambda x: 1e6 * chain.ann(x)], images, labels)
    assert found["zero-gradient"].flagged
    assert found["zero-gradient"].numbers["source_0_image"] > 0.9
    assert found["unbounded"].flagged
    assert found["random-noise"].flagged


def test_rounded_inputs_are_flagged(chain, samples):
    images, _ = samples

    def rounded(x):
        return chain.ann((x * 4).round() / 4)  # round has a gradient of zero

    labels = rounded(images).argmax(dim=1)
    found = checks([rounded], images, labels)
    assert found["zero-gradient"].numbers == {"source_0_image": 1.0, "source_0_random_start": 1.0}
    assert found["zero-gradient"].flagged
    assert found["unbounded"].flagged


def test_one_step_that_beats_many_is_flagged():
    # The gradient points up at the image and down everywhere else, so only FGSM arrives.
    def misleading(x):
        slope = torch.where(x.detach() == 0.5, 1.0, -1.0)
        return torch.cat([torch.zeros_like(x), slope * (x - 0.5) - 0.01], dim=1)

    images, labels = torch.full((20, 1), 0.5), torch.zeros(20, dtype=torch.long)
    found = checks([misleading], images, labels, judge=lambda x: (x[:, 0] > 0.599).long())
    assert found["one-step"].flagged
    assert found["one-step"].numbers == {"one_step": 0.0, "many_steps": 1.0}
    assert found["random-noise"].flagged
    assert found["random-noise"].numbers["random"] == 0.0  # any of 50 draws counts


def test_a_gradient_that_is_zero_in_some_pixels_is_a_gradient():
    images, labels = torch.full((4, 3), 0.5), torch.zeros(4, dtype=torch.long)
    blind = zero_gradient(
        Subject(sources=[lambda x: x[:, :2]], images=images, labels=labels),
        eps=0.1,
        generator=seeded(),
    )
    assert blind.numbers == {"source_0_image": 0.0, "source_0_random_start": 0.0}
    assert not blind.flagged


def test_the_deployed_integers_are_checked_through_their_twin(chain, samples):
    images, _ = samples
    labels = predicted(chain.deployed, images)
    sources = twins(chain.deployed.program)
    found = checks(sources, images, labels, judge=chain.deployed.predict)
    assert not found["unbounded"].flagged
    assert not found["random-noise"].flagged
    assert set(found["zero-gradient"].numbers) == {
        f"source_{i}_{place}" for i in (0, 1) for place in ("image", "random_start")
    }
    assert json.dumps([check.to_json() for check in found.values()])


def test_checks_that_compare_nothing_are_refused(chain, samples):
    subject = Subject(sources=plain(chain.ann), images=samples[0], labels=samples[1])
    for attack, draws in (
        (replace(PGD, eps=0.0), 5),
        (replace(PGD, steps=1), 5),
        (PGD, 0),
    ):
        with pytest.raises(InvalidSetting, match="nothing to compare"):
            masking_checks(subject, attack=attack, generator=seeded(), draws=draws)
