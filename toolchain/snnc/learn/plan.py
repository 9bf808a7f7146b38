"""Which stages a recipe has, in the order of the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snnc.errors import unreachable
from snnc.learn.convert import convert
from snnc.learn.finetune import finetune
from snnc.learn.fit import Training
from snnc.learn.objectives import Objective
from snnc.learn.prune import Harp, Hydra, Magnitude, Random, choose
from snnc.learn.prune.choose import Pruner
from snnc.learn.recipes import Recipe
from snnc.learn.stage import Context, State, TrainingData
from snnc.learn.train import train

Run = Callable[[State, TrainingData, Context], State]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One entry of a plan. Its name is also that of its random stream."""

    name: str
    decided_by: Mapping[str, object]  # settings of this stage and of those before it
    spiking: bool  # is the result a spiking network?
    run: Run


def plan(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of a recipe.

    A twin has the same random streams: the same first weights, the same batches.
    """
    learn = recipe.convert.thresholds == "learned"
    stages: list[tuple[str, object, Run]] = []
    if (dense := recipe.train) is not None:
        stages.append(("train", dense, lambda s, d, c: train(s, dense, d, c)))
    if (prune := recipe.prune) is not None:
        chosen = _chosen_by(prune, recipe)
        stages.append(("prune", chosen, lambda s, d, c: choose(s, prune, d, c, recipe.convert)))
        if (recover := prune.finetune) is not None:
            stages.append(("recover", recover, lambda s, d, c: train(s, recover, d, c)))
    stages.append(("convert", recipe.convert, lambda s, d, c: convert(s, recipe.convert, d, c)))
    if (tuning := recipe.finetune) is not None:
        stages.append(("finetune", tuning, _tune(tuning, learn)))
    if (direct := recipe.direct) is not None:
        stages.append(("direct", direct, _tune(direct, learn)))
    names = [name for name, _, _ in stages]
    return tuple(
        Stage(
            name=name,
            decided_by={before: settings for before, settings, _ in stages[: number + 1]},
            spiking=number >= names.index("convert"),
            run=run,
        )
        for number, (name, _, run) in enumerate(stages)
    )


def with_objective(recipe: Recipe, objective: Objective) -> Recipe:
    """Return the recipe with one objective in every stage that trains."""
    changes: dict[str, object] = {
        name: _with(training, objective)
        for name, training in (
            ("train", recipe.train),
            ("finetune", recipe.finetune),
            ("direct", recipe.direct),
        )
    }
    if recipe.prune is not None:
        changes["prune"] = _pruner_with(recipe.prune, objective)
    return recipe.model_copy(update=changes)


def _tune(settings: Training, learn: bool) -> Run:
    return lambda s, d, c: finetune(s, settings, d, c, learn_thresholds=learn)


def _chosen_by(prune: Pruner, recipe: Recipe) -> list[object]:
    """Return what decides the mask: a budget of events also looks at the conversion."""
    choice = prune.model_copy(update={"finetune": None})
    measures = isinstance(prune, Harp) and prune.budget == "events"
    return [choice, recipe.convert] if measures else [choice]


def _with(training: Training | None, objective: Objective) -> Training | None:
    return training and training.model_copy(update={"objective": objective})


def _pruner_with(prune: Pruner, objective: Objective) -> Pruner:
    changes = {"finetune": _with(prune.finetune, objective)}
    match prune:
        case Magnitude() | Random():
            return prune.model_copy(update=changes)
        case Hydra() | Harp():
            return prune.model_copy(update={**changes, "scores": _with(prune.scores, objective)})
        case _:
            unreachable(prune)
