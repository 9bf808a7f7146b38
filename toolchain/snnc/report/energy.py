"""Picture: what one inference costs, layer by layer, under each profile.

Estimates of different scope count different things, so they stand in panels of their own
and are never put in an order. A sum that lacks a term is called a partial sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snnc.energy.prices import Unit
from snnc.energy.quantity import Part, Scope
from snnc.errors import unreachable
from snnc.report.estimates import Amount, Constant, Estimated, Item
from snnc.report.markup import NOTHING, Child, Markup, join, tag
from snnc.report.metrics import Metrics
from snnc.report.page import Section, absent, folded, heading, paragraph, table
from snnc.report.series import ANN, DEPLOYED
from snnc.report.svg import WIDE, Scale, box, drawing, for_both_widths, line, text
from snnc.report.wording import count, number, plural, with_prefix

SHADE = {part: f"shade{index}" for index, part in enumerate(Part)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bar: its parts in order, and what is written beside it."""

    name: str
    key: str  # its colour
    parts: tuple[tuple[Part, float], ...]
    amount: Amount
    said: str


def energy(metrics: Metrics) -> Section:
    """Draw the cost of one inference for each profile, grouped by what the profiles cover."""
    panels = {(each.scope, each.unit): None for each in metrics.energy}
    return Section(
        anchor="energy",
        title="What one inference costs",
        caption=(
            "Estimates, not measurements: operations counted in the simulated run, times "
            "published prices. Shorter bars are cheaper. Profiles that cover different parts of "
            "a system are kept in separate groups; numbers of two groups must not be compared, "
            "and each drawing has its own scale."
        ),
        body=absent("no estimate is in metrics.json; run `snnc energy` on the build")
        if not metrics.energy
        else join(
            [
                _activity(metrics.energy[0]),
                *(
                    _panel(
                        scope,
                        unit,
                        [e for e in metrics.energy if e.scope is scope and e.unit is unit],
                        [layer.name for layer in metrics.model.layers],
                    )
                    for scope, unit in panels
                ),
            ]
        ),
    )


def amount_in_words(value: float, unit: Unit) -> str:
    """Write an energy, or a number of operations."""
    match unit:
        case Unit.JOULE:
            return with_prefix(value, "J")
        case Unit.OPERATION:
            return plural(round(value), "operation")
        case _:
            unreachable(unit)


def _scope_in_words(scope: Scope, unit: Unit) -> tuple[str, str]:
    match scope:
        case Scope.ARITHMETIC_ONLY if unit is Unit.OPERATION:
            return (
                "Operations, weighted",
                "Operations instead of joules, where nobody published joules per operation.",
            )
        case Scope.ARITHMETIC_ONLY:
            return (
                "Arithmetic only",
                "Additions and multiplications and nothing else: no memory, no neuron state, no "
                "communication, no leakage.",
            )
        case Scope.PER_TERM:
            return (
                "Event by event",
                "Every kind of event on a chip at its own price: synapses, neurons, spikes on "
                "their way, the end of a step.",
            )
        case Scope.ALL_IN:
            return (
                "All in",
                "One price for each synaptic event that already contains neurons, routing and "
                "leakage.",
            )
        case _:
            unreachable(scope)


def _activity(found: Estimated) -> Markup:
    claims = (
        tag(
            "li",
            f"{number(claim.value)}: {claim.meaning} ({claim.source})",
            "" if claim.verified else "; not verified in the source",
        )
        for claim in found.claims
    )
    return join(
        [
            paragraph(
                tag("strong", f"{number(found.spikes_per_neuron, 3)} spikes per neuron"),
                f" and inference, {number(found.rate, 3)} per neuron and step, counted on "
                f"{plural(found.samples, 'image')} at {plural(found.steps, 'step')}. An ordinary "
                f"network that tells as many levels apart needs {found.qnn_bits}-bit activations.",
            ),
            folded("What the literature says about such activity", tag("ul", *claims)),
        ]
    )


