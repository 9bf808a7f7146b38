"""What is wrong with a recipe, said in one sentence each: place, fact, way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from snnc.errors import Issue, Refusal, nearest

BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "dict_type": "a table",
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
            remedy = f"add kind = one of {', '.join(_tags(model, place))}"
            return Issue(name, "has no kind", remedy, "missing-key")
        case "union_tag_invalid":
            remedy = nearest(str(context["tag"]), _tags(model, place))
            return Issue(f"{name}.kind", f"is {context['tag']!r}", remedy, "unknown-kind")
        case "literal_error":
            known = [word.strip("'") for word in str(context["expected"]).split(" or ")]
            known = [word.strip("' ") for part in known for word in part.split(",")]
            return Issue(name, f"is {value!r}", nearest(str(value), known), "unknown-value")
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
        if isinstance(here, Mapping) and here.get("kind") == part:
            continue
        place.append(str(part))
        here = here.get(part) if isinstance(here, Mapping) else None
    return place


def _keys(model: type[BaseModel], table: Mapping[str, Any], place: Sequence[str]) -> list[str]:
    """Return the keys that the table at `place` may have."""
    here: object = table
    for part in place:
        here = here[part] if isinstance(here, Mapping) else None
        models = _models(model.model_fields[part].annotation)
        kind = here.get("kind") if isinstance(here, Mapping) else None
        model = next((m for m in models if _tag(m) == kind), models[0])
    return list(model.model_fields)


def _tags(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    """Return the kinds that the table at `place` may be."""
    models = [model]
    for part in place:
        models = _models(models[0].model_fields[part].annotation)
    return [tag for tag in map(_tag, models) if tag is not None]


def _tag(model: type[BaseModel]) -> str | None:
    """Return the kind of a member of a union, None of a model that is no member."""
    field = model.model_fields.get("kind")
    return None if field is None else str(field.default)


def _models(annotation: object) -> list[type[BaseModel]]:
    """Return the settings classes in a field's type: itself, or the members of its union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
