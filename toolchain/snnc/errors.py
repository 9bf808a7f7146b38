"""Every error `snnc` raises on purpose. Each one says the place, the fact and the remedy.

A caller may catch `SnncError` and nothing else; the command line prints its text and
leaves with status 1. An `assert` is for what the code itself guarantees.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn


class SnncError(Exception):
    """Base of all deliberate errors."""


@dataclass(frozen=True)
class Issue:
    """One reason something cannot be done, and the way out.

    `code` is stable and meant for machines (for example `weight-range`); `layer` names the
    layer the user wrote. Where a limit is broken, `need` and `limit` say by how much.
    """

    layer: str
    problem: str
    remedy: str
    code: str
    need: int | None = None
    limit: int | None = None

    def __str__(self) -> str:
        return f"{self.layer}: {self.problem}; {self.remedy}"


class Refusal(SnncError):
    """Several reasons at once. Its text is `head` followed by one line for each issue."""

    def __init__(self, head: str, issues: Sequence[Issue]) -> None:
        self.issues = tuple(issues)
        super().__init__(head + ":" + "".join(f"\n  {issue}" for issue in issues))


class InvalidGraph(Refusal):
    """The graph breaks a rule of the float form."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("the graph is not valid", issues)


class InvalidProgram(Refusal):
    """The program breaks a rule of the integer form."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("the program is not valid", issues)


class Unsupported(Refusal):
    """A network uses modules or functions that have no place in the graph."""

    def __init__(self, network: str, issues: Sequence[Issue]) -> None:
        super().__init__(f"cannot convert {network}", issues)


class NotLegal(Refusal):
    """A target cannot run the program."""

    def __init__(self, target: str, issues: Sequence[Issue]) -> None:
        self.target = target
        super().__init__(f"target {target!r} cannot run this program", issues)


class UnknownName(SnncError):
    """Nothing of that kind has that name; the text suggests the nearest, or lists all.

    >>> str(UnknownName("target", "lohi", ["loihi", "reference"]))
    "no target named 'lohi'; did you mean 'loihi'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        super().__init__(f"no {kind} named {name!r}; {nearest(name, known)}")


class InvalidFile(SnncError):
    """A file is missing, damaged, of another kind, or unsafe to read."""


class InvalidSetting(SnncError):
    """A setting is outside what it may be."""


class OutputExists(SnncError):
    """Writing would replace something, and nobody said that it may."""


class CannotWrite(SnncError):
    """The file system refused to write: full, read-only, or not a directory."""


class MissingDependency(SnncError):
    """An optional package is not installed."""


class TargetFailedToLoad(SnncError):
    """A package offers the target, but importing it failed."""


class TargetFailed(SnncError):
    """A target accepted a program and then failed to run it."""


class TrainingFailed(SnncError):
    """Training cannot go on, for example because the loss is not a number."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the second half of an error about a misspelt name.

    >>> nearest("stepz", ["steps", "seed"])
    "did you mean 'steps'?"
    >>> nearest("x", ["b", "a"])
    'known: a, b'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def unreachable(value: NoReturn) -> NoReturn:
    """Close a `match`: the type checker rejects the call if a case is missing."""
    raise AssertionError(f"unhandled case: {value!r}")
