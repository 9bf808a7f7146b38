"""A command group that imports a command only when it runs, so that --help is quick."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

from snnc.errors import nearest


class LazyGroup(click.Group):
    """A group whose commands are named by module, attribute and one line of help."""

    commands_by_name: Mapping[str, tuple[str, str, str]] = {}

    @classmethod
    def of(cls, table: Mapping[str, tuple[str, str, str]]) -> type[LazyGroup]:
        """Return a group class with these commands."""
        return type("Commands", (cls,), {"commands_by_name": table})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the chain, not of the alphabet."""
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or fail with the nearest name."""
        if cmd_name not in self.commands_by_name:
            hint = nearest(cmd_name, self.commands_by_name)
            raise click.UsageError(f"no command named {cmd_name!r}; {hint}", ctx)
        module, attribute, _ = self.commands_by_name[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - as the table says
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, text) for name, (_, _, text) in self.commands_by_name.items()]
            )
