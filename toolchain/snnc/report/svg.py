"""The few shapes that every picture is made of, as inline SVG.

Colours live in `page.css` and are chosen by class, so that one drawing serves light and
dark pages. Coordinates are in the units of the drawing's `viewBox`; y points down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil, floor, log10

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.report.markup import Child, Markup, join, short, tag

Point = tuple[float, float]
WIDE, NARROW = 880.0, 360.0  # the two widths of a drawing that is made twice


class Mark(Enum):
    """The shape of a data point; shapes differ so that colour is never the only difference."""

    CIRCLE = "circle"
    SQUARE = "square"
    DIAMOND = "diamond"


@dataclass(frozen=True)
class Scale:
    """A straight line from data to drawing: `low` lands on `start`, `high` on `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value lies in the drawing."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def ticks(high: float, most: int, low: float = 0.0) -> tuple[float, ...]:
    """Return at most `most` + 1 round values from `low` to `high`, 1, 2 or 5 times ten apart.

    >>> ticks(0.3, 4)
    (0.0, 0.1, 0.2, 0.3)
    """
    span = high - low
    if span <= 0:
        return (low,)
    size = 10.0 ** floor(log10(span / most))
    apart = next(
        size * factor for factor in (1, 2, 5, 10, 20) if span / (size * factor) <= most + 1e-9
    )
    first, last = ceil(low / apart - 1e-9), floor(high / apart + 1e-9)
    return tuple(round(index * apart, 12) for index in range(first, last + 1))


def drawing(
    width: float, height: float, *children: Child, label: str, class_: str | None = None
) -> Markup:
    """Return an SVG picture that fills the width it is given; `label` is read to the blind."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {short(width)} {short(height)}",
        role="img",
        aria_label=label,
        class_=class_,
    )


def for_both_widths(draw: Callable[[float], Markup]) -> Markup:
    """Draw once for screens and paper and once for phones; the stylesheet shows one."""
    return join(
        [
            tag("div", draw(WIDE), class_="wide"),
            tag("div", draw(NARROW), class_="narrow", aria_hidden="true"),
        ]
    )


def text(
    x: float, y: float, content: str, *, class_: str = "label", anchor: str = "start"
) -> Markup:
    """Return one line of text whose baseline is at y."""
    return tag("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def line(start: Point, end: Point, class_: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def curve(points: Sequence[Point], class_: str) -> Markup:
    """Return a line through points."""
    return tag("polyline", points=_joined(points), class_=class_)


def band(low: Sequence[Point], high: Sequence[Point], class_: str) -> Markup:
    """Return the area between two lines that run the same way."""
    return tag("polygon", points=_joined([*low, *reversed(high)]), class_=class_)


def box(
    x: float, y: float, width: float, height: float, class_: str, tip: str | None = None
) -> Markup:
    """Return a rectangle; `tip` appears when the pointer rests on it."""
    inside = () if tip is None else (tag("title", tip),)
    return tag(
        "rect", *inside, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_
    )


def marker(mark: Mark, x: float, y: float, class_: str, tip: str) -> Markup:
    """Return a data point with a tip."""
    title = tag("title", tip)
    match mark:
        case Mark.CIRCLE:
            return tag("circle", title, cx=x, cy=y, r=4.4, class_=class_)
        case Mark.SQUARE:
            return tag("rect", title, x=x - 3.8, y=y - 3.8, width=7.6, height=7.6, class_=class_)
        case Mark.DIAMOND:
            corners = [(x, y - 5.6), (x + 5.6, y), (x, y + 5.6), (x - 5.6, y)]
            return tag("polygon", title, points=_joined(corners), class_=class_)
        case _:
            unreachable(mark)


def cells(mask: npt.NDArray[np.bool_], class_: str, tip: str | None = None) -> Markup:
    """Return unit squares at the true cells (row, column) of a mask, as one path."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    edges = np.diff(padded, axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = zip(rows.tolist(), starts.tolist(), (ends - starts).tolist(), strict=True)
    path = "".join(f"M{start} {row}h{run}v1h-{run}z" for row, start, run in runs)
    inside = () if tip is None else (tag("title", tip),)
    return tag("path", *inside, d=path or "M0 0", class_=class_)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart so that neighbours keep `gap` and all stay within [low, high].

    Order is kept; a label that stands alone stays where it wanted to be.

    >>> spread([10.0, 12.0, 50.0], 10.0, 0.0, 100.0)
    [10.0, 20.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    placed = list(wanted)
    floor_y = low
    for index in order:
        placed[index] = max(placed[index], floor_y)
        floor_y = placed[index] + gap
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def horizontal_grid(
    values: Iterable[float], y: Scale, left: float, right: float, name: Callable[[float], str]
) -> Markup:
    """Return faint lines across a chart, each named at its left end."""
    return join(
        join(
            [
                line((left, y(value)), (right, y(value)), "grid"),
                text(left - 8, y(value) + 4, name(value), class_="tick", anchor="end"),
            ]
        )
        for value in values
    )


def _joined(points: Sequence[Point]) -> str:
    return " ".join(f"{short(x)},{short(y)}" for x, y in points)
