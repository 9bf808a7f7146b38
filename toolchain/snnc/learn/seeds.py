"""One recipe, several seeds: what is luck, and what is the method."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from snnc.errors import InvalidSetting
from snnc.learn.recipes import Recipe
from snnc.learn.run import HERE, RunProgress, RunResult, Where, train


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One measurement over several seeds."""

    stage: str
    metric: str
    mean: float
    deviation: float  # sample standard deviation (n - 1)
    values: tuple[float, ...]  # in the order of the seeds


def train_seeds(
    recipe: Recipe,
    directory: Path,
    seeds: Sequence[int],
    *,
    resume: bool,
    progress: Callable[[int], RunProgress],
    where: Where = HERE,
) -> tuple[RunResult, ...]:
    """Run the recipe once for each seed, in `directory/seed-0` and so on.

    With `resume`, runs that are finished or half done are gone on with. `progress` gives
    each seed its own. Raises as `snnc.learn.run.train`, and:

        InvalidSetting: no seeds, one twice, or one that no recipe may have.
    """
    if len(set(seeds)) != len(seeds) or not seeds or not all(0 <= s < 2**63 for s in seeds):
        raise InvalidSetting(
            f"seeds are {list(seeds)}; give different whole numbers from 0 on, such as 0,1,2"
        )
    results = []
    for seed in seeds:
        run = directory / f"seed-{seed}"
        results.append(
            train(
                recipe.model_copy(update={"seed": seed}),
                run,
                resume=resume and (run / "run.json").exists(),
                progress=progress(seed),
                where=where,
            )
        )
    return tuple(results)


def spread(results: Sequence[RunResult]) -> tuple[Spread, ...]:
    """Return mean and deviation of every metric of every stage; one seed deviates by 0."""
    found = []
    for stages in zip(*(result.stages for result in results), strict=True):
        for metric in stages[0].metrics:
            values = tuple(stage.metrics[metric] for stage in stages)
            found.append(
                Spread(
                    stage=stages[0].name,
                    metric=metric,
                    mean=statistics.fmean(values),
                    deviation=statistics.stdev(values) if len(values) > 1 else 0.0,
                    values=values,
                )
            )
    return tuple(found)
