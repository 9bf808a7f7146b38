"""Fashion-MNIST at four sparsities: conversion and finetuning against end-to-end training.

    python docs/results/fashion_mnist.py runs/fashion --data-root DIR

trains and measures what is not there yet, one network after the other, and writes
table.md, table.json and accuracy.svg into the run directory. Stop it whenever you like and
start it again; several may work on different seeds (--seeds) of one directory at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from snnc import data
from snnc.attack.gradients import plain, spiking
from snnc.attack.steps import Pgd, craft
from snnc.frontend.checkpoint import load_checkpoint, to_module
from snnc.ir.files import write_bytes
from snnc.learn.machine import Machine
from snnc.learn.prune import sparsity
from snnc.learn.recipes import load_recipe
from snnc.learn.run import RunResult, Where, train
from snnc.learn.spiking import SpikingNetwork
from snnc.learn.stage import Advance
from snnc.provenance import commit, machine, versions
from snnc.report.markup import Markup, join
from snnc.report.svg import (
    Mark,
    Scale,
    curve,
    drawing,
    horizontal_grid,
    line,
    marker,
    text,
)

Row = dict[str, Any]

RECIPES = {"converted": "fashion_mnist", "end-to-end": "fashion_mnist_end_to_end"}
SPARSITIES = (0.0, 0.9, 0.95, 0.99)
EPSILONS = (0.05, 0.1)  # as trained, and twice that
STEPS = 20
TEST = 1000  # the first test images in class-balanced order
SETTINGS = {"epsilons": list(EPSILONS), "steps": STEPS, "test": TEST}  # of the measurement
NETWORKS = ("ANN", "SNN, converted", "SNN, end-to-end")
MARKS = dict(zip(NETWORKS, (Mark.CIRCLE, Mark.DIAMOND, Mark.SQUARE), strict=True))
MEASURED = ("clean", *(f"PGD-{STEPS} at {epsilon:g}" for epsilon in EPSILONS))
STYLE = """<style>
  svg { font: 13px system-ui, sans-serif; background: #fff; fill: #333 }
  .strong { font-weight: 600 } .tick { fill: #666; font-size: 12px } .grid { stroke: #ddd }
  .curve { fill: none; stroke-width: 2 } .dot { stroke: #fff }
  .n0 { stroke: #777 } .n1 { stroke: #0a6c74 } .n2 { stroke: #c2571a }
  .dot.n0 { fill: #777 } .dot.n1 { fill: #0a6c74 } .dot.n2 { fill: #c2571a }
  .dot { stroke: #fff !important }
</style>"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One network of the table."""

    method: str  # a key of RECIPES
    sparsity: float
    seed: int

    @property
    def name(self) -> str:
        """The directory of its run."""
        return f"{self.method}-{self.sparsity:g}-seed{self.seed}"


def cells(seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield the cells, those first that later ones take a trained network from."""
    for seed in seeds:
        for sparsity_ in SPARSITIES:
            for method in RECIPES:
                yield Cell(method=method, sparsity=sparsity_, seed=seed)


def run_cell(cell: Cell, directory: Path, root: Path | None) -> RunResult:
    """Train one network, or go on with it, or return what is there."""
    recipe = load_recipe(
        RECIPES[cell.method], [f"seed={cell.seed}", f"prune.sparsity={cell.sparsity}"]
    )
    run = directory / cell.name
    first = directory / Cell(method=cell.method, sparsity=SPARSITIES[0], seed=cell.seed).name

    def progress(stage: str, advance: Advance) -> None:
        click.echo(f"{cell.name}, {stage}: {advance}")

    reuse = (first,) if (first / "run.json").exists() else ()
    where = Where(machine=Machine(), root=root, every=60.0, trust=False, reuse=reuse)
    resume = (run / "run.json").exists()
    return train(recipe, run, resume=resume, progress=progress, where=where)


def measure(cell: Cell, result: RunResult, test: data.Split) -> list[Row]:
    """Return clean and robust accuracy of the networks of a cell, one row for each."""
    paths = {"SNN, " + cell.method: result.model}
    if cell.method == "converted" and result.ann is not None:
        paths["ANN"] = result.ann
    rows = []
    for name, path in paths.items():
        network = to_module(load_checkpoint(path))
        rows.append(
            {
                "network": name,
                "sparsity": cell.sparsity,
                "seed": cell.seed,
                "zeros": sparsity(network),
                **accuracies(network, test, cell.seed),
                "seconds": sum(stage.seconds for stage in result.stages),
            }
        )
    return rows


def accuracies(network: torch.nn.Module, test: data.Split, seed: int) -> dict[str, float]:
    """Return clean accuracy, and that under PGD: of an SNN, the worst over QUICK's surrogates."""
    images, labels = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    sources = spiking(network) if isinstance(network, SpikingNetwork) else plain(network)
    found = {}
    for epsilon in (0.0, *EPSILONS):
        attack = Pgd(eps=epsilon, steps=STEPS if epsilon else 1)
        generator = torch.Generator().manual_seed(seed)
        examples = craft(attack, sources, images, labels, generator=generator)
        found[column(epsilon)] = 1 - float(examples.broken.float().mean())
    return found


def column(epsilon: float) -> str:
    """Name what is measured at an epsilon.

    >>> column(0.0), column(0.05)
    ('clean', 'PGD-20 at 0.05')
    """
    return f"PGD-{STEPS} at {epsilon:g}" if epsilon else "clean"


def complete(cell: Cell, directory: Path, root: Path | None, test: data.Split) -> None:
    """Train and measure a cell, if that has not been done.

    `run_cell` refuses a directory whose recipe is another one by now.
    """
    result = run_cell(cell, directory, root)
    path = directory / cell.name / "measured.json"
    if not path.exists() or json.loads(path.read_text())["settings"] != SETTINGS:
        content = {"settings": SETTINGS, "rows": measure(cell, result, test)}
        write_bytes(path, json.dumps(content, indent=1).encode(), force=True)


def measured(directory: Path) -> list[Row]:
    """Return the rows of all cells that are measured, whoever measured them."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*/measured.json"))]
    return [row for each in found if each["settings"] == SETTINGS for row in each["rows"]]


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return mean and sample deviation over the seeds for each network and sparsity."""
    keys = sorted({(row["sparsity"], NETWORKS.index(row["network"])) for row in rows})
    found = []
    for level, number in keys:
        mine = [r for r in rows if (r["sparsity"], r["network"]) == (level, NETWORKS[number])]
        entry: Row = {"network": NETWORKS[number], "sparsity": level, "seeds": len(mine)}
        for name in MEASURED:
            values = [100 * row[name] for row in mine]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            entry[name] = (statistics.fmean(values), deviation)
        found.append(entry)
    return found


def markdown(found: Sequence[Row]) -> str:
    """Return the table for people: percent, mean and deviation over the seeds."""
    head = ["sparsity", "network", "seeds", *MEASURED]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in found:
        numbers = [f"{row[name][0]:.1f} ± {row[name][1]:.1f}" for name in MEASURED]
        sparse = f"{100 * row['sparsity']:g} %"
        lines.append(" | ".join([sparse, row["network"], str(row["seeds"]), *numbers]))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def figure(found: Sequence[Row]) -> str:
    """Draw one panel for each measurement: accuracy against sparsity, one line a network."""
    panel, gap, top, height = 250.0, 44.0, 54.0, 220.0
    panels = [
        _panel(found, name, number * (panel + gap) + 56, panel, top, height)
        for number, name in enumerate(MEASURED)
    ]
    width = len(MEASURED) * (panel + gap) + 20
    legend = [
        join(
            [
                marker(MARKS[name], 50 + 190 * i, 16, f"dot n{i}", name),
                text(62 + 190 * i, 20, name),
            ]
        )
        for i, name in enumerate(NETWORKS)
    ]
    label = "Accuracy of three networks against sparsity, clean and under attack"
    picture = drawing(width, top + height + 50, Markup(STYLE), *legend, *panels, label=label)
    return picture.html.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _panel(
    found: Sequence[Row], measured: str, left: float, width: float, top: float, height: float
) -> Markup:
    y = Scale(0, 100, top + height, top)
    levels = sorted({row["sparsity"] for row in found})
    x = Scale(0, max(len(levels) - 1, 1), left + 12, left + width - 12)
    parts = [
        text(left, top - 12, measured, class_="label strong"),
        horizontal_grid((0, 25, 50, 75, 100), y, left, left + width, lambda v: f"{v:g} %"),
        *(
            text(x(i), top + height + 20, f"{100 * level:g} %", class_="tick", anchor="middle")
            for i, level in enumerate(levels)
        ),
        text(left + width / 2, top + height + 40, "of the weights are zero", anchor="middle"),
    ]
    for number, name in enumerate(NETWORKS):
        mine = {row["sparsity"]: row[measured] for row in found if row["network"] == name}
        aside = x(0) + 5 * (number - 1)  # so that equal means do not hide each other
        points = [
            (x(i) - x(0) + aside, *mine[level]) for i, level in enumerate(levels) if level in mine
        ]
        parts.append(curve([(place, y(mean)) for place, mean, _ in points], f"curve n{number}"))
        for place, mean, deviation in points:
            ends = (y(min(mean + deviation, 100)), y(max(mean - deviation, 0)))
            parts.append(line((place, ends[0]), (place, ends[1]), f"curve n{number}"))
            tip = f"{name}: {mean:.1f} ± {deviation:.1f} %"
            parts.append(marker(MARKS[name], place, y(mean), f"dot n{number}", tip))
    return join(parts)


def write(rows: Sequence[Row], directory: Path) -> None:
    """Write table and figure of what is measured so far."""
    found = summary(rows)
    where = {**versions(), "commit": commit(), "machine": machine(), "test images": TEST}
    content = {"where": where, "rows": list(rows)}
    files = {
        "table.json": json.dumps(content, indent=1) + "\n",
        "table.md": markdown(found),
        "accuracy.svg": figure(found),
    }
    for name, text_ in files.items():
        write_bytes(directory / name, text_.encode(), force=True)


def main() -> None:
    """Complete every cell, then write table and figure."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--seeds", default="0,1")
    chosen = parser.parse_args()
    test = data.load("fashion_mnist", root=chosen.data_root).test.take(TEST)
    rows: list[Row] = []
    for cell in cells([int(word) for word in chosen.seeds.split(",")]):
        complete(cell, chosen.directory, chosen.data_root, test)
        rows = measured(chosen.directory)
        write(rows, chosen.directory)
    click.echo(markdown(summary(rows)))


if __name__ == "__main__":
    main()
