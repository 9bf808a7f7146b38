"""The two pictures of the exact simulator's speed; exact_simulator.py calls this."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from exact_simulator_tables import OURS, Measured, level, number, times, title
from simulators_contenders import BASELINE
from simulators_networks import Setting, Shape
from snnc.report.markup import Markup, join
from snnc.report.svg import Mark, Point, Scale, curve, drawing, line, marker, text

STYLE = """<style>
  svg { font: 13px system-ui, sans-serif; background: #fff; fill: #333 }
  .strong { font-weight: 600 } .tick { fill: #666; font-size: 12px } .grid { stroke: #ddd }
  .row { stroke: #eee } .curve { fill: none; stroke-width: 2 } .yardstick { stroke: #999 }
  .c0 { stroke: #777 } .c1 { stroke: #0a6c74 }
  .dot { stroke: #fff } .d0 { fill: #999 } .d1 { fill: #4f9da3 } .d2 { fill: #0a6c74 }
  .d3 { fill: #c2571a } .hollow { fill: #fff; stroke: #777; stroke-width: 2 }
</style>"""
VGG_MARKS = {
    0.0: (Mark.CIRCLE, "hollow"),
    0.9: (Mark.CIRCLE, "dot d1"),
    0.95: (Mark.SQUARE, "dot d2"),
    0.99: (Mark.DIAMOND, "dot d3"),
}
SMALL_MARKS = {Shape.CONV: (Mark.CIRCLE, "dot d2"), Shape.DENSE: (Mark.SQUARE, "dot d3")}
MANTISSAS = (1, 2, 5)
TICK_WIDTH = 54.0  # of the longest name of a tick, and a gap


def comparison(measured: Measured) -> str:
    """Draw one row for each simulator: the time for an image, on a logarithmic axis."""
    names = [name for name in measured.rows() if _any(measured, name)]
    marks = [VGG_MARKS[setting.sparsity] for setting in measured.vgg]
    small = [SMALL_MARKS[setting.shape] for setting in measured.small]
    left, top, row = 196.0, 78.0, 46.0
    height = row * len(names)
    right = [
        _rows(measured, names, measured.vgg, marks, (left, 384.0), (top, row)),
        _rows(
            measured,
            names,
            measured.small,
            small,
            (left + 438.0, 214.0),
            (top, row),
        ),
    ]
    labels = [
        text(left - 14, top + row * (i + 0.5) + 4, title(name), class_=_strong(name), anchor="end")
        for i, name in enumerate(names)
    ]
    heads = [
        text(left, 22, "VGG-16, 3x32x32, T = 8", class_="label strong"),
        _legend(marks, [_zero(s) for s in measured.vgg], left, 46.0, 92.0),
        text(left + 438, 22, "Small networks, 90 % zero", class_="label strong"),
        _legend(
            small,
            ["convolutions" if s.shape is Shape.CONV else "dense" for s in measured.small],
            left + 438,
            46.0,
            112.0,
        ),
        text(left + 192, top + height + 44, "time for one image", anchor="middle"),
        text(left + 545, top + height + 44, "time for one image", anchor="middle"),
    ]
    label = "The time that each simulator takes for one image"
    return _file(880, top + height + 58, [*heads, *labels, *right], label)


def scaling(measured: Measured) -> str:
    """Draw one panel for each sweep: milliseconds for an image, ours and the baseline."""
    width, height, left, top = 350.0, 190.0, 64.0, 64.0
    values = [
        1e3 * result.each
        for name, settings in measured.sweeps.items()
        for setting in settings
        for contender in (OURS, BASELINE)
        if (result := measured.result(f"sweep/{name}", setting, contender))
    ]
    if not values:
        return _file(880, 40, [text(20, 24, "nothing is measured yet")], "nothing")
    low, high = _around(values)
    panels = [
        _panel(
            measured,
            name,
            (left + (number_ % 2) * (width + 86), width),
            (top + (number_ // 2) * (height + 86), height),
            (low, high),
        )
        for number_, name in enumerate(measured.sweeps)
    ]
    legend = [
        text(left, 22, "Milliseconds for one image of VGG-16", class_="label strong"),
        marker(Mark.SQUARE, left + 310, 18, "dot d2", title(OURS)),
        text(left + 322, 22, title(OURS)),
        marker(Mark.CIRCLE, left + 380, 18, "dot d0", title(BASELINE)),
        text(left + 392, 22, title(BASELINE)),
    ]
    bottom = top + ceil(len(measured.sweeps) / 2) * (height + 86) - 26
    label = "Milliseconds for one image against density, images at once, steps and width"
    return _file(880, bottom, [*legend, *panels], label)


def _rows(
    measured: Measured,
    names: Sequence[str],
    settings: Sequence[Setting],
    marks: Sequence[tuple[Mark, str]],
    across: tuple[float, float],
    down: tuple[float, float],
) -> Markup:
    """Draw the points of all simulators; those of one are a little above each other."""
    (left, width), (top, row) = across, down
    values = [
        1e3 * each
        for name in names
        for setting in settings
        if (each := measured.each(setting, name)) is not None
    ]
    if not values:
        return join([])
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    x = Scale(low, max(high, low + 1), left, left + width)
    bottom = top + row * len(names)
    named = ceil(TICK_WIDTH / (x(1) - x(0)))  # every so many powers get their name
    parts: list[Markup] = []
    for power in range(low, max(high, low + 1) + 1):
        parts.append(line((x(power), top), (x(power), bottom), "grid"))
        if power % named == 0:
            name = _milliseconds(power)
            parts.append(text(x(power), bottom + 20, name, class_="tick", anchor="middle"))
    for index in range(len(names) + 1):
        parts.append(line((left, top + row * index), (left + width, top + row * index), "row"))
    apart = (row - 8) / max(len(settings), 1)
    for index, name in enumerate(names):
        for place, (setting, (mark, class_)) in enumerate(zip(settings, marks, strict=True)):
            each, ratio = measured.each(setting, name), measured.ratio(setting, name)
            if each is None or ratio is None:
                continue
            y = top + row * (index + 0.5) + (place - (len(settings) - 1) / 2) * apart
            tip = f"{title(name)}, {_zero(setting)}: {number(1e3 * each)} ms, {times(ratio)}"
            parts.append(marker(mark, x(log10(1e3 * each)), y, class_, f"{tip} dense PyTorch"))
    return join(parts)


def _panel(
    measured: Measured,
    name: str,
    across: tuple[float, float],
    down: tuple[float, float],
    limits: tuple[float, float],
) -> Markup:
    (left, width), (top, height) = across, down
    settings = measured.sweeps[name]
    variable = [_variable(name, setting) for setting in settings]
    x = Scale(log10(min(variable)), log10(max(variable)), left + 14, left + width - 14)
    y = Scale(log10(limits[0]), log10(limits[1]), top + height, top)
    heading = {"density": "share of the weights that is not zero"}.get(name, name)
    parts = [text(left, top - 14, f"against {heading}", class_="label strong")]
    for tick in _ticks(*limits):
        parts.append(line((left, y(log10(tick))), (left + width, y(log10(tick))), "grid"))
        place = y(log10(tick)) + 4
        parts.append(text(left - 8, place, number(tick), class_="tick", anchor="end"))
    last = float("inf")
    for value, setting in sorted(zip(variable, settings, strict=True), key=lambda p: -p[0]):
        place = x(log10(value))
        label = level(name, setting)
        if last - place > 6 * len(label) + 12:  # else it would touch its neighbour
            parts.append(text(place, top + height + 20, label, class_="tick", anchor="middle"))
            last = place
    for contender, mark, classes in (
        (BASELINE, Mark.CIRCLE, ("curve c0", "dot d0")),
        (OURS, Mark.SQUARE, ("curve c1", "dot d2")),
    ):
        points: list[tuple[Point, str]] = []
        for value, setting in sorted(zip(variable, settings, strict=True), key=lambda p: p[0]):
            if result := measured.result(f"sweep/{name}", setting, contender):
                tip = f"{title(contender)}, {level(name, setting)}: {number(1e3 * result.each)} ms"
                points.append(((x(log10(value)), y(log10(1e3 * result.each))), tip))
        parts.append(curve([point for point, _ in points], classes[0]))
        parts += [marker(mark, *point, classes[1], tip) for point, tip in points]
    return join(parts)


def _variable(name: str, setting: Setting) -> float:
    match name:
        case "density":
            return 1 - setting.sparsity
        case "images at once":
            return setting.samples
        case "steps T":
            return setting.steps
        case _:
            return setting.width


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return round limits, 1, 2 or 5 times a power of ten, that hold all values."""
    powers = range(floor(log10(min(values))), ceil(log10(max(values))) + 1)
    steps = [mantissa * 10.0**power for power in powers for mantissa in MANTISSAS]
    low = max((step for step in steps if step <= min(values)), default=min(values))
    return low, min((step for step in steps if step >= max(values)), default=max(values))


def _ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between two limits, and few more where there are few."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    tens = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(tens) >= 3:
        return tens
    every = [mantissa * 10.0**power for power in powers for mantissa in MANTISSAS]
    return [tick for tick in every if low <= tick <= high]


def _milliseconds(power: int) -> str:
    """Name a power of ten of milliseconds.

    >>> _milliseconds(-1), _milliseconds(2), _milliseconds(5)
    ('0.1 ms', '100 ms', '100 s')
    """
    return f"{10.0**power:g} ms" if power < 3 else f"{10.0 ** (power - 3):g} s"


def _zero(setting: Setting) -> str:
    return f"{100 * setting.sparsity:g} % zero"


def _strong(name: str) -> str:
    return "label strong" if name == OURS else "label"


def _any(measured: Measured, name: str) -> bool:
    return any(measured.each(setting, name) is not None for setting in measured.compared)


def _legend(
    marks: Sequence[tuple[Mark, str]], names: Sequence[str], left: float, y: float, apart: float
) -> Markup:
    return join(
        join(
            [
                marker(mark, left + 6 + apart * i, y, class_, name),
                text(left + 16 + apart * i, y + 4, name),
            ]
        )
        for i, ((mark, class_), name) in enumerate(zip(marks, names, strict=True))
    )


def _file(width: float, height: float, parts: Sequence[Markup], label: str) -> str:
    picture = drawing(width, height, Markup(STYLE), *parts, label=label)
    return picture.html.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"
