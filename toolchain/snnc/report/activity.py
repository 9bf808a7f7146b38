"""Picture: how often each layer spikes."""

from __future__ import annotations

from snnc.report.markup import Markup, join, tag
from snnc.report.metrics import Activity, LayerActivity, Metrics
from snnc.report.page import Section, absent, folded, table
from snnc.report.svg import WIDE, Scale, box, drawing, for_both_widths, horizontal_grid, text, ticks
from snnc.report.wording import count, number, plural

ROW = 96.0


def activity(metrics: Metrics) -> Section:
    """Draw the spikes of each layer for each time step."""
    found = metrics.activity
    over = "" if found is None else f", mean over {plural(found.samples, 'clean test image')}"
    return Section(
        anchor="activity",
        title="Spikes in each layer",
        caption=(
            f"Spikes per neuron at each time step{over}; 1 would be a spike of every neuron at "
            "every step. Fewer is cheaper: on a neuromorphic chip, work happens only where a "
            "spike meets a weight."
        ),
        body=absent("metrics.json holds no activity; run `snnc simulate` on the build")
        if found is None
        else _pictures(found),
    )


def _pictures(found: Activity) -> Markup:
    return join(
        [
            for_both_widths(lambda width: _rows(found, width)),
            folded("The numbers", _layers(found), _synapses(found)),
        ]
    )


def _rows(found: Activity, width: float) -> Markup:
    peak = max((max(layer.per_step) / layer.neurons for layer in found.layers), default=0.0)
    rows = [
        _row(layer, index * ROW, width, peak or 1.0) for index, layer in enumerate(found.layers)
    ]
    bottom = ROW * len(found.layers)
    left, right = _span(width)
    return drawing(
        width,
        bottom + 26,
        *rows,
        text((left + right) / 2, bottom + 20, "time step", anchor="middle"),
        label="Spikes per neuron and step: "
        + ", ".join(f"{layer.name} {number(_rate(layer))}" for layer in found.layers),
    )


def _span(width: float) -> tuple[float, float]:
    return (190.0, width - 180) if width == WIDE else (34.0, width)


def _rate(layer: LayerActivity) -> float:
    return layer.spikes_per_neuron / len(layer.per_step)


def _row(layer: LayerActivity, top: float, width: float, peak: float) -> Markup:
    wide, (left, right) = width == WIDE, _span(width)
    y = Scale(0, peak, top + ROW - 20, top + (16 if wide else 34))
    apart = (right - left) / len(layer.per_step)
    every = max(1, len(layer.per_step) // 16)
    mean = f"{number(_rate(layer), 3)} per step"
    return tag(
        "g",
        horizontal_grid(ticks(peak, 2), y, left, right, number),
        *(
            _column(layer, step, left + step * apart, apart, y)
            for step in range(len(layer.per_step))
        ),
        *(
            text(left + (step + 0.5) * apart, y(0) + 13, str(step), class_="tick", anchor="middle")
            for step in range(0, len(layer.per_step), every)
        ),
        *_names(layer, top, width, mean, wide=wide),
        class_="deployed",
    )


def _names(
    layer: LayerActivity, top: float, width: float, mean: str, *, wide: bool
) -> list[Markup]:
    total = f"{count(layer.spikes_per_sample)} spikes per image"
    if wide:
        return [
            text(0, top + 46, layer.name, class_="name"),
            text(0, top + 66, plural(layer.neurons, "neuron"), class_="tick"),
            text(width - 160, top + 46, mean, class_="name"),
            text(width - 160, top + 66, total, class_="tick"),
        ]
    return [
        text(0, top + 18, f"{layer.name}, {plural(layer.neurons, 'neuron')}", class_="name"),
        text(width, top + 18, mean, class_="name", anchor="end"),
    ]


def _column(layer: LayerActivity, step: int, x: float, apart: float, y: Scale) -> Markup:
    rate = layer.per_step[step] / layer.neurons
    tip = (
        f"{layer.name}, step {step}: {number(rate, 3)} spikes per neuron, "
        f"{count(layer.per_step[step])} spikes"
    )
    gap = min(3.0, apart / 8)
    return box(x + gap, y(rate), apart - 2 * gap, y(0) - y(rate), "fill", tip)


def _layers(found: Activity) -> Markup:
    return table(
        ["layer", "neurons", "spikes per image", "per neuron", "per neuron and step"],
        (
            [
                layer.name,
                count(layer.neurons),
                count(layer.spikes_per_sample),
                number(layer.spikes_per_neuron),
                number(_rate(layer)),
            ]
            for layer in found.layers
        ),
    )


def _synapses(found: Activity) -> Markup:
    return table(
        ["synapses", "from", "into", "stored weights", "events per image"],
        (
            [
                synapses.name,
                synapses.source,
                synapses.population,
                count(synapses.stored),
                count(synapses.events_per_sample),
            ]
            for synapses in found.synapses
        ),
    )
