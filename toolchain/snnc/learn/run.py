"""A training run: the stages of a recipe in order, in a directory, resumable after any stage.

    directory/run.json                     the recipe and the digest of the data
    directory/checkpoints/01-train.pt      the network after each stage, and beside it
    directory/checkpoints/01-train.json    what the stage measured; written last
    directory/model.pt                     the finished spiking network

A stage is finished when its JSON file exists. Everything random in a stage comes from the
recipe's seed and the stage's name, so a run that was interrupted and resumed ends with the
weights of one that was not. (Bit for bit on the same machine and number of threads:
floating-point sums depend on both.)
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnc import __version__, data
from snnc.data import Dataset
from snnc.errors import InvalidFile, InvalidSetting, OutputExists, TrainingFailed
from snnc.frontend.architecture import build
from snnc.frontend.checkpoint import from_module, load_checkpoint, save_checkpoint, to_module
from snnc.ir.files import read_bytes, write_bytes
from snnc.learn.convert import convert, spiking
from snnc.learn.finetune import finetune
from snnc.learn.objectives import Objective
from snnc.learn.prune.magnitude import prune
from snnc.learn.prune.stage import prune_and_finetune
from snnc.learn.recipes import Recipe, differences
from snnc.learn.stage import (
    Advance,
    Progress,
    State,
    TrainingData,
    accuracy,
    samples,
    training_data,
)
from snnc.learn.train import train as train_dense

RunProgress = Callable[[str, Advance], None]  # the stage's name and what it has done


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One finished stage."""

    name: str
    seconds: float
    metrics: Mapping[str, float]
    checkpoint: Path


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run. The twin's paths are None if the recipe has no twin."""

    directory: Path
    stages: tuple[StageResult, ...]
    model: Path  # the spiking network
    ann: Path  # the pruned ReLU network that it was converted from
    twin: Path | None  # the spiking network of the twin
    twin_ann: Path | None


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One entry of the plan. `seed_name` names its random stream."""

    name: str
    seed_name: str
    run: Callable[[State, TrainingData, torch.Generator, Progress], State]


def train(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool,
    progress: RunProgress,
) -> RunResult:
    """Run every stage of a recipe that `directory` does not hold yet; return where all is.

    Raises:
        OutputExists: the directory holds a run and `resume` is False.
        InvalidSetting: `resume` with another recipe or other data; the differences are listed.
            Also if the architecture does not fit the data.
        InvalidFile: a file of the run to resume is damaged.
        TrainingFailed: a loss is not finite; the text names stage, batch and layer.
        Unsupported: the architecture cannot be converted.
    """
    dataset = data.load(recipe.data)
    first = _first_state(recipe, dataset)
    _claim(recipe, dataset, directory, resume=resume)
    plans = [_plan(recipe, "")]
    if recipe.twin is not None:
        plans.append(_plan(with_objective(recipe, recipe.twin.objective), "twin-"))
    results: list[StageResult] = []
    for plan in plans:
        results += _run_plan(recipe, plan, first, dataset, directory, len(results) + 1, progress)
    files = {result.name: result.checkpoint for result in results}
    model = directory / "model.pt"
    write_bytes(model, read_bytes(files["finetune"], "a checkpoint"), force=True)
    return RunResult(
        directory=directory,
        stages=tuple(results),
        model=model,
        ann=files["prune"],
        twin=files.get("twin-finetune"),
        twin_ann=files.get("twin-prune"),
    )


def with_objective(recipe: Recipe, objective: Objective) -> Recipe:
    """Return the recipe with one objective in every stage that trains."""
    changed = {"objective": objective}
    pruned = recipe.prune.finetune.model_copy(update=changed)
    return recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update=changed),
            "prune": recipe.prune.model_copy(update={"finetune": pruned}),
            "finetune": recipe.finetune.model_copy(update=changed),
        }
    )


def stage_seed(seed: int, stage: str) -> int:
    """Return the seed of a stage's random stream, from the recipe's seed and the name."""
    digest = hashlib.sha256(f"{seed}:{stage}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes 63 bits


def _plan(recipe: Recipe, prefix: str) -> tuple[_Stage, ...]:
    """Return the stages in their order, which is the order of the method.

    A twin has the same random streams: the same first weights, the same batches.
    """
    runs: dict[str, Callable[[State, TrainingData, torch.Generator, Progress], State]] = {
        "train": lambda s, d, g, p: train_dense(s, recipe.train, d, g, p),
        "prune": lambda s, d, g, p: prune_and_finetune(s, recipe.prune, d, g, p),
        "convert": lambda s, d, g, p: convert(s, recipe.convert, d, g, p),
        "finetune": lambda s, d, g, p: finetune(s, recipe.finetune, d, g, p),
    }
    return tuple(_Stage(name=prefix + name, seed_name=name, run=run) for name, run in runs.items())


def _run_plan(
    recipe: Recipe,
    plan: Sequence[_Stage],
    untrained: State,
    dataset: Dataset,
    directory: Path,
    first: int,
    progress: RunProgress,
) -> list[StageResult]:
    """Run the stages of one plan that have no result yet; they are numbered from `first`."""
    results: list[StageResult] = []
    state: State | None = None
    for number, stage in enumerate(plan, start=first):
        path = directory / "checkpoints" / f"{number:02}-{stage.name}.pt"
        if state is None and path.with_suffix(".json").exists():
            results.append(_read_result(path, stage.name))
            continue
        if state is None:
            previous = results[-1].checkpoint if results else None
            state = untrained if previous is None else _restore(previous)
        state, result = _run_stage(recipe, stage, state, dataset, path, progress)
        results.append(result)
    return results


def _run_stage(
    recipe: Recipe,
    stage: _Stage,
    state: State,
    dataset: Dataset,
    path: Path,
    progress: RunProgress,
) -> tuple[State, StageResult]:
    """Run one stage and write its checkpoint, then its measurements."""
    started = time.perf_counter()
    seed = stage_seed(recipe.seed, stage.seed_name)
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global stream
        torch.manual_seed(seed)
        try:
            state = stage.run(
                state,
                training_data(dataset),
                torch.Generator().manual_seed(seed),
                lambda advance: progress(stage.name, advance),
            )
        except TrainingFailed as error:
            raise TrainingFailed(f"stage {stage.name}, {error}") from error
    seconds = time.perf_counter() - started
    metrics = {
        **state.metrics,
        "test_accuracy": accuracy(state.network, samples(dataset.test)),  # reported, never used
    }
    checkpoint = from_module(
        state.network,
        architecture=recipe.model.architecture,
        arguments=recipe.model.arguments,
        input_shape=dataset.train.images.shape[1:],
        class_names=dataset.class_names,
        provenance={
            "snnc": __version__,
            "recipe": recipe.model_dump(mode="json"),
            "data": {"name": dataset.name, "digest": dataset.digest},
            "stage": stage.name,
            "metrics": metrics,
        },
    )
    save_checkpoint(path, checkpoint, force=True)
    result = StageResult(name=stage.name, seconds=seconds, metrics=metrics, checkpoint=path)
    _write_json(path.with_suffix(".json"), {"seconds": seconds, "metrics": metrics})
    return state, result


def _first_state(recipe: Recipe, dataset: Dataset) -> State:
    """Return the untrained network, once it is sure that no stage will refuse it.

    Raises:
        InvalidSetting: it does not fit the data.
        Refusal: pruning would empty a layer.
        Unsupported: it cannot be converted.
    """
    if ":" in recipe.model.architecture:
        raise InvalidSetting(
            f"model.architecture is {recipe.model.architecture!r}; a recipe takes an installed "
            "architecture (entry point group snnc.architectures), and docs/guide.md trains a "
            "network of your own from Python"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage_seed(recipe.seed, "weights"))
        network = build(recipe.model.architecture, recipe.model.arguments, trust=False)
    images = torch.from_numpy(dataset.train.images[:1])
    problem = _misfit(network.eval(), images, len(dataset.class_names))
    if problem:
        raise InvalidSetting(
            f"model.architecture {recipe.model.architecture!r} does not fit data "
            f"{dataset.name!r}: {problem}; change model.arguments"
        )
    prune(network, sparsity=recipe.prune.sparsity)
    spiking(network, recipe.convert, tuple(dataset.train.images.shape[1:]))
    return State(network=network)


@torch.no_grad()
def _misfit(network: nn.Module, images: torch.Tensor, classes: int) -> str | None:
    shape = tuple(images.shape[1:])
    try:
        logits = tuple(network(images).shape[1:])
    except Exception as error:  # noqa: BLE001 - a user's network may break in any way
        return f"images of shape {shape} stop it: {error}"
    return None if logits == (classes,) else f"it returns {logits}, not {classes} logits"


def _restore(path: Path) -> State:
    return State(network=to_module(load_checkpoint(path)))


def _claim(recipe: Recipe, dataset: Dataset, directory: Path, *, resume: bool) -> None:
    """Write the recipe into the directory, or check that it holds the same one."""
    path = directory / "run.json"
    new = {
        "recipe": recipe.model_dump(mode="json"),
        "data": {"name": dataset.name, "digest": dataset.digest},
    }
    if not path.exists():
        if (directory / "checkpoints").exists() or (directory / "model.pt").exists():
            raise OutputExists(
                f"{directory} holds checkpoints but no run.json, so nobody knows of which recipe; "
                "choose another path"
            )
        _write_json(path, new)
        return
    if not resume:
        raise OutputExists(
            f"{directory} holds a training run; go on with --resume, or choose another path"
        )
    if changed := differences(_read_json(path), new):
        listed = "".join(f"\n  {line}" for line in changed)
        raise InvalidSetting(
            f"cannot resume {directory} with another recipe; undo these changes or choose "
            f"another path:{listed}"
        )


def _read_result(path: Path, name: str) -> StageResult:
    content = _read_json(path.with_suffix(".json"))
    try:
        return StageResult(
            name=name,
            seconds=float(content["seconds"]),
            metrics={str(key): float(value) for key, value in content["metrics"].items()},
            checkpoint=path,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path.with_suffix(".json")) from error


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode(), force=True)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_bytes(path, "a file of a training run"))
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> InvalidFile:
    if path.name == "run.json":
        return InvalidFile(f"{path} is damaged; the run cannot go on, choose another path")
    return InvalidFile(f"{path} is damaged; delete it to repeat what it records")
