"""The whole chain on one recipe, in one directory:

    checkpoints/       the network after each stage of training
    model.pt           the robust, sparse spiking network
    model.snn          the same as a graph
    reference/         a build for the host
    loihi/             a build for Loihi: a generated Lava program
    metrics.json       every number of the report
    raster.npz         the spikes of one image
    report.html        the pictures

Every number comes from the test split, which training never sees.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import nn

from snnc import data as data_sets
from snnc.api import load
from snnc.attack.curve import Chain, ChainCurves, chain_curves
from snnc.attack.deployed import Deployed, fast_judge
from snnc.attack.steps import Pgd
from snnc.data import Dataset, Split
from snnc.energy.ann import ann_counts
from snnc.energy.count import count
from snnc.energy.estimate import estimate
from snnc.energy.profiles import load_profile, names
from snnc.energy.report import to_json as energy_to_json
from snnc.errors import InvalidSetting, SnncError, TargetFailed
from snnc.evaluate.agreement import agreement
from snnc.evaluate.robustness import robustness
from snnc.evaluate.statistics import Proportion, proportion
from snnc.evaluate.summary import activity_summary, model_summary, quantization_summary
from snnc.frontend.checkpoint import load_checkpoint, to_module
from snnc.ir.files import write_bytes
from snnc.ir.store import save_graph
from snnc.ir.weights import IntArray
from snnc.learn.recipes import Recipe
from snnc.learn.run import RunProgress, RunResult, train
from snnc.learn.spiking import SpikingNetwork
from snnc.passes import PREPARE, apply
from snnc.passes.compile import compile_graph
from snnc.provenance import commit, machine, versions
from snnc.report import write_report
from snnc.semantics.encode import encode
from snnc.simulate import fast, reference
from snnc.simulate.floating import activations
from snnc.simulate.trace import Trace
from snnc.targets import registry
from snnc.targets.build import Build, load_build, write_build
from snnc.targets.setup import NeedsSetup

Note = Callable[[str], None]

EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
PGD_STEPS = 20
TARGETS = ("reference", "loihi")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one demo does beyond its recipe."""

    directory: Path
    command: str  # what repeats it, for the report
    lava_samples: int  # images to run on Lava; 0 to leave Lava out
    resume: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Networks:
    """What training left, loaded; in eval mode."""

    ann: nn.Module
    snn: SpikingNetwork
    twin_ann: nn.Module
    twin: SpikingNetwork


def run_demo(
    recipe: Recipe, settings: Settings, *, progress: RunProgress, note: Note
) -> dict[str, object]:
    """Train, compile, run, attack and price; return what metrics.json holds.

    The recipe must have a twin, which the robust network is compared with.

    Raises:
        SnncError: a stage was refused or failed; run again with `resume` to go on.
    """
    if recipe.twin is None or (recipe.train is None and recipe.prune is None):
        raise InvalidSetting(
            f"recipe {recipe.name}: the demo compares a trained ReLU network, its spiking form and "
            "a twin; add the tables [train] and [twin], or train it by snnc train"
        )
    started = datetime.now(timezone.utc)
    directory = settings.directory
    result = train(recipe, directory, resume=settings.resume, progress=progress)
    begin = time.perf_counter()
    dataset = data_sets.load(recipe.data.name)
    networks = _load(result)
    note("compile: weights, thresholds and biases to integers")
    builds = _compile(result.model, directory)
    program = builds["reference"].program
    twin_program = compile_graph(load(_known(result.twin)), registry.load("reference").numbers)
    codes = encode(program.input, dataset.test.images)
    note(f"simulate: {len(codes)} test images on the integers")
    trace = fast.run(program, codes, raster=False)
    _write_example(
        directory, dataset.test, program_trace=reference.run(program, codes[:1], raster=True)
    )
    lava = _run_on_lava(builds["loihi"], codes[: settings.lava_samples], note)
    note(f"attack: PGD-{PGD_STEPS} at {len(EPSILONS)} sizes, on every stage and on the twin")
    twin_deployed = Deployed(program=twin_program, engine=fast_judge)
    chain = Chain(
        ann=networks.ann, snn=networks.snn, deployed=Deployed(program=program, engine=fast_judge)
    )
    curves = _attack("the network", chain, dataset.test, recipe.seed, note)
    twin = Chain(ann=None, snn=networks.twin, deployed=twin_deployed)
    twin_curves = _attack("its twin", twin, dataset.test, recipe.seed, note)
    note("energy: counts of the run, priced by every profile")
    ann_graph = load(_known(result.ann))
    baseline = ann_counts(ann_graph, [activations(ann_graph, dataset.test.images)])
    counts = count(program, trace, ann=baseline)
    graph = builds["reference"].graph
    assert graph is not None  # noqa: S101 - it was compiled from one
    run: dict[str, object] = {
        **versions(),
        "command": settings.command,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "commit": commit(),
        "machine": machine(),
        "data": {
            "name": dataset.name,
            "digest": dataset.digest,
            "test": len(dataset.test.labels),
        },
        "started": started.isoformat(timespec="seconds"),
        "hardware": "simulated, no neuromorphic hardware was used",
    }
    metrics: dict[str, object] = {
        "schema": 1,
        "run": run,
        "stages": [
            {"name": stage.name, "seconds": stage.seconds, "metrics": dict(stage.metrics)}
            for stage in result.stages
        ],
        "model": model_summary(graph),
        "accuracy": _accuracies(networks, dataset, trace, twin_deployed),
        "robustness": robustness(curves, twin_curves).to_json(),
        "agreement": lava,
        "quantization": quantization_summary(apply(PREPARE, graph), program),
        "activity": activity_summary(program, trace),
        "energy": [energy_to_json(estimate(counts, load_profile(name))) for name in names()],
    }
    training = sum(stage.seconds for stage in result.stages)
    run["seconds"] = training + time.perf_counter() - begin  # also what an earlier session trained
    text = json.dumps(metrics, indent=1, allow_nan=False) + "\n"
    write_bytes(directory / "metrics.json", text.encode(), force=True)
    write_report(directory, directory / "report.html", force=True)
    return metrics


