"""snnc targets."""

from __future__ import annotations

import click

from snnc.cli.output import emit, json_option, table


@click.command(epilog="Example: snnc targets --json")
@json_option
def targets(as_json: bool) -> None:
    """List the installed targets, and what each lets you choose (snnc compile --option)."""
    from snnc.targets import registry

    found = [registry.load(name) for name in sorted(registry.available())]
    choices = [
        (target.name, choice, value)
        for target in found
        for choice in target.choices
        for value in choice.values
    ]
    rows = [
        (name, f"{choice.name}={value}", _meaning(choice.values[value], value == choice.default))
        for name, choice, value in choices
    ]
    parts = [table(["target", "what it is"], [(target.name, target.summary) for target in found])]
    if rows:
        parts.append(table(["target", "option", "what it does"], rows))
    emit(
        {
            "targets": [
                {
                    "name": target.name,
                    "summary": target.summary,
                    "choices": [
                        {
                            "name": choice.name,
                            "values": dict(choice.values),
                            "default": choice.default,
                        }
                        for choice in target.choices
                    ],
                }
                for target in found
            ]
        },
        "\n\n".join(parts),
        as_json=as_json,
    )


def _meaning(text: str, is_default: bool) -> str:
    return f"{text} (default)" if is_default else text