def _panel(scope: Scope, unit: Unit, found: Sequence[Estimated], order: Sequence[str]) -> Markup:
    title, meaning = _scope_in_words(scope, unit)
    used = [part for part in Part if any(i.part is part for e in found for i in e.items)]
    chips = (tag("span", part.value, class_=f"chip cost {SHADE[part]}") for part in used)
    return join(
        [
            heading(title),
            paragraph(meaning, class_="caption"),
            paragraph(*_spaced(chips), class_="deployed"),
            *(_profile(each, order) for each in found),
        ]
    )


def _spaced(children: Iterable[Child]) -> list[Child]:
    return [piece for child in children for piece in (child, " ")]


def _profile(found: Estimated, order: Sequence[str]) -> Markup:
    whole, layers = _whole(found), _layers(found, order)
    return join(
        [
            tag(
                "figure",
                tag("figcaption", tag("strong", found.title), f" {found.profile}"),
                _result(found),
                for_both_widths(lambda width: _bars("the whole inference", whole, width))
                if len(whole) > 1
                else NOTHING,
                *(
                    absent(f"ANN {each.name}, {each.arithmetic}: {each.absent}")
                    for each in found.ordinary
                    if each.amount is None
                ),
                *_ties(found),
                for_both_widths(lambda width: _bars("layer by layer", layers, width)),
            ),
            _background(found),
        ]
    )


def _ties(found: Estimated) -> list[Markup]:
    """Say at which activity this network would cost what the ordinary one costs."""
    return [
        paragraph(
            f"It would cost as much as the ANN ({each.name}, {each.arithmetic}) at "
            f"{number(each.tie, 3)} spikes per neuron"
            + (f", more than {plural(found.steps, 'step')} allow" if each.tie > found.steps else "")
            + f"; it has {number(found.spikes_per_neuron, 3)}."
        )
        for each in found.ordinary
        if each.tie is not None
    ]


def _result(found: Estimated) -> Markup:
    words = _with_band(found.amount, found.unit)
    grade = "" if found.evidence is None else f" Weakest evidence for a constant: {found.evidence}."
    if found.sampling is not None:
        low, high = (amount_in_words(max(end, 0.0), found.unit) for end in found.sampling)
        grade += f" The 95 % interval of its mean over images is [{low}, {high}]."
    if found.complete:
        return paragraph(tag("strong", words), f" for one inference.{grade}")
    reasons = dict.fromkeys(
        f"{m.quantity.replace('_', ' ')} ({m.part}): {m.reason}" for m in found.missing
    )
    return join(
        [
            paragraph(
                tag("strong", f"Partial sum: {words}"),
                f", a lower bound and not a total.{grade} What is not in it:",
            ),
            tag("ul", *(tag("li", reason) for reason in reasons), class_="sources"),
        ]
    )


def _with_band(amount: Amount, unit: Unit) -> str:
    nominal = amount_in_words(amount.nominal, unit)
    if amount.low == amount.high:
        return nominal
    return f"{nominal} [{amount_in_words(amount.low, unit)}, {amount_in_words(amount.high, unit)}]"


def _whole(found: Estimated) -> list[Row]:
    """The network beside the ordinary ones at the same prices."""
    ours = Row(
        name="SNN, this network" if found.complete else "SNN, partial sum",
        key=DEPLOYED.key,
        parts=_by_part(found.items),
        amount=found.amount,
        said=amount_in_words(found.amount.nominal, found.unit),
    )
    others = (
        Row(
            name=f"ANN, {each.name}, {each.arithmetic}",
            key=ANN.key,
            parts=((Part.SYNAPTIC, each.amount.nominal),),
            amount=each.amount,
            said=amount_in_words(each.amount.nominal, found.unit),
        )
        for each in found.ordinary
        if each.amount is not None
    )
    return [ours, *others]


