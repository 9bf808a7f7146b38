"""snnc lava setup."""

from __future__ import annotations

import click

from snnc.cli.output import emit, json_option, note


@click.group(epilog="Example: snnc lava setup")
def lava() -> None:
    """Set up Lava, which runs the loihi target in a Python 3.10 of its own."""


@lava.command(epilog="Example: snnc lava setup")
@json_option
def setup(as_json: bool) -> None:
    """Make the environment once; does nothing when it is there."""
    from snnc.errors import InvalidSetting
    from snnc.targets import registry
    from snnc.targets.setup import NeedsSetup

    target = registry.load("loihi")
    if not isinstance(target, NeedsSetup):
        raise InvalidSetting("the installed loihi target needs no setup; use it as it is")
    outcome = target.setup(note)
    emit({"lava": outcome}, outcome, as_json=as_json)
