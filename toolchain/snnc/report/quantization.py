"""Picture: weights and thresholds before and after they became integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.ir.weights import FloatArray, IntArray, floats
from snnc.passes import PREPARE, apply
from snnc.quantization.account import account_of
from snnc.report.markup import Child, Markup, join, tag
from snnc.report.metrics import Metrics
from snnc.report.page import Section, absent, folded, heading, paragraph, table
from snnc.report.rounding import Rounded, Thresholds, rounded_thresholds, rounded_weights
from snnc.report.series import DEPLOYED, SNN
from snnc.report.svg import (
    WIDE,
    Mark,
    Scale,
    band,
    box,
    drawing,
    for_both_widths,
    line,
    marker,
    text,
    ticks,
)
from snnc.report.wording import count, number, percent, plural

AREAS = 45  # at most, on both sides of zero together


def quantization(
    metrics: Metrics, graph: Graph | None, program: Program | None, model_path: Path
) -> Section:
    """Draw the weights of each layer as floats and as integers, and the thresholds.

    Raises:
        InvalidFile: the graph and the program hold different layers.
    """
    return Section(
        anchor="quantization",
        title="From floats to integers",
        caption=(
            "The weights that were not pruned: above each line as floats, before quantization; "
            "below it one bar for every integer that is used, after it. Both halves are scaled to "
            "their own tallest. The unit is the layer's threshold; for weights that read the "
            "image, threshold per step of grey. Good are many bars in the shape of what stands "
            "above them, and few weights rounded to zero."
        ),
        body=absent("model.snn and reference/program.snnx are not both in the run directory")
        if graph is None or program is None
        else _pictures(metrics, graph, program, model_path),
    )


def _pictures(metrics: Metrics, graph: Graph, program: Program, model_path: Path) -> Markup:
    prepared = apply(PREPARE, graph)
    weights = rounded_weights(prepared, program, model_path)
    thresholds = rounded_thresholds(graph, prepared, program, model_path)
    return join(
        [
            _key(),
            tag("div", *map(_histogram, weights), class_="panels"),
            heading("Thresholds"),
            paragraph(
                "Where training put the threshold of each layer, and how exactly one integer "
                "holds it. Before quantization every layer is scaled so that its threshold is "
                "1; the error is what rounding added to that 1.",
                class_="caption",
            ),
            for_both_widths(lambda width: _threshold_rows(thresholds, width))
            if thresholds
            else absent("no layer spikes"),
            calibration(program),
            folded("The numbers", _numbers(weights, thresholds), _reported(metrics)),
        ]
    )


def calibration(program: Program) -> Markup:
    """Return what calibration measured of each layer; nothing for a program without it.

    Raises:
        InvalidFile: the account in the program is damaged.
    """
    account = account_of(program)
    if account is None or account.worst is None:
        return join([])
    columns, rows = account.rows()
    return join(
        [
            heading("Scales chosen on images"),
            paragraph(
                f"The scale of each layer was chosen on {account.images} training images, so that "
                "its integers spike as the float network does. Errors are in spikes per neuron "
                "and step; of logits, in their standard deviations. The last column is how far "
                "the integers of this layer alone move the logits, in standard deviations: "
                f"{account.worst} hurts most.",
                class_="caption",
            ),
            table(columns, ([str(cell) for cell in row] for row in rows)),
        ]
    )


def _key() -> Markup:
    return paragraph(
        tag("span", "before: float", class_=f"chip filled {SNN.key}"),
        " ",
        tag("span", "after: integer / scale", class_=f"chip full {DEPLOYED.key}"),
    )


def _histogram(weights: Rounded) -> Markup:
    """Draw the floats as an area above the axis, and each integer as a bar below it.

    Areas have edges between integers, so that a weight lies straight above its integer.
    """
    largest = int(np.abs(weights.after).max(initial=1))
    steps = -(-2 * largest // AREAS) | 1  # integers under one area, odd
    reach = -(-(largest + 1) // steps)
    edges = floats((np.arange(-reach, reach + 2) - 0.5) * steps)
    inside = np.clip(weights.before * weights.scale, edges[0], edges[-1])
    before = np.histogram(inside, edges)[0]
    levels, after = np.unique(weights.after, return_counts=True)
    x = Scale(float(edges[0]), float(edges[-1]), 4, 436)
    above = Scale(0, float(before.max(initial=1)), 92, 6)
    below = Scale(0, float(after.max(initial=1)), 94, 170)
    half = ticks(float(edges[-1]) / weights.scale, 3)
    marks = [*(-mark for mark in reversed(half[1:])), *half]
    picture = drawing(
        440,
        192,
        tag("g", _area(x, above, edges, before), class_=SNN.key),
        line((4, 93), (436, 93), "axis"),
        tag(
            "g",
            *(
                _level_bar(x, below, level, many, weights.scale)
                for level, many in zip(levels.tolist(), after.tolist(), strict=True)
            ),
            class_=DEPLOYED.key,
        ),
        *(
            text(x(mark * weights.scale), 188, number(mark), class_="tick", anchor="middle")
            for mark in marks
        ),
        label=f"Weights of {weights.name} before and after quantization",
    )
    said = (
        f" {plural(len(weights.after), 'weight')} on {plural(len(levels), 'integer')}, "
        f"{count(weights.vanished)} rounded to zero"
    )
    return tag("figure", tag("figcaption", tag("strong", weights.name), said), picture)


def _area(x: Scale, y: Scale, edges: FloatArray, heights: IntArray) -> Markup:
    """Return a filled staircase."""
    tops = [
        (x(float(edge)), y(float(height)))
        for index, height in enumerate(heights)
        for edge in edges[index : index + 2]
    ]
    return band([(tops[0][0], y(0)), (tops[-1][0], y(0))], tops, "soft")


def _level_bar(x: Scale, y: Scale, level: int, many: int, scale: float) -> Markup:
    tip = f"integer {level} = {number(level / scale)}: {plural(many, 'weight')}"
    width = min(0.75 * (x(1) - x(0)), 6.0)
    return box(x(level) - width / 2, y(0), width, y(many) - y(0), "fill", tip)


def _threshold_rows(found: Sequence[Thresholds], width: float) -> Markup:
    wide = width == WIDE
    row = 40.0 if wide else 66.0
    left, right = (150.0, width - 330) if wide else (8.0, width - 8)
    x = Scale(0, max(float(layer.trained.max()) for layer in found) * 1.05, left, right)
    bottom = row * len(found)
    return drawing(
        width,
        bottom + 44,
        *(
            join(
                [
                    line((x(mark), 0), (x(mark), bottom), "grid"),
                    text(x(mark), bottom + 16, number(mark), class_="tick", anchor="middle"),
                ]
            )
            for mark in ticks(x.high, 6 if wide else 4)
        ),
        *(
            _threshold_row(layer, index * row, x, width, wide=wide)
            for index, layer in enumerate(found)
        ),
        text((left + right) / 2, bottom + 38, "trained threshold", anchor="middle"),
        label="Trained thresholds of each layer",
    )


def _threshold_row(layer: Thresholds, top: float, x: Scale, width: float, *, wide: bool) -> Markup:
    middle = top + (20 if wide else 46)
    how_many = plural(len(layer.trained), "threshold")
    said = f"integer {count(layer.integer)}, error {_signed(layer.error)}"
    points = (
        marker(Mark.CIRCLE, x(value), middle, "mark", f"{layer.name}: {number(value)}")
        for value in _apart(layer.trained, x)
    )
    words: list[Child] = (
        [
            text(138, middle + 5, layer.name, class_="name", anchor="end"),
            text(width - 314, middle + 5, f"{how_many}; {said}"),
        ]
        if wide
        else [
            text(0, top + 18, layer.name, class_="name"),
            text(width, top + 18, said, anchor="end"),
        ]
    )
    return tag(
        "g", line((x.start, middle), (x.end, middle), "grid"), *points, *words, class_=SNN.key
    )


def _apart(values: FloatArray, x: Scale) -> list[float]:
    """Return the distinct values, of those on the same half unit of the drawing only one."""
    places = np.round((values - x.low) / (x.high - x.low) * 2 * (x.end - x.start))
    _, first = np.unique(places, return_index=True)
    return [float(values[index]) for index in first]


def _signed(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:+.3f} %"


def _numbers(weights: Sequence[Rounded], thresholds: Sequence[Thresholds]) -> Markup:
    return join(
        [
            table(
                ["synapses", "weights", "rounded to zero", "scale", "largest error, steps"],
                (
                    [
                        w.name,
                        count(len(w.after)),
                        f"{count(w.vanished)} ({percent(w.vanished / max(1, len(w.after)))})",
                        number(w.scale),
                        f"{w.largest_error:.3f}",
                    ]
                    for w in weights
                ),
            ),
            table(
                ["layer", "trained, smallest", "trained, largest", "integer", "error"],
                (
                    [
                        t.name,
                        number(float(t.trained.min())),
                        number(float(t.trained.max())),
                        count(t.integer),
                        _signed(t.error),
                    ]
                    for t in thresholds
                ),
            ),
        ]
    )


def _reported(metrics: Metrics) -> Markup:
    if not metrics.quantization:
        return absent("metrics.json has no account of quantization")
    return table(
        [
            "as the compiler reported",
            "bits",
            "scale",
            "threshold",
            "largest",
            "saturated",
            "to zero",
        ],
        (
            [
                layer.name,
                str(layer.weight_bits),
                number(layer.scale),
                "" if layer.threshold is None else count(layer.threshold),
                count(layer.largest_weight),
                count(layer.saturated),
                count(layer.rounded_to_zero),
            ]
            for layer in metrics.quantization
        ),
    )
