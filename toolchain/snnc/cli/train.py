"""snnc train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, json_option, note, table
from snnc.cli.sources import find_modules_here, trust_option
from snnc.errors import InvalidSetting

if TYPE_CHECKING:
    from snnc.learn.recipes import Recipe
    from snnc.learn.run import RunResult, Where
    from snnc.learn.seeds import Spread
    from snnc.learn.stage import Advance


@click.command(epilog="Example: snnc train digits -o runs/digits-2 --set seed=2")
@click.argument("recipe")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Run directory.  [default: runs/RECIPE]"
)
@click.option("--set", "overrides", multiple=True, help="key=value replaces one of the recipe's.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@click.option("--seeds", help="Run once for each of these, such as 0,1,2; show mean and deviation.")
@click.option(
    "--reuse",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Take over finished stages of that run where they would come out the same.",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Where downloaded data sets lie.  [default: what SNNC_DATA names]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1.")
@click.option(
    "--snapshot",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds between snapshots of half-done work; 0 takes one after every step.",
)
@trust_option
@json_option
def train(
    recipe: str,
    out: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    seeds: str | None,
    reuse: tuple[Path, ...],
    data_root: Path | None,
    device: str,
    snapshot: float,
    trust: bool,
    as_json: bool,
) -> None:
    """Train by RECIPE, the name of an installed recipe or the path of a TOML file.

    Writes model.pt and, after each stage, a checkpoint with its metrics. Interrupt it
    whenever you like, or lose the machine: --resume goes on from the last snapshot, with the
    same result. Several processes: torchrun --nproc-per-node 2 -m snnc train RECIPE.
    """
    from snnc.learn.machine import machine
    from snnc.learn.recipes import load_recipe
    from snnc.learn.run import Where
    from snnc.learn.run import train as run

    find_modules_here(trust)
    chosen = load_recipe(recipe, overrides)
    directory = out or Path("runs") / chosen.name
    numbers = None if seeds is None else _numbers(seeds, overrides)
    with machine(device) as here:
        where = Where(machine=here, root=data_root, every=snapshot, trust=trust, reuse=reuse)
        if numbers is not None:
            _train_seeds(chosen, directory, numbers, resume, where, as_json=as_json)
            return
        result = run(
            chosen, directory, resume=resume, progress=print_advance, where=where, note=note
        )
        if here.leads:
            emit(to_json(result), to_text(result), as_json=as_json)


def _train_seeds(
    recipe: Recipe,
    directory: Path,
    seeds: list[int],
    resume: bool,
    where: Where,
    *,
    as_json: bool,
) -> None:
    from snnc.learn.seeds import spread, train_seeds

    results = train_seeds(
        recipe,
        directory,
        seeds,
        resume=resume,
        progress=lambda seed: (
            lambda stage, advance: print_advance(f"seed {seed}, {stage}", advance)
        ),
        where=where,
    )
    if where.machine.leads:
        found = spread(results)
        runs = [to_json(result) for result in results]
        emit(
            {"runs": runs, "spread": [vars(s) for s in found]}, _spread_text(found), as_json=as_json
        )


def _numbers(text: str, overrides: tuple[str, ...]) -> list[int]:
    if any(each.partition("=")[0].strip() == "seed" for each in overrides):
        raise InvalidSetting("--seeds and --set seed=... contradict each other; give one of them")
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise InvalidSetting(f"--seeds {text!r}: give whole numbers, such as 0,1,2") from error


def _spread_text(found: tuple[Spread, ...]) -> str:
    rows = [(s.stage, s.metric, f"{s.mean:.4g}", f"{s.deviation:.2g}") for s in found]
    return table(["stage", "metric", "mean", "deviation"], rows)


def print_advance(stage: str, advance: Advance) -> None:
    """Tell a person how far a stage is."""
    note(f"{stage}: {advance}")


def to_json(result: RunResult) -> dict[str, object]:
    """Return what a run left behind."""
    return {
        "directory": str(result.directory),
        "model": str(result.model),
        "ann": result.ann and str(result.ann),
        "twin": result.twin and str(result.twin),
        "stages": [
            {
                "name": stage.name,
                "seconds": stage.seconds,
                "metrics": dict(stage.metrics),
                "checkpoint": str(stage.checkpoint),
            }
            for stage in result.stages
        ],
    }


def to_text(result: RunResult) -> str:
    """Return what a run left behind, for people."""
    lines = [
        f"{stage.name} ({stage.seconds:.0f} s): "
        + ", ".join(f"{name} {value:.4g}" for name, value in stage.metrics.items())
        for stage in result.stages
    ]
    return "\n".join([*lines, f"wrote {result.model}"])
