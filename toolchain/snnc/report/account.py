"""What was run, what the words mean, and how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable

from snnc.report.chain import interval
from snnc.report.markup import Child, Markup, join, tag
from snnc.report.metrics import Metrics, Stage
from snnc.report.page import Section, absent, facts, folded, heading, paragraph, table
from snnc.report.series import SERIES
from snnc.report.wording import count, duration, number, percent, plural, sentence

DEFINITIONS: tuple[tuple[str, str], ...] = (
    *((series.name, series.meaning) for series in reversed(SERIES)),
    ("ε", "the largest change an attacker may make to any pixel, on the scale from 0 to 1"),
    (
        "interval",
        "95 % Wilson score interval of a share (Wilson, 1927): the share in all images of this "
        "kind lies inside it for 95 of 100 such samples",
    ),
    ("sparsity", "the share of weights that are exactly zero, biases not counted"),
    ("spikes per neuron", "spikes of one neuron for one image, over all time steps"),
    (
        "events",
        "non-zero weights that a spike met: one addition each; for synapses that read the image, "
        "non-zero weights that met a non-zero pixel, at every step: one multiplication each",
    ),
    (
        "agreement",
        "the share of spikes (of every neuron at every step) and of predictions in which a "
        "target equals the reference integers; anything below 100 % is a fault",
    ),
)


def account(metrics: Metrics) -> Section:
    """State what was run, so that a reader can judge and repeat it."""
    run = metrics.run
    return Section(
        anchor="run",
        title="What was run",
        caption=tag("strong", sentence(run.hardware)),
        body=join(
            [
                facts(_facts(metrics)),
                heading("Stages"),
                _stages(metrics.stages) if metrics.stages else absent("no stage was recorded"),
                heading("How to repeat it"),
                tag("pre", tag("code", run.command)),
                paragraph(
                    f"With snnc {run.snnc}, Python {run.python} and PyTorch {run.torch}. The seed "
                    "fixes every random number; another machine or another version of PyTorch "
                    "may still round differently and move a figure by a few images.",
                ),
                folded("What the words mean", facts(DEFINITIONS)),
            ]
        ),
    )


def accuracies(metrics: Metrics) -> Iterable[tuple[str, Child]]:
    """Say how the normally trained twin did before it was attacked."""
    names = (("twin_ann", "twin before conversion"), ("twin", "twin, deployed"))
    for key, name in names:
        if key not in metrics.accuracy:
            yield (name, "not run")
            continue
        found = metrics.accuracy[key]
        share = f"{percent(found.value)} {interval(found)}"
        yield (name, f"{share} of {count(found.samples)} clean images right")


def _facts(metrics: Metrics) -> list[tuple[str, Child]]:
    run = metrics.run
    return [
        ("recipe", run.recipe),
        ("seed", str(run.seed)),
        ("data", f"{run.data.name}, {plural(run.data.test, 'test image')}"),
        ("data digest", tag("code", run.data.digest)),
        ("commit", "unknown" if run.commit is None else tag("code", run.commit)),
        ("snnc", run.snnc),
        ("machine", run.machine),
        ("Python, PyTorch", f"{run.python}, {run.torch}"),
        ("started", run.started),
        ("took", duration(run.seconds)),
        *accuracies(metrics),
    ]


def _stages(stages: tuple[Stage, ...]) -> Markup:
    return table(
        ["stage", "time", "what it measured"],
        (
            [
                stage.name,
                duration(stage.seconds),
                ", ".join(f"{name} {number(value)}" for name, value in stage.metrics.items()),
            ]
            for stage in stages
        ),
        class_="words",
    )
