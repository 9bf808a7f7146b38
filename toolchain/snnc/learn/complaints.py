"""What is wrong with a recipe, said in one sentence each: place, fact, way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from snnc.errors import Issue, Refusal, nearest

TAGS = frozenset({"kind", "method"})  # keys that say which member of a union a table is
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "dict_type": "a table",
    "list_type": "a list in brackets",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


class InvalidRecipe(Refusal):
    """A recipe has wrong keys or values; each issue names the key."""

    def __init__(self, origin: str, issues: Sequence[Issue]) -> None:
        super().__init__(f"recipe {origin} is not valid", issues)


def complaints(
    model: type[BaseModel], table: Mapping[str, Any], error: ValidationError
) -> list[Issue]:
    """Return one issue for each of pydantic's errors, in the order of the recipe's fields."""
    return [_issue(model, table, details) for details in error.errors(include_url=False)]


def _issue(model: type[BaseModel], table: Mapping[str, Any], details: ErrorDetails) -> Issue:
    place = _without_tags(table, details)
    name, value, context = ".".join(place), details["input"], details.get("ctx", {})
    bounds = [f"{word} {context[key]:g}" for key, word in BOUNDS.items() if key in context]
    match details["type"]:
        case "extra_forbidden":
            known = _keys(model, table, place[:-1])
            return Issue(name, "is not a key", nearest(place[-1], known), "unknown-key")
        case "missing":
            return Issue(name, "is missing", "add it; a recipe has no defaults", "missing-key")
        case "union_tag_not_found":
            key, tags = _tags(model, table, place)
            remedy = f"add {key} = one of {', '.join(tags)}"
            return Issue(name, f"has no {key}", remedy, "missing-key")
        case "union_tag_invalid":
            key, tags = _tags(model, table, place)
            remedy = nearest(str(context["tag"]), tags)
            return Issue(f"{name}.{key}", f"is {context['tag']!r}", remedy, "unknown-kind")
        case "literal_error":
            known = [word.strip("'") for word in str(context["expected"]).split(" or ")]
            known = [word.strip("' ") for part in known for word in part.split(",")]
            return Issue(name, f"is {value!r}", nearest(str(value), known), "unknown-value")
        case "string_pattern_mismatch":
            remedy = "give letters, digits, spaces, '.', '-' and '_', the first no sign"
            return Issue(name, f"is {value!r}", remedy, "invalid")
        case "value_error":
            return Issue(name, "does not fit together", str(context["error"]), "invalid")
        case _ if bounds:
            return Issue(name, f"is {value!r}", f"take {' and '.join(bounds)}", "out-of-range")
        case kind if kind in KINDS:
            return Issue(name, f"is {value!r}", f"give {KINDS[kind]}", "wrong-type")
        case _:
            return Issue(name, f"is {value!r}", details["msg"].lower(), "invalid")


def _without_tags(table: Mapping[str, Any], details: ErrorDetails) -> list[str]:
    """Return the keys that lead to the error, without the kinds that pydantic inserts."""
    place: list[str] = []
    here: object = table
    for part in details["loc"]:
        if isinstance(here, Mapping) and part in (here.get(tag) for tag in TAGS):
            continue
        place.append(str(part))
        here = _inside(here, part)
    return place


def _inside(here: object, part: str | int) -> object:
    """Return an entry of a table or of a list of tables, None where there is none."""
    if isinstance(here, Mapping):
        return here.get(part)
    if isinstance(here, list) and str(part).isdigit() and int(part) < len(here):
        return here[int(part)]
    return None


def _keys(model: type[BaseModel], table: Mapping[str, Any], place: Sequence[str]) -> list[str]:
    """Return the keys that the table at `place` may have."""
    return list(_candidates(model, table, place)[0].model_fields)


def _tags(
    model: type[BaseModel], table: Mapping[str, Any], place: Sequence[str]
) -> tuple[str, list[str]]:
    """Return the key that says which kind the table at `place` is, and the kinds there are."""
    found = [tag for tag in map(_tag, _candidates(model, table, place)) if tag is not None]
    return found[0][0], [kind for _, kind in found]


def _candidates(
    model: type[BaseModel], table: Mapping[str, Any], place: Sequence[str]
) -> list[type[BaseModel]]:
    """Return the settings classes that the table at `place` may be: one, or all of a union."""
    models, here = [model], cast(object, table)
    for part in place:
        here = _inside(here, part)
        if not part.isdigit():  # an entry of a list is what the list is of
            models = _models(models[0].model_fields[part].annotation)
        models = [m for m in models if _is_of(m, here)] or models
    return models


def _is_of(model: type[BaseModel], here: object) -> bool:
    """Tell whether a table says that it is this member of a union."""
    tag = _tag(model)
    return tag is not None and isinstance(here, Mapping) and here.get(tag[0]) == tag[1]


def _tag(model: type[BaseModel]) -> tuple[str, str] | None:
    """Return key and kind of a member of a union, None of a model that is no member."""
    for key in TAGS:
        if key in model.model_fields:
            return key, str(model.model_fields[key].default)
    return None


def _models(annotation: object) -> list[type[BaseModel]]:
    """Return the settings classes in a field's type: itself, or the members of its union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
