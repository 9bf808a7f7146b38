"""snnc attack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, json_option, note, progress, table
from snnc.cli.sources import (
    data_options,
    find_modules_here,
    load_network,
    load_split,
    same_network,
    trust_option,
)

if TYPE_CHECKING:
    import torch

    from snnc.attack.curve import Strike
    from snnc.attack.steps import Attack
    from snnc.evaluate.checks import Check, Subject

ATTACKS = ("fgsm", "pgd")


@click.command(
    epilog="Example: snnc attack model-loihi --model model.pt --eps 0.1 --eps 0.2 --samples 200"
)
@click.argument("victim", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="For a build: also try examples made for this float network (.pt).",
)
@click.option("--eps", "epsilons", type=float, multiple=True, required=True, help="Repeatable.")
@click.option("--attack", "name", default="pgd", show_default=True, help="fgsm or pgd.")
@click.option("--steps", type=int, help="Of PGD.  [default: 20]")
@click.option("--restarts", type=int, help="Of PGD.  [default: 1]")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of the random starts.",
)
@click.option(
    "--checks",
    is_flag=True,
    help="Also look for signs of gradient masking at the largest EPS (PGD only).",
)
@trust_option
@data_options
@json_option
def attack(
    victim: Path,
    model: Path | None,
    epsilons: tuple[float, ...],
    name: str,
    steps: int | None,
    restarts: int | None,
    seed: int,
    checks: bool,
    trust: bool,
    data_name: str,
    data_root: Path | None,
    split: str,
    samples: int | None,
    as_json: bool,
) -> None:
    """Attack VICTIM: a build (the deployed integers) or a checkpoint (.pt).

    The L-infinity ball of size EPS is around the float image in [0, 1]. A build is attacked
    with the gradients of its exact differentiable twin while the integers decide.
    """
    import torch

    from snnc.attack.curve import sweep
    from snnc.attack.deployed import THREAT
    from snnc.attack.steps import Fgsm, Pgd, describe
    from snnc.errors import InvalidSetting, UnknownName
    from snnc.evaluate.checks import masking_checks
    from snnc.evaluate.robustness import CARRIED, shares

    if name not in ATTACKS:
        raise UnknownName("attack", name, ATTACKS)
    largest = max(epsilons)
    chosen: Attack
    if name == "fgsm":
        if steps is not None or restarts is not None:
            raise InvalidSetting("--steps and --restarts belong to pgd; leave them out for fgsm")
        chosen = Fgsm(eps=largest)
    else:
        chosen = Pgd(
            eps=largest,
            steps=20 if steps is None else steps,
            restarts=1 if restarts is None else restarts,
        )
    chosen_split = load_split(data_name, split=split, samples=samples, root=data_root)
    images = torch.from_numpy(chosen_split.images)
    labels = torch.from_numpy(chosen_split.labels)
    generator = torch.Generator().manual_seed(seed)
    strike, estimators, subject = _strike(victim, model, trust, chosen, images, labels, generator)
    if checks and not isinstance(chosen, Pgd):
        raise InvalidSetting("--checks compares with pgd; leave it out for fgsm")
    ordered = sorted(set(epsilons))
    with progress("epsilons") as advance:
        done: list[float] = []

        def counted(eps: float) -> dict[str, torch.Tensor]:
            broken = dict(strike(eps))
            done.append(eps)
            advance(len(done), len(ordered))
            return broken

        curves = sweep(counted, ordered)
    found = {key: shares(curve) for key, curve in curves.items()}
    signs: tuple[Check, ...] = ()
    if checks and isinstance(chosen, Pgd):
        signs = masking_checks(subject, attack=chosen, generator=generator)
    rows = [
        (key, eps, f"{share.value:.1%}", f"{share.low:.1%} to {share.high:.1%}")
        for key, curve in found.items()
        for eps, share in zip(ordered, curve, strict=True)
    ]
    result: dict[str, object] = {
        "victim": str(victim),
        "attack": {
            **describe(chosen),
            "estimators": estimators,
            "threat": THREAT if victim.is_dir() else "L-infinity, on the image in [0, 1]",
            "curve": CARRIED,
            "seed": seed,
        },
        "data": data_name,
        "split": split,
        "samples": len(labels),
        "epsilons": ordered,
        "curves": {key: [share.to_json() for share in curve] for key, curve in found.items()},
        "checks": [sign.to_json() for sign in signs],
    }
    note("An upper bound: a stronger attack can only lower these numbers.")
    text = table(["victim", "epsilon", "robust accuracy", "95 % interval"], rows)
    lines = [text, *(_line(sign) for sign in signs)]
    emit(result, "\n".join(lines), as_json=as_json)


def _line(sign: Check) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in sign.numbers.items())
    return f"{'SIGN OF MASKING' if sign.flagged else 'ok'}  {sign.name}: {sign.claim} ({numbers})"


def _strike(
    victim: Path,
    model: Path | None,
    trust: bool,
    chosen: Attack,
    images: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
) -> tuple[Strike, str, Subject]:
    """Return who breaks at an epsilon, the gradients that are used, and what can be checked.

    Raises:
        InvalidSetting: a network does not read these images, or does not name these classes.
    """
    import torch

    from snnc.attack.deployed import Deployed, attack_deployed, fast_judge
    from snnc.attack.gradients import QUICK, plain, spiking, twins
    from snnc.attack.steps import at, craft
    from snnc.errors import InvalidSetting
    from snnc.evaluate.checks import Subject
    from snnc.frontend.checkpoint import load_checkpoint, to_module
    from snnc.learn.spiking import SpikingNetwork
    from snnc.targets.build import load_build

    surrogates = ", ".join(str(each) for each in QUICK)

    def read(path: Path) -> torch.nn.Module:
        find_modules_here(trust)
        checkpoint = load_checkpoint(path)
        network = to_module(checkpoint, trust=trust)
        shape = tuple(checkpoint.input_shape)
        with torch.no_grad():
            fits(path, shape, int(network(torch.zeros(1, *shape)).shape[1]))
        return network

    def fits(path: Path, shape: tuple[int, ...], classes: int) -> None:
        if shape != images.shape[1:] or classes <= int(labels.max()):
            raise InvalidSetting(
                f"{path} reads images of shape {shape} and names {classes} classes, the data have "
                f"{tuple(images.shape[1:])} and {int(labels.max()) + 1}; choose the data set it "
                "was trained on"
            )

    if not victim.is_dir():
        if model is not None:
            raise InvalidSetting("--model belongs to a build; a checkpoint is attacked itself")
        network = read(victim)
        is_spiking = isinstance(network, SpikingNetwork)
        sources = spiking(network) if isinstance(network, SpikingNetwork) else plain(network)

        def strike(eps: float) -> dict[str, torch.Tensor]:
            found = craft(at(chosen, eps), sources, images, labels, generator=generator)
            return {"float": found.broken}

        subject = Subject(sources=sources, images=images, labels=labels)
        return strike, surrogates if is_spiking else "its own", subject
    build = load_build(victim)
    program = build.program
    fits(victim, program.input.shape, program.classes)
    deployed = Deployed(program=program, engine=fast_judge)
    own = twins(program)
    subject = Subject(sources=own, images=images, labels=labels, judge=deployed.predict)
    if model is None:

        def strike_integers(eps: float) -> dict[str, torch.Tensor]:
            found = craft(
                at(chosen, eps),
                own,
                images,
                labels,
                generator=generator,
                judge=deployed.predict,
            )
            return {"deployed": found.broken}

        return strike_integers, surrogates, subject
    network = read(model)
    if not isinstance(network, SpikingNetwork):
        raise InvalidSetting(f"{model} is an ordinary network; pass the spiking one")
    same_network(load_network(model, trust=trust), build.graph, model)

    def strike_both(eps: float) -> dict[str, torch.Tensor]:
        here = at(chosen, eps)
        crafted = craft(here, spiking(network), images, labels, generator=generator)
        found = attack_deployed(
            here, deployed, images, labels, crafted=crafted, generator=generator
        )
        return {
            "float": crafted.broken,
            "deployed": found.broken,
            "transfer": found.transferred,
            "adaptive": found.adaptive.broken,
        }

    return strike_both, surrogates, subject