def _load(result: RunResult) -> _Networks:
    snn, twin = (to_module(load_checkpoint(p)) for p in (result.model, _known(result.twin)))
    assert isinstance(snn, SpikingNetwork) and isinstance(twin, SpikingNetwork)  # noqa: S101
    ann, twin_ann = (
        to_module(load_checkpoint(_known(path))) for path in (result.ann, result.twin_ann)
    )
    return _Networks(ann=ann, snn=snn, twin_ann=twin_ann, twin=twin)


def _known(path: Path | None) -> Path:
    assert path is not None  # noqa: S101 - run_demo takes no recipe that leaves it out
    return path


def _compile(model: Path, directory: Path) -> dict[str, Build]:
    graph = load(model)
    save_graph(directory / "model.snn", graph, force=True)
    for name in TARGETS:
        target = registry.load(name)
        program = compile_graph(graph, target.numbers)
        write_build(directory / name, target, program, graph, force=True)
    return {name: load_build(directory / name) for name in TARGETS}


def _run_on_lava(build: Build, codes: IntArray, note: Note) -> dict[str, object]:
    """Return the agreement of Lava with the reference; empty, and said so, if it was not run."""
    if not len(codes):
        note("lava: left out on request")
        return {}
    target = registry.load(build.target, build.options)
    try:
        if isinstance(target, NeedsSetup) and not target.doctor()[0].ok:
            note("lava: not installed yet; setting it up once")
            target.setup(note)
    except SnncError as error:
        note(f"lava: not run: {error}")
        return {}
    note(f"lava: {len(codes)} images on the generated Lava program")
    trace = target.execute(build.program, build.directory, codes, raster=True)
    compared = agreement(reference.run(build.program, codes, raster=True), trace)
    if not compared.exact:
        raise TargetFailed(f"Lava differs from the reference: {compared.first}; please report it")
    return {build.target: compared.to_json()}


def _attack(name: str, chain: Chain, test: Split, seed: int, note: Note) -> ChainCurves:
    return chain_curves(
        chain,
        torch.from_numpy(test.images),
        torch.from_numpy(test.labels),
        attack=Pgd(eps=EPSILONS[-1], steps=PGD_STEPS),
        epsilons=EPSILONS,
        generator=torch.Generator().manual_seed(seed),
        progress=lambda done, total: note(f"attack: {name}, {done} of {total} sizes"),
    )


def _accuracies(
    networks: _Networks, dataset: Dataset, trace: Trace, twin: Deployed
) -> dict[str, object]:
    images = torch.from_numpy(dataset.test.images)
    labels = dataset.test.labels

    @torch.no_grad()
    def right(network: nn.Module) -> Proportion:
        return proportion(network(images).argmax(1).numpy() == labels)

    return {
        "ann": right(networks.ann).to_json(),
        "snn": right(networks.snn).to_json(),
        "deployed": proportion(trace.predictions == labels).to_json(),
        "twin_ann": right(networks.twin_ann).to_json(),
        "twin": proportion(twin.predict(images).numpy() == labels).to_json(),
    }


def _write_example(directory: Path, test: Split, *, program_trace: Trace) -> None:
    """Write the spikes of the first test image, for the report."""
    arrays = {
        layer.name: layer.raster[0].reshape(program_trace.steps, -1)
        for layer in program_trace.layers
        if layer.raster is not None
    }
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        image=test.images[0],
        label=test.labels[0],
        prediction=program_trace.predictions[0],
        **arrays,
    )
    write_bytes(directory / "raster.npz", buffer.getvalue(), force=True)
