"""What every command prints, and how."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Add --json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."
    )(command)


def force_option(command: F) -> F:
    """Add --force."""
    return click.option("--force", is_flag=True, help="Replace what the output path holds.")(
        command
    )


def emit(result: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """Print a result: as JSON for machines, or its text for people."""
    click.echo(json.dumps(result, indent=1, allow_nan=False) if as_json else text)


def note(text: str) -> None:
    """Tell a person what happens, on standard error."""
    click.echo(text, err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under their columns as text; numbers to the right.

    >>> print(table(["layer", "spikes"], [["conv1", 12], ["fc", 3]]))
    layer  spikes
    conv1      12
    fc          3
    """
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(columns))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function (done, total) that moves a bar on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
