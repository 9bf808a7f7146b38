"""What deployment costs: two trained networks as 8, 6, 4 and 2-bit integers on every engine.

    python docs/results/deployed.py runs/deployed --data-root DIR

trains the two networks if they are not there, compiles each at four widths with and without
a search of scales on calibration images, and at two bits with training of the integers too;
measures accuracy on the clean and the attacked test images, and runs the 8-bit builds on all
engines, Lava included, spike for spike. Stop it whenever you like and start it again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from snnc import api, data
from snnc.attack.deployed import Deployed, attack_deployed, fast_judge
from snnc.attack.gradients import spiking
from snnc.attack.steps import Examples, Pgd, craft
from snnc.errors import InvalidGraph
from snnc.evaluate.agreement import agreement
from snnc.frontend.checkpoint import load_checkpoint, to_module
from snnc.ir.files import write_bytes
from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.learn.machine import Machine
from snnc.learn.recipes import load_recipe
from snnc.learn.run import Where, train
from snnc.learn.spiking import SpikingNetwork
from snnc.learn.stage import Advance
from snnc.learn.tune import compile_tuned
from snnc.passes.numbers import Bits
from snnc.passes.quantize import PIXEL_LEVELS
from snnc.provenance import commit, machine, versions
from snnc.quantization.account import Account
from snnc.quantization.calibrate import compile_accounted
from snnc.semantics.encode import encode
from snnc.simulate import reference
from snnc.targets import registry
from snnc.targets.build import Build, load_build, write_build
from snnc.targets.outside import Manner, RunsOutside

Row = dict[str, Any]

RECIPES = ("fashion_mnist", "fashion_mnist_resnet8")  # both 90 % sparse
LARGEST, SEARCHED, TUNED = "largest", "searched", "searched, tuned"  # how scales are found
WAYS = tuple((bits, scales) for bits in (8, 6, 4, 2) for scales in (LARGEST, SEARCHED))
WAYS += ((2, TUNED),)
EPSILON, STEPS = 0.05, 20  # PGD, as trained
CLEAN, ATTACKED, COMPARED = 10_000, 500, 200  # the first test images in class-balanced order
CALIBRATION = 256  # of the training images
SETTINGS = {
    "epsilon": EPSILON,
    "steps": STEPS,
    "clean": CLEAN,
    "attacked": ATTACKED,
    "compared": COMPARED,
    "calibration": CALIBRATION,
}
HOST = ("fast", "torch")  # compared with the numpy reference, as "lava" and "inproc" are


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A trained network and the images that judge it."""

    recipe: str
    directory: Path
    network: SpikingNetwork
    model: Path
    dataset: data.Dataset
    root: Path | None  # of the data
    crafted: Examples  # for the float network

    @property
    def attacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels under attack."""
        return tensors(self.dataset.test.take(ATTACKED))


def tensors(split: data.Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, C, H, W) in [0, 1] and labels (N,)."""
    return torch.from_numpy(split.images), torch.from_numpy(split.labels)


def subject(recipe: str, directory: Path, root: Path | None) -> Subject:
    """Train a network, or go on with it, or take what is there; attack its float form."""
    run = directory / recipe

    def progress(stage: str, advance: Advance) -> None:
        click.echo(f"{recipe}, {stage}: {advance}", err=True)

    where = Where(machine=Machine(), root=root, every=60.0, trust=False, reuse=())
    resume = (run / "run.json").exists()
    result = train(load_recipe(recipe), run, resume=resume, progress=progress, where=where)
    network = to_module(load_checkpoint(result.model))
    if not isinstance(network, SpikingNetwork):
        raise TypeError(f"{result.model} does not spike")
    dataset = data.load("fashion_mnist", root=root)
    images, labels = tensors(dataset.test.take(ATTACKED))
    generator = torch.Generator().manual_seed(0)
    attack = Pgd(eps=EPSILON, steps=STEPS)
    crafted = craft(attack, spiking(network), images, labels, generator=generator)
    return Subject(
        recipe=recipe,
        directory=run,
        network=network,
        model=result.model,
        dataset=dataset,
        root=root,
        crafted=crafted,
    )


def floats(of: Subject) -> Row:
    """Measure the float spiking network."""
    images, labels = tensors(of.dataset.test.take(CLEAN))
    with torch.no_grad():
        named = torch.cat([of.network(part).argmax(1) for part in images.split(100)])
    return {
        "network": of.recipe,
        "bits": "float",
        "scales": "",
        "clean": float((named == labels).float().mean()),
        "robust": 1 - float(of.crafted.broken.float().mean()),
    }


def compiled(of: Subject, graph: Graph, width: int, scales: str) -> tuple[Program, Account]:
    """Return the integers of a network at a width, and the account of every layer."""
    numbers, bits = registry.load("loihi").numbers, Bits(others=width)
    images = of.dataset.train.take(CALIBRATION).images
    if scales != TUNED:
        return compile_accounted(
            graph, numbers, images=images if scales == SEARCHED else None, bits=bits
        )
    tuned = compile_tuned(
        graph,
        numbers,
        load_recipe(of.recipe),
        images=images,
        levels=PIXEL_LEVELS,
        bits=bits,
        root=of.root,
        progress=lambda advance: click.echo(f"{of.recipe}, tune: {advance}", err=True),
    )
    return tuned.program, tuned.account