def _layers(found: Estimated, order: Sequence[str]) -> list[Row]:
    """Sum the items of each place, layers in the order of the network, then the chip."""
    places = dict.fromkeys(item.where for item in found.items)
    places = {place: None for place in (*(n for n in order if n in places), *places)}
    rows = []
    for place in places:
        items = [item for item in found.items if item.where == place]
        total = Amount(
            nominal=sum(item.amount.nominal for item in items),
            low=sum(item.amount.low for item in items),
            high=sum(item.amount.high for item in items),
        )
        rows.append(
            Row(
                name=place,
                key=DEPLOYED.key,
                parts=_by_part(items),
                amount=total,
                said=amount_in_words(total.nominal, found.unit),
            )
        )
    return rows


def _by_part(items: Iterable[Item]) -> tuple[tuple[Part, float], ...]:
    sums = dict.fromkeys(Part, 0.0)
    for item in items:
        sums[item.part] += item.amount.nominal
    return tuple((part, value) for part, value in sums.items() if value)


def _bars(title: str, rows: Sequence[Row], width: float) -> Markup:
    wide = width == WIDE
    row = 34.0 if wide else 54.0
    left, right = (230.0, width - 130) if wide else (0.0, width)
    x = Scale(0, max((r.amount.high for r in rows), default=0.0) or 1.0, left, right)
    return drawing(
        width,
        row * len(rows) + 26,
        text(left, 14, title, class_="tick"),
        *(_bar(each, 24 + row * index, x, width, wide=wide) for index, each in enumerate(rows)),
        label=f"{title}: " + ", ".join(f"{r.name} {r.said}" for r in rows),
    )


def _bar(row: Row, top: float, x: Scale, width: float, *, wide: bool) -> Markup:
    bar = top + (4 if wide else 24)
    edge = 0.0
    pieces: list[Child] = []
    for part, value in row.parts:
        tip = f"{row.name}, {part.value}: {number(100 * value / (row.amount.nominal or 1), 3)} %"
        pieces.append(box(x(edge), bar, x(edge + value) - x(edge), 20, f"cost {SHADE[part]}", tip))
        edge += value
    names = (
        [
            text(x.start - 12, bar + 15, row.name, class_="name", anchor="end"),
            text(width - 120, bar + 15, row.said),
        ]
        if wide
        else [
            text(0, top + 18, row.name, class_="name"),
            text(width, top + 18, row.said, anchor="end"),
        ]
    )
    return tag("g", *pieces, _whisker(row.amount, x, bar + 10), *names, class_=row.key)


def _whisker(amount: Amount, x: Scale, y: float) -> Markup:
    """Draw how far the constants allow the sum to move."""
    if amount.low == amount.high:
        return NOTHING
    low, high = x(amount.low), x(amount.high)
    return join(
        [
            line((low, y), (high, y), "whisker"),
            line((low, y - 5), (low, y + 5), "whisker"),
            line((high, y - 5), (high, y + 5), "whisker"),
        ]
    )


def _background(found: Estimated) -> Markup:
    sources = (tag("li", f"{key}: {citation}") for key, citation in found.sources.items())
    left_out = ", ".join(found.not_modeled) or "nothing is named"
    return join(
        [
            tag("ul", *sources, tag("li", f"Not in the model: {left_out}"), class_="sources"),
            folded(
                f"The constants of {found.profile}",
                table(
                    ["constant", "value", "low", "high", "from"],
                    (_constant(each) for each in found.constants),
                    class_="words",
                ),
            ),
            folded(
                f"The counts behind {found.profile}",
                table(
                    ["where", "what", "count", "cost"],
                    (
                        [
                            item.where,
                            item.quantity.replace("_", " "),
                            count(item.count),
                            amount_in_words(item.amount.nominal, found.unit),
                        ]
                        for item in found.items
                    ),
                ),
            ),
        ]
    )


def _constant(each: Constant) -> list[Child]:
    if each.value is None:
        return [each.term, "not published", "", "", each.note]
    origin = f"{each.source}, {each.locator}: {each.evidence}"
    return [
        each.term,
        *(_price(value, each.unit) for value in (each.value, each.low, each.high)),
        f"{origin}; {each.note}" if each.note else origin,
    ]


def _price(value: float, unit: str) -> str:
    return f"{number(value)} {unit}" if unit == Unit.OPERATION.value else with_prefix(value, unit)
