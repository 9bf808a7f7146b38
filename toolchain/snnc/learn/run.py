"""A training run: the stages of a recipe in order, in a directory, resumable at any moment.

    directory/run.json                     the recipe and the digest of the data
    directory/checkpoints/01-train.pt      the network after each stage, and beside it
    directory/checkpoints/01-train.json    what the stage measured; written last
    directory/checkpoints/02-prune.part*   a stage that is half done (`snnc.learn.snapshots`)
    directory/checkpoints/04-convert.report.txt, .json    what the conversion did to each layer
    directory/model.pt                     the finished spiking network

A stage is finished when its JSON file exists. Everything random in a stage comes from the
recipe's seed and the stage's name, so a run that was interrupted and resumed ends with the
weights of one that was not. (Bit for bit on the same machine and number of threads:
floating-point sums depend on both.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from snnc import __version__, data
from snnc.data import Dataset
from snnc.data.dataset import class_balanced
from snnc.errors import InvalidSetting, Refusal, TrainingFailed
from snnc.frontend.architecture import build
from snnc.frontend.checkpoint import from_module, load_checkpoint, save_checkpoint, to_module
from snnc.frontend.torch_module import from_torch
from snnc.ir.files import read_bytes, write_bytes
from snnc.learn.conversion_report import conversion_report
from snnc.learn.convert import spiking
from snnc.learn.machine import Machine
from snnc.learn.plan import Stage, plan, with_objective
from snnc.learn.prune import check
from snnc.learn.recipes import Recipe
from snnc.learn.record import Record, StageResult, fingerprint, stage_key
from snnc.learn.snapshots import EVERY, Snapshots
from snnc.learn.spiking import SpikingNetwork
from snnc.learn.stage import (
    Advance,
    Context,
    Samples,
    State,
    accuracy,
    derived,
    samples,
    training_data,
)
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers

RunProgress = Callable[[str, Advance], None]  # the stage's name and what it has done

REPORTED = 256  # validation images that a conversion report looks at


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run. A path is None if the recipe has no such network."""

    directory: Path
    stages: tuple[StageResult, ...]
    model: Path  # the spiking network
    ann: Path | None  # the trained ReLU network that it was converted from
    twin: Path | None  # the spiking network of the twin
    twin_ann: Path | None


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a run happens. Of all this only the number of processes shows in a result.

    Several processes see other batch statistics and other draws than one: a result of
    another seed, so to say.
    """

    machine: Machine
    root: Path | None  # folder of the data set; None is its own place
    every: float  # seconds between snapshots
    trust: bool  # may an architecture `module:callable` be imported?
    reuse: tuple[Path, ...]  # runs whose finished stages may be taken over


HERE = Where(machine=Machine(), root=None, every=EVERY, trust=False, reuse=())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """What all stages of a run share."""

    recipe: Recipe
    dataset: Dataset
    untrained: State
    code: str  # fingerprint of the untrained network
    record: Record
    where: Where
    progress: RunProgress


def train(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool,
    progress: RunProgress,
    where: Where = HERE,
    note: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Run every stage of a recipe that `directory` does not hold yet; return where all is.

    `note` gets what a person should know before a long training: that the network it makes
    could be measured, but not compiled.

    Raises:
        OutputExists: the directory holds a run and `resume` is False, or a run is going on.
        InvalidSetting: `resume` with another recipe or other data (the differences are
            listed) or another architecture of that name; a run to reuse that is none; an
            architecture that does not fit the data.
        InvalidFile: a file of the run to resume is damaged.
        TrainingFailed: a loss is not finite; the text names stage, batch and layer.
        Refusal: pruning would empty a layer.
        Unsupported: the architecture cannot be converted.
    """
    dataset = data.load(recipe.data.name, root=where.root)
    if recipe.data.samples is not None:
        dataset = dataset.subset(recipe.data.samples)
    untrained = _untrained(recipe, dataset, trust=where.trust)
    record = Record(directory, where.reuse, where.machine)
    record.claim(recipe, dataset, resume=resume)
    job = _Job(
        recipe=recipe,
        dataset=dataset,
        untrained=untrained,
        code=fingerprint(untrained.network),
        record=record,
        where=where,
        progress=progress,
    )
    if where.machine.leads and (problem := _undeployable(untrained.network, job)):
        note(f"as it is, no target will run this network: {problem}")
    with record.lock():
        robust = _run_plan(job, plan(recipe), "", 1)
        twin: tuple[StageResult, ...] = ()
        if recipe.twin is not None:
            twin_plan = plan(with_objective(recipe, recipe.twin.objective))
            twin = _run_plan(job, twin_plan, "twin-", len(robust) + 1)
    model = directory / "model.pt"
    load_checkpoint(robust[-1].checkpoint)  # a damaged one is refused here
    if where.machine.leads:
        write_bytes(model, read_bytes(robust[-1].checkpoint, "a checkpoint"), force=True)
    where.machine.wait()
    anns = sum(not stage.spiking for stage in plan(recipe))  # they come first
    return RunResult(
        directory=directory,
        stages=(*robust, *twin),
        model=model,
        ann=robust[anns - 1].checkpoint if anns else None,
        twin=twin[-1].checkpoint if twin else None,
        twin_ann=twin[anns - 1].checkpoint if twin and anns else None,
    )


