"""Picture: the whole chain in one line, with the numbers at each station."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.report.markup import Child, Markup, tag
from snnc.report.metrics import Metrics, Proportion
from snnc.report.page import Section
from snnc.report.wording import THIN, count, percent, plural

SAMPLES = "clean images right"


@dataclass(frozen=True, kw_only=True)
class Station:
    """One form of the network. Without a `value` the station was not reached."""

    key: str  # its colour
    name: str
    value: str | None
    unit: str
    detail: str
    arrow: str  # how the network got here


def chain(metrics: Metrics) -> Section:
    """Draw the stations from the trained network to the chip."""
    return Section(
        anchor="chain",
        title="One network, five forms",
        caption=(
            "The same network at each station of the chain, with its accuracy on clean test "
            "images and the 95 % interval. Good is an accuracy that stays the same from left to "
            "right while the multiplications and the precision go away."
        ),
        body=tag("ol", *map(_station, _stations(metrics)), class_="chain"),
    )


def _stations(metrics: Metrics) -> tuple[Station, ...]:
    model = metrics.model
    kept = f"{count(model.nonzero)} of {count(model.weights)} weights kept"
    bits = {layer.weight_bits for layer in metrics.quantization}
    integers = f"{max(bits)}-bit weights" if bits else "integer weights and thresholds"
    return (
        Station(
            key="snn",
            name="Sparse",
            value=percent(model.sparsity),
            unit="of weights are zero",
            detail=kept,
            arrow="train, prune",
        ),
        _measured("ann", "ANN", metrics, "the pruned network with ReLU, float", "finetune"),
        _measured("snn", "SNN", metrics, f"{plural(model.steps, 'time step')}, float", "convert"),
        _measured("deployed", "Integers", metrics, integers, "compile"),
        _on_lava(metrics),
    )


def _measured(key: str, name: str, metrics: Metrics, detail: str, arrow: str) -> Station:
    found = metrics.accuracy.get(key)
    return Station(
        key=key,
        name=name,
        value=None if found is None else percent(found.value),
        unit=SAMPLES if found is None else f"{SAMPLES} {interval(found)}",
        detail=detail,
        arrow=arrow,
    )


def _on_lava(metrics: Metrics) -> Station:
    found = metrics.agreement.get("loihi")
    worst = None if found is None else min((*found.layers.values(), found.predictions))
    return Station(
        key="deployed",
        name="Lava",
        value=None if worst is None else agreement_in_words(worst),
        unit="of spikes and predictions equal the integers",
        detail="not run: needs Python 3.10 with lava-nc, see `snnc lava setup`"
        if found is None
        else f"{plural(found.samples, 'image')}, {plural(len(found.layers), 'layer')}",
        arrow="emit",
    )


def agreement_in_words(share: float) -> str:
    """Return an agreement in percent; only all of it is called 100 %.

    >>> agreement_in_words(1.0).replace(THIN, " "), agreement_in_words(0.99999).replace(THIN, " ")
    ('100 %', '< 100 %')
    """
    if share == 1.0:
        return percent(1.0, 0)
    text = percent(share, 2)
    return f"<{THIN}100{THIN}%" if text == percent(1.0, 2) else text


def interval(found: Proportion) -> str:
    """Return a confidence interval in percent."""
    return f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _station(station: Station) -> Markup:
    reached = station.value is not None
    value: Child = station.value or "not run"
    return tag(
        "li",
        tag("span", station.arrow, class_="arrow"),
        tag("span", station.name, class_="name"),
        tag("span", value, class_="value"),
        tag("span", station.unit, class_="unit"),
        tag("span", station.detail, class_="unit"),
        class_=f"station {station.key}" + ("" if reached else " unreached"),
    )
