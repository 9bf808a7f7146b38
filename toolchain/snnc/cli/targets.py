"""snnc targets."""

from __future__ import annotations

import click

from snnc.cli.output import emit, json_option, table


@click.command(epilog="Example: snnc targets --json")
@json_option
def targets(as_json: bool) -> None:
    """List the installed targets."""
    from snnc.targets import registry

    found = {name: registry.load(name) for name in sorted(registry.available())}
    rows = [(name, target.summary) for name, target in found.items()]
    emit(
        {"targets": [{"name": name, "summary": text} for name, text in rows]},
        table(["target", "what it is"], rows),
        as_json=as_json,
    )
