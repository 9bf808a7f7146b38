"""Picture: accuracy against the size of the attack, and what may be concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from snnc.report.chain import interval
from snnc.report.markup import NOTHING, Child, Markup, join, tag
from snnc.report.metrics import Metrics, Proportion, Robustness
from snnc.report.page import Section, absent, facts, folded, paragraph, table
from snnc.report.series import DEPLOYED, SERIES, TWIN, Series
from snnc.report.svg import (
    WIDE,
    Scale,
    band,
    curve,
    drawing,
    for_both_widths,
    horizontal_grid,
    line,
    marker,
    spread,
    text,
    ticks,
)
from snnc.report.wording import count, number, percent, sentence

FALLEN = 0.4  # the twin counts as fallen below this accuracy
RISE = 0.005  # accuracy that rises by more with a larger attack is a sign of masking (C7a)


@dataclass(frozen=True)
class Conclusion:
    """One of the three things that an attack report may say."""

    verdict: str
    reason: str


def robustness(metrics: Metrics, classes: int | None) -> Section:
    """Draw one curve with its band for each network that was attacked."""
    found = metrics.robustness
    return Section(
        anchor="robustness",
        title="Accuracy against the size of the attack",
        caption=(
            "Share of test images still classified correctly when an attacker may change every "
            "pixel by at most ε (pixels run from 0 to 1). Higher is better; what counts is how "
            "slowly a curve falls. Bands are 95 % Wilson intervals: they cover the choice of "
            "images, not a stronger attack and not another training seed."
        ),
        body=absent("no attack is in metrics.json; run `snnc attack` on the build")
        if found is None
        else _pictures(found, classes),
    )


def attack_words(attack: Mapping[str, object]) -> str:
    """Name an attack in a few characters.

    >>> attack_words({"name": "pgd", "steps": 20})
    'PGD-20'
    """
    steps = attack.get("steps")
    name = str(attack["name"]).upper()
    return f"{name}-{number(steps)}" if isinstance(steps, int | float) else name


def conclude(found: Robustness) -> Conclusion:
    """Say what the curves allow: a rising curve is suspicious, the rest is not verified here.

    "No sign of masking found" needs checks and canaries that the run's metrics do not hold.
    """
    rises = [
        f"{series.name} rises between ε = {number(found.epsilons[i])} "
        f"and ε = {number(found.epsilons[i + 1])}"
        for series in SERIES
        for i, (one, other) in enumerate(pairwise(found.curves.get(series.key, ())))
        if other.value > one.value + RISE
    ]
    if rises:
        return Conclusion("masking suspected", "; ".join(rises))
    return Conclusion(
        "attack unverified",
        "the curves are upper bounds, because the checks for gradient masking and the "
        "problems with known answers were not run with this attack",
    )


def headline(found: Robustness) -> int | None:
    """Return the index of the epsilon to quote, by a rule that does not look at the SNN.

    The smallest positive epsilon at which the twin is below 40 %; without a twin, or if it
    never falls, none.
    """
    return next(
        (
            index
            for index, point in enumerate(found.curves.get(TWIN.key, ()))
            if found.epsilons[index] > 0 and point.value < FALLEN
        ),
        None,
    )


def comparison(found: Robustness) -> str | None:
    """Compare the deployed integers with the twin at the quoted epsilon, in one sentence."""
    index, ours = headline(found), found.curves.get(DEPLOYED.key)
    if index is None or ours is None:
        return None
    here, there = ours[index], found.curves[TWIN.key][index]
    apart = here.low > there.high or there.low > here.high
    return (
        f"At ε = {number(found.epsilons[index])} ({attack_words(found.attack)}), the smallest "
        f"tried where the normally trained twin falls below {percent(FALLEN, 0)}, the deployed "
        f"integers keep {percent(here.value)} {interval(here)} and the twin "
        f"{percent(there.value)} {interval(there)}: "
        + (
            f"{100 * (here.value - there.value):+.1f} points, intervals apart."
            if apart
            else "the intervals overlap, so no difference is shown."
        )
    )


def _pictures(found: Robustness, classes: int | None) -> Markup:
    shown = [series for series in SERIES if series.key in found.curves]
    missing = [series for series in SERIES if series.key not in found.curves]
    verdict = conclude(found)
    return join(
        [
            for_both_widths(lambda width: _chart(found, shown, classes, width)),
            *(absent(f"no curve for the {series.name}") for series in missing),
            paragraph(tag("strong", f"Conclusion: {verdict.verdict}. "), sentence(verdict.reason)),
            folded("The attack", facts(_settings(found))),
            folded("The numbers", _numbers(found, shown)),
        ]
    )


def _chart(found: Robustness, shown: Sequence[Series], classes: int | None, width: float) -> Markup:
    wide = width == WIDE
    height, right = (430.0, width - 250) if wide else (340.0, width - 112)
    last = found.epsilons[-1] or 1.0
    x, y = Scale(0, last, 52, right), Scale(0, 1, height - 52, 18)
    marks = ticks(last, 6 if wide else 4)
    labels = spread([y(found.curves[s.key][-1].value) + 4 for s in shown], 19, 20, y(0) + 4)
    return drawing(
        width,
        height,
        horizontal_grid(ticks(1, 5), y, 52, right, lambda share: percent(share, 0)),
        *(text(x(v), y(0) + 22, number(v), class_="tick", anchor="middle") for v in marks),
        text((52 + right) / 2, height - 6, "ε, largest change of a pixel", anchor="middle"),
        _chance(classes, y, right, wide=wide) if classes else NOTHING,
        *(_series(found, series, x, y) for series in shown),
        *(
            text(right + 14, at, _label(found, series, wide), class_=f"name {series.key}")
            for series, at in zip(shown, labels, strict=True)
        ),
        label="Accuracy against epsilon: "
        + "; ".join(
            f"{s.name} from {percent(found.curves[s.key][0].value)} "
            f"to {percent(found.curves[s.key][-1].value)}"
            for s in shown
        ),
    )


def _label(found: Robustness, series: Series, wide: bool) -> str:
    last = found.curves[series.key][-1].value
    return f"{series.name} {percent(last)}" if wide else f"{series.short} {percent(last, 0)}"


def _chance(classes: int, y: Scale, right: float, *, wide: bool) -> Markup:
    level = y(1 / classes)
    return join(
        [
            line((52, level), (right, level), "chance"),
            text(58, level - 6, f"chance, 1 of {classes}" if wide else "chance", class_="tick"),
        ]
    )


def _series(found: Robustness, series: Series, x: Scale, y: Scale) -> Markup:
    points = list(zip(found.epsilons, found.curves[series.key], strict=True))
    return tag(
        "g",
        band(
            [(x(epsilon), y(point.low)) for epsilon, point in points],
            [(x(epsilon), y(point.high)) for epsilon, point in points],
            "band",
        ),
        curve([(x(epsilon), y(point.value)) for epsilon, point in points], "line"),
        *(
            marker(series.mark, x(epsilon), y(p.value), "mark", _tip(series, epsilon, p))
            for epsilon, p in points
        ),
        class_=series.key,
    )


def _tip(series: Series, epsilon: float, point: Proportion) -> str:
    return (
        f"{series.name}, ε = {number(epsilon)}: {percent(point.value)} {interval(point)}, "
        f"{count(point.correct)} of {count(point.samples)} images"
    )


def _numbers(found: Robustness, shown: Sequence[Series]) -> Markup:
    head = ["ε", *(series.name for series in reversed(shown))]
    return table(
        head,
        (
            [number(epsilon), *(_cell(found.curves[s.key][i]) for s in reversed(shown))]
            for i, epsilon in enumerate(found.epsilons)
        ),
    )


def _cell(point: Proportion) -> Child:
    counted = f"{interval(point)} {count(point.correct)}/{count(point.samples)}"
    return join([percent(point.value), " ", tag("small", counted)])


def _settings(found: Robustness) -> list[tuple[str, Child]]:
    rows = [(name, _plain(value)) for name, value in found.attack.items()]
    return [*rows, *((f"transfer: {name}", _plain(v)) for name, v in found.transfer.items())]


def _plain(value: object) -> str:
    """Write a JSON value of any form for a reader."""
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number(value)
        case {"correct": correct, "samples": samples, "value": float(share)}:
            return f"{percent(share)} ({correct} of {samples})"
        case dict():
            return "; ".join(f"{name}: {_plain(inner)}" for name, inner in value.items())
        case list():
            return ", ".join(map(_plain, value))
        case _:
            return str(value)
