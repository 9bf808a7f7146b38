"""HTML and SVG text in which data cannot become code.

A `Markup` is text that is already safe; a plain `str` is not, and is escaped wherever it
is placed. So a page built from `tag` alone is escaped throughout, whatever it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

VOID = frozenset({"meta", "br", "hr"})  # HTML elements without an end tag


@dataclass(frozen=True)
class Markup:
    """Finished HTML or SVG."""

    html: str


Child = Markup | str
NOTHING = Markup("")


def tag(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Return one element; an attribute that is None is left out.

    A trailing underscore is dropped from an attribute's name and the others become
    hyphens, so that `class_` and `stroke_width` can be written.

    >>> tag("p", "a < b", class_="x").html
    '<p class="x">a &lt; b</p>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else short(value)
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in VOID else f"{opening}{join(children).html}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Return children one after the other, plain text escaped."""
    return Markup("".join(c.html if isinstance(c, Markup) else escape(c) for c in children))


def short(value: float) -> str:
    """Return a coordinate with at most two decimals.

    >>> short(3.0), short(0.125), short(-0.001)
    ('3', '0.12', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
