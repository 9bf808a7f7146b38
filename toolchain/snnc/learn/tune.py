"""Compile a network and then train its integers, as a recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from snnc import data
from snnc.errors import InvalidSetting
from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.learn.quantization_aware import Deployment, finetune_integers
from snnc.learn.recipes import Recipe
from snnc.learn.stage import Context, Progress, derived, training_data
from snnc.learn.surrogates import Surrogate
from snnc.passes import PREPARE, apply
from snnc.passes.numbers import Bits, Numbers
from snnc.quantization.account import KEY, Account, account
from snnc.quantization.search import search


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedProgram:
    """Integers after training, the account of each layer, and what the training measured."""

    program: Program
    account: Account
    metrics: Mapping[str, float]


def compile_tuned(
    graph: Graph,
    numbers: Numbers,
    recipe: Recipe,
    *,
    images: npt.NDArray[np.floating],
    levels: int,
    bits: Bits | None,
    root: Path | None,
    progress: Progress,
) -> TunedProgram:
    """Search the scales on images (samples, *shape), then train the integers at these scales.

    The recipe gives the data, the `[finetune]` table with its adversary, the surrogate and the
    seed. Integers of the lowest validation loss are kept; a zero weight stays zero. What was
    done stands in the provenance of the program, under "tuned".

    Raises:
        InvalidSetting: the recipe has no `[finetune]`, or its images do not fit the graph.
        InvalidGraph: the graph cannot become a program; lists the reasons.
        InvalidFile: the data set is missing or damaged.
        TrainingFailed: a loss is not finite.
    """
    if recipe.finetune is None:
        raise InvalidSetting(
            f"recipe {recipe.name!r} has no [finetune], so nothing says how to train; "
            "choose one that has"
        )
    dataset = data.load(recipe.data.name, root=root)
    if recipe.data.samples is not None:
        dataset = dataset.subset(recipe.data.samples)
    shape = dataset.train.pixels.shape[1:]
    if shape != images.shape[1:]:
        raise InvalidSetting(
            f"recipe {recipe.name!r} trains on images of shape {shape}, the network reads "
            f"{images.shape[1:]}; choose the recipe of this network"
        )
    found = search(apply(PREPARE, graph), numbers, images, levels=levels, bits=bits)
    tuned = finetune_integers(
        found.graph,
        Deployment(
            numbers=numbers,
            levels=levels,
            bits=bits,
            scales=found.scales,
            exponents=found.exponents,
        ),
        recipe.finetune,
        training_data(dataset, tuple(recipe.data.augment)),
        Context(seed=derived(recipe.seed, "tune"), progress=progress),
        surrogate=Surrogate(recipe.convert.surrogate, recipe.convert.width),
    )
    told = account(tuned.graph, numbers, tuned.program, bits=bits)
    tuning = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": dataset.digest,
        "finetune": recipe.finetune.model_dump(mode="json"),
        "metrics": dict(tuned.metrics),
    }
    provenance = {**tuned.program.provenance, KEY: told.to_json(), "tuned": tuning}
    return TunedProgram(
        program=replace(tuned.program, provenance=provenance), account=told, metrics=tuned.metrics
    )