def _run_plan(
    job: _Job, stages: tuple[Stage, ...], prefix: str, begin: int
) -> tuple[StageResult, ...]:
    """Run the stages that have no result yet; they are numbered from `begin`."""
    results: list[StageResult] = []
    state: State | None = None
    for number, stage in enumerate(stages, start=begin):
        path = job.record.path(number, prefix + stage.name)
        key = stage_key(job.recipe, job.dataset, job.code, stage.decided_by)
        done = job.record.finished(path, key) if state is None else None
        if done is None:
            if state is None:
                state = _restore(results[-1].checkpoint, job) if results else job.untrained
            state, done = _run_stage(job, stage, path, key, state)
        results.append(done)
    return tuple(results)


def _run_stage(
    job: _Job, stage: Stage, path: Path, key: str, state: State
) -> tuple[State, StageResult]:
    """Run one stage and write its checkpoint, then its measurements."""
    machine, name = job.where.machine, path.stem.partition("-")[2]
    started = time.perf_counter()
    before = state.network.to(machine.device)
    visible = training_data(job.dataset, tuple(job.recipe.data.augment), machine.device)
    context = Context(
        seed=derived(job.recipe.seed, stage.name),
        progress=lambda advance: job.progress(name, advance) if machine.leads else None,
        machine=machine,
        snapshots=Snapshots(path=path.with_suffix(".part"), every=job.where.every),
    )
    try:
        state = stage.run(State(network=before), visible, context)
    except TrainingFailed as error:
        raise TrainingFailed(f"stage {name}, {error}") from error
    machine.synchronise(state.network)
    seconds = time.perf_counter() - started
    metrics = {
        **state.metrics,
        # reported, never used to choose anything
        "test_accuracy": accuracy(state.network, samples(job.dataset.test, machine.device)),
    }
    result = StageResult(name=name, seconds=seconds, metrics=metrics, checkpoint=path)
    if machine.leads:
        _save(job, state.network, result)
        if stage.name == "convert" and not job.recipe.convert.restart:
            _write_conversion_report(before, state.network, visible.validation, path)
        job.record.finish(result, key)
    machine.wait()
    return state, result


def _save(job: _Job, network: nn.Module, result: StageResult) -> None:
    checkpoint = from_module(
        network,
        architecture=job.recipe.model.architecture,
        arguments=job.recipe.model.arguments,
        input_shape=job.dataset.train.pixels.shape[1:],
        class_names=job.dataset.class_names,
        provenance={
            "snnc": __version__,
            "recipe": job.recipe.model_dump(mode="json"),
            "data": {"name": job.dataset.name, "digest": job.dataset.digest},
            "stage": result.name,
            "metrics": dict(result.metrics),
        },
    )
    save_checkpoint(result.checkpoint, checkpoint, force=True)


def _write_conversion_report(
    ann: nn.Module, snn: nn.Module, validation: Samples, path: Path
) -> None:
    """Write beside the checkpoint what the conversion did to each layer, for people and tools."""
    assert isinstance(snn, SpikingNetwork)  # noqa: S101 - the stage has just made it
    rows = class_balanced(validation.labels.cpu().numpy())[:REPORTED]
    chosen = validation.rows(torch.from_numpy(rows))
    sweep = tuple(sorted({1, 2, 4, snn.steps, 2 * snn.steps, 4 * snn.steps}))
    report = conversion_report(ann, snn, chosen, steps=sweep)
    content = json.dumps(report.to_json(), indent=1) + "\n"
    write_bytes(path.with_suffix(".report.json"), content.encode(), force=True)
    write_bytes(path.with_suffix(".report.txt"), f"{report.to_text()}\n".encode(), force=True)


def _untrained(recipe: Recipe, dataset: Dataset, *, trust: bool) -> State:
    """Return the untrained network, once it is sure that no stage will refuse it.

    Raises:
        InvalidSetting: it does not fit the data.
        Refusal: pruning would empty a layer.
        Unsupported: it cannot be converted.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived(recipe.seed, "weights"))
        network = build(recipe.model.architecture, recipe.model.arguments, trust=trust)
    shape = tuple(dataset.train.pixels.shape[1:])
    problem = _misfit(network.eval(), shape, len(dataset.class_names))
    if problem:
        raise InvalidSetting(
            f"model.architecture {recipe.model.architecture!r} does not fit data "
            f"{dataset.name!r}: {problem}; change model.arguments"
        )
    if recipe.prune is not None:
        check(network, recipe.prune, recipe.convert)
    spiking(network, recipe.convert, shape)
    return State(network=network)


def _undeployable(network: nn.Module, job: _Job) -> str | None:
    """Return why the spiking form of a network cannot become an integer program."""
    shape = tuple(job.dataset.train.pixels.shape[1:])
    try:
        graph = from_torch(spiking(network, job.recipe.convert, shape), input_shape=shape)
        compile_graph(graph, Numbers())
    except Refusal as refusal:
        return str(refusal)
    return None


@torch.no_grad()
def _misfit(network: nn.Module, shape: tuple[int, ...], classes: int) -> str | None:
    try:
        logits = tuple(network(torch.zeros(1, *shape)).shape[1:])
    except Exception as error:  # noqa: BLE001 - a user's network may break in any way
        return f"images of shape {shape} stop it: {error}"
    return None if logits == (classes,) else f"it returns {logits}, not {classes} logits"


def _restore(path: Path, job: _Job) -> State:
    return State(network=to_module(load_checkpoint(path), trust=job.where.trust))
