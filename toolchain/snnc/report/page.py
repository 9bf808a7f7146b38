"""The page around the pictures: one HTML file that asks nothing of the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from snnc.report.markup import NOTHING, Child, Markup, join, tag

# A browser that reads this refuses every request the page could make.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One picture with its title and the sentence that says how to read it."""

    anchor: str
    title: str
    caption: Child
    body: Markup


def page(title: str, head: Markup, sections: Sequence[Section], foot: Markup) -> str:
    """Return the whole document."""
    style = Markup(files("snnc.report").joinpath("page.css").read_text(encoding="utf-8"))
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name_="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", style),
        ),
        tag(
            "body",
            tag("header", head),
            _contents(sections),
            tag("main", *map(_section, sections)),
            tag("footer", foot),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{document.html}\n"


def paragraph(*content: Child, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return tag("p", *content, class_=class_)


def absent(reason: str) -> Markup:
    """Say in the place of a picture why it is not there."""
    return paragraph(tag("strong", "Not run: "), reason, class_="absent")


def table(
    head: Sequence[str], rows: Iterable[Sequence[Child]], class_: str | None = None
) -> Markup:
    """Return a table whose first column holds names and whose others hold numbers.

    With the class `words` the last column holds words too.
    """
    lines = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    titles = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return tag("div", tag("table", titles, tag("tbody", *lines), class_=class_), class_="scroll")


def folded(title: str, *content: Child) -> Markup:
    """Return content that opens on a click (and on paper stays closed)."""
    return tag("details", tag("summary", title), *content)


def facts(rows: Iterable[tuple[str, Child]]) -> Markup:
    """Return a list of names and what they are."""
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in rows)
    return tag("dl", *pairs, class_="facts")


def _contents(sections: Sequence[Section]) -> Markup:
    links = (tag("a", section.title, href=f"#{section.anchor}") for section in sections)
    return tag("nav", *links, aria_label="Pictures")


def _section(section: Section) -> Markup:
    caption = paragraph(section.caption, class_="caption") if section.caption else NOTHING
    return tag("section", tag("h2", section.title), caption, section.body, id=section.anchor)


def heading(title: str) -> Markup:
    """Return a title inside a section."""
    return join([tag("h3", title)])