def integers(of: Subject, bits: int, scales: str) -> Row:
    """Compile at a width, measure the integers, keep the account of every layer."""
    named: Row = {"network": of.recipe, "bits": bits, "scales": scales}
    target = registry.load("loihi")
    graph = api.load(of.model)
    try:
        program, account = compiled(of, graph, bits, scales)
    except InvalidGraph as refused:
        return {**named, "refused": str(refused)}
    build = of.directory / f"loihi-{bits}-{scales.replace(', ', '-')}"
    write_build(build, target, program, graph, force=build.exists())
    deployed = Deployed(program=program, engine=fast_judge)
    shown, labels = tensors(of.dataset.test.take(CLEAN))
    found = attack_deployed(
        Pgd(eps=EPSILON, steps=STEPS),
        deployed,
        *of.attacked,
        crafted=of.crafted,
        generator=torch.Generator().manual_seed(0),
    )
    return {
        **named,
        "clean": float((deployed.predict(shown) == labels).float().mean()),
        "robust": 1 - float(found.broken.float().mean()),
        "account": account.to_json(),
    }


def engines(of: Subject, build: Build) -> Row:
    """Run a build on every engine and compare every spike with the numpy reference."""
    split = of.dataset.test.take(COMPARED)
    codes = encode(build.program.input, split.images)
    wanted = reference.run(build.program, codes, raster=True)
    target = registry.load(build.target, build.options)
    if not isinstance(target, RunsOutside):
        raise TypeError(f"{build.target} does not run Lava")
    spikes = sum(int(layer.spikes.sum()) for layer in wanted.layers)
    row: Row = {"network": of.recipe, "samples": COMPARED, "spikes": spikes, "differing": {}}
    traces = {name: api.ENGINES[name](build.program, codes, raster=True) for name in HOST}
    for name in ("lava", "inproc"):
        manner = Manner(engine=name, workers=None, timeout=None)
        traces[name] = target.execute_outside(
            build.program, build.directory, codes, manner=manner, raster=True
        )[0]
    for name, trace in traces.items():
        compared = agreement(wanted, trace)
        differing = sum(
            int((layer.raster != other.raster).sum())
            for layer, other in zip(wanted.layers, trace.layers, strict=True)
        )
        row["differing"][name] = differing
        if not compared.exact:
            raise SystemExit(f"{of.recipe} on {name}: {compared.first or 'logits differ'}")
    return row


def measured(of: Subject) -> tuple[list[Row], Row]:
    """Return all rows of one network, those that are there already unchanged."""
    path = of.directory / "deployed.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("settings") != SETTINGS:
        kept = {"settings": SETTINGS, "rows": [floats(of)], "engines": None}
    for bits, scales in WAYS:
        if not any((r["bits"], r["scales"]) == (bits, scales) for r in kept["rows"]):
            click.echo(f"{of.recipe}: {bits} bits, {scales}", err=True)
            kept["rows"].append(integers(of, bits, scales))
            write_bytes(path, json.dumps(kept, indent=1).encode(), force=True)
    if kept["engines"] is None:
        click.echo(f"{of.recipe}: engines", err=True)
        kept["engines"] = engines(of, load_build(of.directory / f"loihi-8-{LARGEST}"))
        write_bytes(path, json.dumps(kept, indent=1).encode(), force=True)
    return kept["rows"], kept["engines"]


def markdown(rows: Sequence[Row], compared: Sequence[Row]) -> str:
    """Return both tables for people."""
    lines = [
        f"| network | weights | scales | clean, {CLEAN:,} images | "
        f"PGD-{STEPS} at {EPSILON}, {ATTACKED} images | layer that hurts most |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        width = "float" if row["bits"] == "float" else f"{row['bits']} bits"
        worst = row.get("account", {}).get("worst") or ""
        clean, robust = (
            "refused" if "refused" in row else f"{100 * row[kind]:.1f} %"
            for kind in ("clean", "robust")
        )
        lines.append(
            f"| {row['network']} | {width} | {row['scales']} | {clean} | {robust} | {worst} |"
        )
    names = list(compared[0]["differing"]) if compared else []
    lines += [
        "",
        f"| network | images | spikes | {' | '.join(f'differing, {name}' for name in names)} |",
        f"| --- | --- | --- |{' --- |' * len(names)}",
    ]
    for row in compared:
        counts = " | ".join(str(row["differing"][name]) for name in names)
        lines.append(f"| {row['network']} | {row['samples']} | {row['spikes']:,} | {counts} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Complete every network, then write both tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--data-root", type=Path)
    chosen = parser.parse_args()
    rows: list[Row] = []
    compared: list[Row] = []
    for recipe in RECIPES:
        found, run = measured(subject(recipe, chosen.directory, chosen.data_root))
        rows += found
        compared.append(run)
        where = {**versions(), "commit": commit(), "machine": machine(), **SETTINGS}
        content = {"where": where, "rows": rows, "engines": compared}
        table = markdown(rows, compared)
        write_bytes(chosen.directory / "table.md", table.encode(), force=True)
        write_bytes(
            chosen.directory / "table.json", json.dumps(content, indent=1).encode(), force=True
        )
    click.echo(markdown(rows, compared))


if __name__ == "__main__":
    main()
