"""snnc attack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, json_option, note, progress, table
from snnc.cli.sources import data_options, find_modules_here, load_split, same_shape, trust_option

if TYPE_CHECKING:
    import torch

    from snnc.attack.curve import Strike
    from snnc.attack.steps import Attack

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
@click.option("--steps", type=int, default=20, show_default=True, help="Of PGD.")
@click.option("--restarts", type=int, default=1, show_default=True, help="Of PGD.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random starts.")
@trust_option
@data_options
@json_option
def attack(
    victim: Path,
    model: Path | None,
    epsilons: tuple[float, ...],
    name: str,
    steps: int,
    restarts: int,
    seed: int,
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
    from snnc.errors import UnknownName
    from snnc.evaluate.robustness import CARRIED, shares

    if name not in ATTACKS:
        raise UnknownName("attack", name, ATTACKS)
    largest = max(epsilons)
    chosen: Attack = (
        Fgsm(eps=largest) if name == "fgsm" else Pgd(eps=largest, steps=steps, restarts=restarts)
    )
    chosen_split = load_split(data_name, split=split, samples=samples, root=data_root)
    images = torch.from_numpy(chosen_split.images)
    labels = torch.from_numpy(chosen_split.labels)
    generator = torch.Generator().manual_seed(seed)
    strike, shape = _strike(victim, model, trust, chosen, images, labels, generator)
    same_shape(shape, chosen_split, data_name)
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
    rows = [
        (key, eps, f"{share.value:.1%}", f"{share.low:.1%} to {share.high:.1%}")
        for key, curve in found.items()
        for eps, share in zip(ordered, curve, strict=True)
    ]
    result: dict[str, object] = {
        "victim": str(victim),
        "attack": {**describe(chosen), "threat": THREAT, "curve": CARRIED, "seed": seed},
        "data": data_name,
        "split": split,
        "samples": len(labels),
        "epsilons": ordered,
        "curves": {key: [share.to_json() for share in curve] for key, curve in found.items()},
    }
    note("An upper bound: a stronger attack can only lower these numbers.")
    text = table(["victim", "epsilon", "robust accuracy", "95 % interval"], rows)
    emit(result, text, as_json=as_json)


def _strike(
    victim: Path,
    model: Path | None,
    trust: bool,
    chosen: Attack,
    images: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
) -> tuple[Strike, tuple[int, ...]]:
    """Return who breaks at an epsilon, and the shape of the images the victim reads."""
    from snnc.attack.deployed import Deployed, attack_deployed
    from snnc.attack.gradients import plain, spiking, twins
    from snnc.attack.steps import at, craft
    from snnc.errors import InvalidSetting
    from snnc.frontend.checkpoint import load_checkpoint, to_module
    from snnc.learn.spiking import SpikingNetwork
    from snnc.simulate import fast
    from snnc.targets.build import load_build

    def read(path: Path) -> tuple[torch.nn.Module, tuple[int, ...]]:
        find_modules_here(trust)
        checkpoint = load_checkpoint(path)
        return to_module(checkpoint, trust=trust), tuple(checkpoint.input_shape)

    if not victim.is_dir():
        if model is not None:
            raise InvalidSetting("--model belongs to a build; a checkpoint is attacked itself")
        network, shape = read(victim)
        sources = spiking(network) if isinstance(network, SpikingNetwork) else plain(network)

        def strike(eps: float) -> dict[str, torch.Tensor]:
            found = craft(at(chosen, eps), sources, images, labels, generator=generator)
            return {"float": found.broken}

        return strike, shape
    program = load_build(victim).program
    deployed = Deployed(program=program, engine=fast.run)
    if model is None:

        def strike_integers(eps: float) -> dict[str, torch.Tensor]:
            found = craft(
                at(chosen, eps),
                twins(program),
                images,
                labels,
                generator=generator,
                judge=deployed.predict,
            )
            return {"deployed": found.broken}

        return strike_integers, program.input.shape
    network, _ = read(model)
    if not isinstance(network, SpikingNetwork):
        raise InvalidSetting(f"{model} is an ordinary network; pass the spiking one")

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

    return strike_both, program.input.shape
