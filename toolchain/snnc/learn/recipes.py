"""Recipes: everything that decides what a training run computes, in one strict TOML file.

A recipe is complete: nothing has a default, an unknown key is an error, and all errors of
a file are told at once. A recipe is named (`digits`, found through the entry point group
`snnc.recipes`, whose values are packages of TOML files) or is the path of a file.

With `extends = "name"` a file says only what differs from another recipe: its tables are
merged into the other's key by key, except that a table which names its `kind`, `method` or
`architecture` replaces the other's, whose keys might not fit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from snnc.errors import InvalidFile, InvalidSetting, UnknownName
from snnc.ir.files import read_bytes
from snnc.learn.augment import Augmentation
from snnc.learn.complaints import TAGS, InvalidRecipe, complaints
from snnc.learn.convert import Convert
from snnc.learn.fit import Training
from snnc.learn.objectives import Objective
from snnc.learn.prune import Prune
from snnc.learn.settings import Count, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHOLE = TAGS | {"architecture"}  # keys of tables that replace another: the rest may not fit
GROUP = "snnc.recipes"

Table = dict[str, Any]  # a TOML document or a table of it, not yet judged


class About(Settings):
    """What a person wants to know before starting a run; nothing here changes a result."""

    title: str
    expected: str  # the numbers to expect, and whose they are
    cost: str  # measured or estimated, and on what


class Data(Settings):
    """Which images train the network, and how they are varied."""

    name: str
    samples: Count | None = None  # the first of the training split, class-balanced; else all
    augment: list[Augmentation]


class Model(Settings):
    """Which architecture (entry point group `snnc.architectures`), called with what."""

    architecture: str
    arguments: dict[str, Any]


class Twin(Settings):
    """A second run of all stages that differs in its objective only."""

    objective: Objective


class Recipe(Settings):
    """One reproducible result. Stages run in the order of their fields; absent ones do not."""

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^\w[\w .-]*$")]  # also names the default directory
    about: About | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: Data
    model: Model
    train: Training | None = None  # the dense ReLU network
    prune: Prune | None = None
    convert: Convert
    finetune: Training | None = None  # the spiking network
    direct: Training | None = None  # the spiking network again, with another objective
    twin: Twin | None = None


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of that name or path, with `key=value` overrides applied in order.

    A source is a path if it is a `Path`, ends in `.toml` or contains a slash.

    Raises:
        UnknownName: no installed package has a recipe of that name.
        InvalidFile: the file cannot be read or is not TOML.
        InvalidSetting: an override is not `key=value`, or its key leads nowhere.
        InvalidRecipe: keys or values are wrong; all are listed.
    """
    table = read_recipe(source)
    for assignment in overrides:
        table = override(table, assignment)
    return check_recipe(table, origin=str(source))


def read_recipe(source: str | Path) -> Table:
    """Return a recipe as TOML tables, with what it extends, not judged.

    Raises as `load_recipe` does, and InvalidFile if recipes extend each other in a circle.
    """
    return _read(source, ())


def _read(source: str | Path, extended_by: tuple[str, ...]) -> Table:
    if str(source) in extended_by:
        circle = " extends ".join((*extended_by, str(source)))
        raise InvalidFile(f"recipe {circle}; take out one `extends`")
    table = _parsed(source)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise InvalidFile(f"recipe {source}: extends is {base!r}; name a recipe or a .toml file")
    if _is_path(base) and _is_path(source):  # a path is relative to the file that says it
        base = str(Path(source).parent / base)
    return merged(_read(base, (*extended_by, str(source))), table)


def _parsed(source: str | Path) -> Table:
    if _is_path(source):
        content = read_bytes(Path(source), "a recipe (.toml)")
    else:
        known = available()
        if str(source) not in known:
            raise UnknownName("recipe", str(source), known)
        content = known[str(source)]
    try:
        table: Table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(f"recipe {source} is not TOML: {error}; correct that place") from error
    return table


def _is_path(source: str | Path) -> bool:
    return isinstance(source, Path) or source.endswith(".toml") or "/" in source or "\\" in source


def merged(base: Table, changes: Table) -> Table:
    """Return the tables with changes merged in.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    >>> merged({"a": {"kind": "x", "c": 2}}, {"a": {"kind": "y"}})
    {'a': {'kind': 'y'}}
    """
    result = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not WHOLE & value.keys():
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def available() -> dict[str, bytes]:
    """Map the name of each installed recipe to its text; the first package with a name wins."""
    found: dict[str, bytes] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        for file in sorted(files(point.value).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                found.setdefault(file.name.removesuffix(".toml"), file.read_bytes())
    return found


def override(table: Table, assignment: str) -> Table:
    """Return a copy of the tables with one value replaced or added.

    The value is read as TOML; what is not TOML is taken as text.

    >>> override({"train": {"epochs": 20}}, "train.epochs=3")
    {'train': {'epochs': 3}}
    >>> override({"data": "digits"}, "data=mnist")
    {'data': 'mnist'}

    Raises:
        InvalidSetting: there is no `=`, or the key goes through something that is no table.
    """
    path, equals, text = assignment.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise InvalidSetting(f"{assignment!r} sets nothing; write key=value, e.g. train.epochs=3")
    return _replaced(table, keys, _value(text.strip()), assignment)


def check_recipe(table: Table, *, origin: str) -> Recipe:
    """Return the recipe that the tables describe.

    Raises:
        InvalidRecipe: keys or values are wrong; all are listed, with the nearest valid key.
    """
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise InvalidRecipe(origin, complaints(Recipe, table, error)) from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line for each value that two recipes (as JSON) do not share.

    >>> differences({"train": {"epochs": 3}}, {"train": {"epochs": 4}})
    ['train.epochs: 3 before, 4 now']
    """
    before, now = _flat(old), _flat(new)
    return [
        f"{key}: {before.get(key, 'absent')} before, {now.get(key, 'absent')} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, "absent") != now.get(key, "absent")
    ]


def _replaced(table: Table, keys: Sequence[str], value: object, assignment: str) -> Table:
    key, *rest = keys
    if not rest:
        return {**table, key: value}
    inner = table.get(key, {})
    if not isinstance(inner, dict):
        raise InvalidSetting(f"{assignment!r}: {key} is {inner!r}, not a table; end the key there")
    return {**table, key: _replaced(inner, rest, value, assignment)}


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _flat(value: object, place: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {place: value}
    found: dict[str, object] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{place}.{key}" if place else key)
    return found
