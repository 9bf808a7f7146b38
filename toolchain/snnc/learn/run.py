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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from snnc import __version__, data
from snnc.data import Dataset
from snnc.errors import InvalidSetting, TrainingFailed
from snnc.frontend.architecture import build
from snnc.frontend.checkpoint import from_module, load_checkpoint, save_checkpoint, to_module
from snnc.ir.files import read_bytes, write_bytes
from snnc.learn.conversion_report import conversion_report
from snnc.learn.convert import convert, spiking
from snnc.learn.finetune import finetune
from snnc.learn.fit import Training
from snnc.learn.machine import Machine
from snnc.learn.objectives import Objective
from snnc.learn.prune import check, choose
from snnc.learn.recipes import Recipe
from snnc.learn.record import Record, StageResult, stage_key
from snnc.learn.snapshots import Snapshots
from snnc.learn.spiking import SpikingNetwork
from snnc.learn.stage import (
    Advance,
    Context,
    Samples,
    State,
    TrainingData,
    accuracy,
    derived,
    samples,
    training_data,
)
from snnc.learn.train import train as train_weights

RunProgress = Callable[[str, Advance], None]  # the stage's name and what it has done


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
    """Where a run happens. Nothing here says what is computed."""

    machine: Machine
    root: Path | None  # folder of the data set; None is its own place
    every: float  # seconds between snapshots
    trust: bool  # may an architecture `module:callable` be imported?
    reuse: tuple[Path, ...]  # runs whose finished stages may be taken over


REPORTED = 256  # validation images that a conversion report looks at

