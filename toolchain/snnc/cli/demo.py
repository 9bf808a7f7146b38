"""snnc demo."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import click

from snnc.cli.output import emit, force_option, json_option, note


@click.command(epilog="Example: snnc demo -o snnc-demo")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("snnc-demo"),
    show_default=True,
    help="Run directory.",
)
@click.option("--recipe", default="digits", show_default=True, help="Name or path of a recipe.")
@click.option("--set", "overrides", multiple=True, help="key=value replaces one of the recipe's.")
@click.option(
    "--lava-samples",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Images to run on Lava; 0 leaves Lava out.",
)
@click.option("--resume", is_flag=True, help="Go on after the last finished stage.")
@force_option
@json_option
def demo(
    out: Path,
    recipe: str,
    overrides: tuple[str, ...],
    lava_samples: int,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train, convert, compile, run on Lava, attack and price, on real scans of digits.

    Takes a few minutes. Leaves model.pt, model.snn, a reference and a loihi build,
    metrics.json and report.html in the run directory.
    """
    from snnc.cli.train import print_advance
    from snnc.errors import OutputExists
    from snnc.learn.recipes import load_recipe

    chosen = load_recipe(recipe, overrides)
    if out.exists() and not resume:
        if not force:
            raise OutputExists(f"{out} exists; go on with --resume, or replace it with --force")
        if not (out / "run.json").is_file():
            raise OutputExists(f"{out} is not a run of snnc, so --force does not delete it")
        shutil.rmtree(out)
    from snnc.demo import Settings, run_demo

    words = ["snnc", "demo", "--recipe", recipe]
    words += [word for each in overrides for word in ("--set", each)]
    settings = Settings(
        directory=out,
        command=shlex.join([*words, "--lava-samples", str(lava_samples)]),
        lava_samples=lava_samples,
        resume=resume,
    )
    metrics = run_demo(chosen, settings, progress=print_advance, note=note)
    emit(
        {"run": str(out), "report": str(out / "report.html"), "metrics": metrics},
        f"{_summary(metrics)}\n\nlook at {out / 'report.html'}",
        as_json=as_json,
    )


def _summary(metrics: dict[str, object]) -> str:
    accuracy = metrics["accuracy"]
    model = metrics["model"]
    assert isinstance(accuracy, dict) and isinstance(model, dict)  # noqa: S101 - schema 1
    names = {
        "ann": "robust sparse ANN",
        "snn": "spiking network",
        "deployed": "deployed integers",
        "twin": "normally trained twin, deployed",
    }
    lines = [
        f"{name}: {accuracy[key]['value']:.1%} of the test images" for key, name in names.items()
    ]
    lines.append(f"{model['sparsity']:.1%} of {model['weights']:,} weights are zero")
    return "\n".join(lines)
