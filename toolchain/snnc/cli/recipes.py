"""snnc recipes."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.output import emit, json_option


@click.command(epilog="Example: snnc recipes digits > mine.toml")
@click.argument("name", required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List the installed recipes with what to expect and what it costs; print one by NAME.

    NAME may also be the path of a TOML file: --json shows what it extends to.
    """
    from snnc.learn.recipes import available, load_recipe

    texts = available()
    if name is None:
        found = {each: load_recipe(each) for each in texts}
        listed = {
            each: None if recipe.about is None else recipe.about.model_dump()
            for each, recipe in found.items()
        }
        lines = [
            f"{each}: no description"
            if about is None
            else f"{each}: {about['title']}\n  expect {about['expected']}\n  costs {about['cost']}"
            for each, about in listed.items()
        ]
        emit({"recipes": listed}, "\n".join(lines), as_json=as_json)
        return
    recipe = load_recipe(name).model_dump(mode="json")
    text = texts[name].decode() if name in texts else Path(name).read_text()
    emit({"name": name, "recipe": recipe, "text": text}, text.rstrip(), as_json=as_json)
