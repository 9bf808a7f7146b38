"""snnc train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, json_option, note

if TYPE_CHECKING:
    from snnc.learn.run import RunResult
    from snnc.learn.stage import Advance


@click.command(epilog="Example: snnc train digits -o runs/digits-2 --set seed=2")
@click.argument("recipe")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Run directory.  [default: runs/RECIPE]"
)
@click.option("--set", "overrides", multiple=True, help="key=value replaces one of the recipe's.")
@click.option("--resume", is_flag=True, help="Go on after the last finished stage.")
@json_option
def train(
    recipe: str, out: Path | None, overrides: tuple[str, ...], resume: bool, as_json: bool
) -> None:
    """Train by RECIPE, the name of an installed recipe or the path of a TOML file.

    Writes model.pt and, after each stage, a checkpoint with its metrics. Interrupt it
    whenever you like: --resume goes on after the last finished stage, with the same result.
    """
    from snnc.learn.recipes import load_recipe
    from snnc.learn.run import train as run

    chosen = load_recipe(recipe, overrides)
    result = run(chosen, out or Path("runs") / chosen.name, resume=resume, progress=print_advance)
    emit(to_json(result), to_text(result), as_json=as_json)


def print_advance(stage: str, advance: Advance) -> None:
    """Tell a person how far a stage is."""
    note(f"{stage}: {advance}")


def to_json(result: RunResult) -> dict[str, object]:
    """Return what a run left behind."""
    return {
        "directory": str(result.directory),
        "model": str(result.model),
        "ann": str(result.ann),
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
