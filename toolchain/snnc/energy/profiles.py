"""Profiles of prices: strict TOML files that say where every number comes from.

An unknown key, a price without a source, a nominal value outside its band or a missing
term is an error, and all errors of a file are reported at once. A price that nobody
published is written `published = false`; it is not 0, and an estimate that needs it is a
partial sum. Each profile carries worked examples that tests recompute.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from snnc.energy.prices import (
    Arithmetic,
    Case,
    Evidence,
    ImagePasses,
    Price,
    Profile,
    Read,
    Source,
    Unit,
    Unpublished,
)
from snnc.energy.quantity import LINES, Equations, Quantity, Scope, Term, priced_terms
from snnc.energy.table import Table
from snnc.errors import InvalidFile, Issue, Refusal, UnknownName, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1


class InvalidProfile(Refusal):
    """A profile breaks rules of its format; each issue names the place in the file."""

    def __init__(self, origin: str, issues: Sequence[Issue]) -> None:
        super().__init__(f"energy profile {origin} is not valid", issues)


def names() -> tuple[str, ...]:
    """Return the names of the profiles that ship with snnc, sorted."""
    return tuple(sorted(_shipped()))


def load_profile(name_or_path: str | Path) -> Profile:
    """Return a shipped profile by its name, or the one in a `.toml` file.

    Raises:
        UnknownName: no shipped profile has that name.
        InvalidFile: the file cannot be read or is not TOML.
        InvalidProfile: it breaks rules of the format.
    """
    if str(name_or_path).endswith(".toml"):
        return _parse(_read(Path(name_or_path)), str(name_or_path))
    shipped = _shipped()
    if str(name_or_path) not in shipped:
        raise UnknownName("energy profile", str(name_or_path), shipped)
    return _parse(shipped[str(name_or_path)], str(name_or_path))


def _shipped() -> dict[str, bytes]:
    folder = resources.files("snnc.energy").joinpath("profiles")
    return {
        each.name.removesuffix(".toml"): each.read_bytes()
        for each in folder.iterdir()
        if each.name.endswith(".toml")
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile(
            f"cannot read energy profile {path}: {error.strerror}; "
            f"name a .toml file, or one of: {', '.join(names())}"
        ) from error


def _parse(content: bytes, origin: str) -> Profile:
    try:
        data = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(f"energy profile {origin} is not TOML: {error}; correct it") from error
    top = Table(data, "", [])
    profile = _profile(top)
    if top.issues:
        raise InvalidProfile(origin, top.issues)
    return profile


def _profile(top: Table) -> Profile:
    version = top.number("schema_version")
    if version != SCHEMA:
        top.report("schema_version", f"is {version:g}", f"this snnc reads {SCHEMA}", "version")
    cited = top.table("sources")
    sources = {key: _source(cited.table(key)) for key in cited.data}
    equations = top.choice("equations", Equations)
    unit = top.choice("unit", Unit)
    accounting = top.table("accounting")
    profile = Profile(
        id=top.text("id"),
        title=top.text("title"),
        equations=equations,
        unit=unit,
        node_nm=top.optional_number("node_nm"),
        voltage_v=top.optional_number("voltage_v"),
        baseline=top.optional_choice("baseline", Arithmetic),
        image_passes=accounting.choice("image_passes", ImagePasses),
        prices=_prices(top.table("terms"), equations, unit, sources),
        sources=sources,
        not_modeled=top.texts("not_modeled"),
        validation=tuple(_case(each) for each in top.tables("validation")),
    )
    accounting.close()
    if top.choice("scope", Scope) != profile.scope:
        remedy = f"write {profile.scope.value!r}, or use other equations"
        top.report("scope", f"not that of {equations.value!r} equations", remedy, "scope")
    if profile.baseline and not isinstance(profile.prices.get(Term.MAC), Price):
        top.report("baseline", "e_mac has no price", "price it, or remove baseline", "baseline")
    if profile.baseline and equations is not Equations.ARITHMETIC:
        remedy = "remove it, or use 'arithmetic' equations"
        top.report("baseline", "an ANN has no price in this scope", remedy, "baseline")
    top.close()
    return profile


def _source(table: Table) -> Source:
    source = Source(
        citation=table.text("citation"),
        doi=table.text("doi", default=""),
        read=table.choice("read", Read),
        note=table.text("note", default=""),
    )
    table.close()
    return source


def _prices(
    terms: Table, equations: Equations, unit: Unit, sources: Mapping[str, Source]
) -> dict[Term, Price | Unpublished]:
    """Read the price of every term of the equations, and refuse any other term."""
    allowed = {term.value: term for term in priced_terms(equations)}
    for key in sorted(terms.data.keys() - allowed.keys()):
        if key in {term.value for term in Term}:
            why = f"no term of {equations.value!r} equations"
            if equations is Equations.ALL_IN:
                why = "an all-in price contains it already"
            terms.report(key, why, f"remove it; terms: {', '.join(allowed)}", "term")
        else:
            terms.report(key, "unknown term", nearest(key, allowed), "unknown-key")
    prices = {
        term: _price(terms.table(key), term, unit, sources)
        for key, term in allowed.items()
        if key in terms.data
    }
    for line in LINES[equations]:
        if not any(term in prices for term in line.terms):
            remedy = "add its price, or published = false with a note"
            terms.report(line.terms[-1].value, "missing term", remedy, "missing")
    return prices


def _price(
    table: Table, term: Term, unit: Unit, sources: Mapping[str, Source]
) -> Price | Unpublished:
    if table.data.get("published") is False:
        table.known.add("published")
        unpublished = Unpublished(note=table.text("note"))
        table.close()
        return unpublished
    before = len(table.issues)
    value, low, high = (table.number(key) for key in ("value", "low", "high"))
    if len(table.issues) == before and not low <= value <= high:
        problem = f"{value:g} is outside its band [{low:g}, {high:g}]"
        table.report("value", problem, "keep low <= value <= high", "band")
    price = Price(
        value=value,
        low=low,
        high=high,
        unit=table.text("unit"),
        evidence=table.choice("evidence", Evidence),
        source=table.text("source"),
        locator=table.text("locator"),
        quote=table.text("quote", default=""),
        note=table.text("note", default=""),
    )
    if price.source and price.source not in sources:
        table.report(
            "source", f"no source {price.source!r}", nearest(price.source, sources), "source"
        )
    expected = "W" if term is Term.STATIC else unit.value
    if price.unit and price.unit != expected:
        table.report("unit", f"is {price.unit!r}", f"convert to {expected!r}", "unit")
    table.close()
    return price


def _case(table: Table) -> Case:
    counts = table.table("counts")
    quantities = {quantity.value: quantity for quantity in Quantity}
    case = Case(
        name=table.text("name"),
        counts={quantities[key]: counts.number(key) for key in counts.data if key in quantities},
        expect=table.number("expect"),
        rtol=table.number("rtol"),
    )
    counts.known.update(quantities)
    counts.close()
    table.close()
    return case