HERE = Where(machine=Machine(), root=None, every=60.0, trust=False, reuse=())


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One entry of the plan. `stream` names its random draws."""

    name: str
    stream: str
    settings: Mapping[str, object]  # everything before it and of it that decides its result
    run: Callable[[State, TrainingData, Context], State]
    spiking: bool


def train(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool,
    progress: RunProgress,
    where: Where = HERE,
) -> RunResult:
    """Run every stage of a recipe that `directory` does not hold yet; return where all is.

    Raises:
        OutputExists: the directory holds a run and `resume` is False.
        InvalidSetting: `resume` with another recipe or other data; the differences are listed.
            Also if the architecture does not fit the data.
        InvalidFile: a file of the run to resume is damaged.
        TrainingFailed: a loss is not finite; the text names stage, batch and layer.
        Refusal: pruning would empty a layer.
        Unsupported: the architecture cannot be converted.
    """
    dataset = data.load(recipe.data.name, root=where.root)
    if recipe.data.samples is not None:
        dataset = dataset.subset(recipe.data.samples)
    first = _first_state(recipe, dataset, trust=where.trust)
    record = Record(directory, where.reuse)
    record.claim(recipe, dataset, resume=resume, leads=where.machine.leads)
    where.machine.wait()
    robust = _run_plan(recipe, _plan(recipe), "", first, dataset, record, where, progress, 1)
    twin: list[tuple[_Stage, StageResult]] = []
    if recipe.twin is not None:
        plan = _plan(with_objective(recipe, recipe.twin.objective))
        begin = len(robust) + 1
        twin = _run_plan(recipe, plan, "twin-", first, dataset, record, where, progress, begin)
    model = directory / "model.pt"
    if where.machine.leads:
        write_bytes(model, read_bytes(robust[-1][1].checkpoint, "a checkpoint"), force=True)
    where.machine.wait()
    return RunResult(
        directory=directory,
        stages=tuple(result for _, result in (*robust, *twin)),
        model=model,
        ann=_last_ann(robust),
        twin=twin[-1][1].checkpoint if twin else None,
        twin_ann=_last_ann(twin),
    )


def with_objective(recipe: Recipe, objective: Objective) -> Recipe:
    """Return the recipe with one objective in every stage that trains."""

    def changed(training: Training | None) -> Training | None:
        return training and training.model_copy(update={"objective": objective})

    prune = recipe.prune
    if prune is not None:
        inner: dict[str, object] = {
            name: changed(getattr(prune, name))
            for name in ("scores", "finetune")
            if name in type(prune).model_fields
        }
        prune = prune.model_copy(update=inner)
    return recipe.model_copy(
        update={
            "train": changed(recipe.train),
            "prune": prune,
            "finetune": changed(recipe.finetune),
            "direct": changed(recipe.direct),
        }
    )


def _last_ann(results: Sequence[tuple[_Stage, StageResult]]) -> Path | None:
    found = [result.checkpoint for stage, result in results if not stage.spiking]
    return found[-1] if found else None


def _plan(recipe: Recipe) -> tuple[_Stage, ...]:
    """Return the stages in their order, which is the order of the method.

    A twin has the same random streams: the same first weights, the same batches.
    """
    learn = recipe.convert.thresholds == "learned"
    plan: list[_Stage] = []
    decided: dict[str, object] = {}

    def add(
        name: str, settings: object, run: Callable[[State, TrainingData, Context], State]
    ) -> None:
        decided[name] = settings
        spikes = "convert" in decided
        plan.append(_Stage(name=name, stream=name, settings=dict(decided), run=run, spiking=spikes))

    if (dense := recipe.train) is not None:
        add("train", dense, lambda s, d, c: train_weights(s, dense, d, c))
    if (prune := recipe.prune) is not None:
        choice = prune.model_copy(update={"finetune": None})
        add("prune", choice, lambda s, d, c: choose(s, prune, d, c, recipe.convert))
        if (recover := prune.finetune) is not None:
            add("recover", recover, lambda s, d, c: train_weights(s, recover, d, c))
    add("convert", recipe.convert, lambda s, d, c: convert(s, recipe.convert, d, c))
    if (tuning := recipe.finetune) is not None:
        add("finetune", tuning, lambda s, d, c: finetune(s, tuning, d, c, learn_thresholds=learn))
    if (direct := recipe.direct) is not None:
        add("direct", direct, lambda s, d, c: finetune(s, direct, d, c, learn_thresholds=learn))
    return tuple(plan)


def _run_plan(
    recipe: Recipe,
    plan: Sequence[_Stage],
    prefix: str,
    untrained: State,
    dataset: Dataset,
    record: Record,
    where: Where,
    progress: RunProgress,
    begin: int,
) -> list[tuple[_Stage, StageResult]]:
    """Run the stages of one plan that have no result yet; they are numbered from `begin`."""
    results: list[tuple[_Stage, StageResult]] = []
    state: State | None = None
    for number, stage in enumerate(plan, start=begin):
        name = prefix + stage.name
        key = stage_key(recipe, dataset, stage.settings)
        done = None if state is not None else record.finished(number, name, key, where.machine)
        if done is None:
            if state is None:
                state = _restore(results[-1][1].checkpoint, where) if results else untrained
            state, done = _run_stage(
                recipe, stage, record.path(number, name), key, state, dataset, where, progress
            )
        results.append((stage, done))
    return results


def _run_stage(
    recipe: Recipe,
    stage: _Stage,
    path: Path,
    key: str,
    state: State,
    dataset: Dataset,
    where: Where,
    progress: RunProgress,
) -> tuple[State, StageResult]:
    """Run one stage and write its checkpoint, then its measurements."""
    name = path.stem.partition("-")[2]
    device = where.machine.device
    started = time.perf_counter()
    state = State(network=state.network.to(device))
    context = Context(
        seed=derived(recipe.seed, stage.stream),
        progress=lambda advance: progress(name, advance) if where.machine.leads else None,
        machine=where.machine,
        snapshots=Snapshots(path=path.with_suffix(".part"), every=where.every),
    )
    visible = training_data(dataset, tuple(recipe.data.augment), device)
    before = state.network
    try:
        state = stage.run(state, visible, context)
    except TrainingFailed as error:
        raise TrainingFailed(f"stage {name}, {error}") from error
    if stage.name == "convert" and not recipe.convert.restart and where.machine.leads:
        _write_conversion_report(before, state.network, visible.validation, path)
    seconds = time.perf_counter() - started
    metrics = {
        **state.metrics,
        # reported, never used to choose anything
        "test_accuracy": accuracy(state.network, samples(dataset.test, device)),
    }
    result = StageResult(name=name, seconds=seconds, metrics=metrics, checkpoint=path)
    if where.machine.leads:
        _save(recipe, name, state.network, metrics, dataset, path)
        Record.finish(result, key)
        for left in path.parent.glob(f"{path.stem}.part*"):
            left.unlink()
    where.machine.wait()
    return state, result


def _write_conversion_report(
    ann: nn.Module, snn: nn.Module, validation: Samples, path: Path
) -> None:
    """Write beside the checkpoint what the conversion did to each layer, for people and tools."""
    if not isinstance(snn, SpikingNetwork):
        return
    chosen = validation.rows(torch.arange(min(REPORTED, len(validation))))
    sweep = tuple(sorted({1, 2, 4, snn.steps, 2 * snn.steps, 4 * snn.steps}))
    report = conversion_report(ann, snn, chosen, steps=sweep)
    content = json.dumps(report.to_json(), indent=1) + "\n"
    write_bytes(path.with_suffix(".report.json"), content.encode(), force=True)
    write_bytes(path.with_suffix(".report.txt"), f"{report.to_text()}\n".encode(), force=True)


def _save(
    recipe: Recipe,
    stage: str,
    network: nn.Module,
    metrics: Mapping[str, float],
    dataset: Dataset,
    path: Path,
) -> None:
    checkpoint = from_module(
        network,
        architecture=recipe.model.architecture,
        arguments=recipe.model.arguments,
        input_shape=dataset.train.pixels.shape[1:],
        class_names=dataset.class_names,
        provenance={
            "snnc": __version__,
            "recipe": recipe.model_dump(mode="json"),
            "data": {"name": dataset.name, "digest": dataset.digest},
            "stage": stage,
            "metrics": dict(metrics),
        },
    )
    save_checkpoint(path, checkpoint, force=True)


def _first_state(recipe: Recipe, dataset: Dataset, *, trust: bool) -> State:
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


@torch.no_grad()
def _misfit(network: nn.Module, shape: tuple[int, ...], classes: int) -> str | None:
    try:
        logits = tuple(network(torch.zeros(1, *shape)).shape[1:])
    except Exception as error:  # noqa: BLE001 - a user's network may break in any way
        return f"images of shape {shape} stop it: {error}"
    return None if logits == (classes,) else f"it returns {logits}, not {classes} logits"


def _restore(path: Path, where: Where) -> State:
    return State(network=to_module(load_checkpoint(path), trust=where.trust))
