"""The contract between the toolchain and a target.

A target runs a program exactly or refuses it. There is no default target and no
fallback from one to another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snnc.errors import Issue, NotLegal, UnknownName
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.passes.numbers import Numbers
from snnc.simulate.trace import Trace

Progress = Callable[[int, int], None]  # called with (done, total) samples


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One thing that a user of a target may choose, such as how the image gets in."""

    name: str
    values: Mapping[str, str]  # value -> what it does and costs, in one line
    default: str


class Target(ABC):
    """One place to run programs. Implementations are final and immutable."""

    name: str
    summary: str  # one line for `snnc targets`
    choices: Sequence[Choice] = ()

    @property
    @abstractmethod
    def numbers(self) -> Numbers:
        """The formats it offers, asked by quantize."""

    @property
    def options(self) -> Mapping[str, str]:
        """What was chosen, for every choice; a build keeps it."""
        return {}

    def configured(self, options: Mapping[str, str]) -> Target:
        """Return this target with some choices made; `checked_options` refuses what is unknown.

        A target that offers choices overrides this and `options`.
        """
        checked_options(self, options)
        return self

    @abstractmethod
    def issues(self, program: Program) -> Sequence[Issue]:
        """Return every reason this target cannot run the program; empty when it can."""

    @abstractmethod
    def emit(self, program: Program, directory: Path) -> Mapping[str, object]:
        """Write the target's files into an existing empty directory; return the mapping report.

        The report is JSON: what each layer became, and why. The program itself and a manifest
        with checksums are written by `snnc.targets.build`, not here.
        """

    @abstractmethod
    def execute(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        raster: bool,
        progress: Progress | None = None,
    ) -> Trace:
        """Run the emitted files on encoded images (samples, *shape) of the same program.

        A target with a pipeline delay removes it here, so that results of any two targets
        compare step by step.

        Raises:
            TargetFailed: the run broke; the text holds the reason and what to do.
        """


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How another tool is called on an exported file."""

    facts: Mapping[str, object]  # JSON, for programs
    lines: Sequence[str]  # the same for people


class Exporter(ABC):
    """One file format of another tool. Implementations are final and immutable."""

    name: str
    summary: str  # one line: whose format it is

    @abstractmethod
    def issues(self, program: Program) -> Sequence[Issue]:
        """Return every reason the format cannot express the program; empty when it can."""

    @abstractmethod
    def write(self, program: Program, path: Path, *, force: bool) -> Usage:
        """Write a program without issues to a file; say how the other tool runs it.

        Raises:
            MissingDependency: what writes the format is not installed.
            OutputExists, CannotWrite.
        """


def checked_options(target: Target, options: Mapping[str, str]) -> Mapping[str, str]:
    """Return the value of every choice of a target: from `options`, else its default.

    Raises:
        UnknownName: the target offers no such choice, or the choice no such value.
    """
    offered = {choice.name: choice for choice in target.choices}
    for name, value in options.items():
        if name not in offered:
            raise UnknownName(f"option of target {target.name!r}", name, offered)
        if value not in offered[name].values:
            raise UnknownName(
                f"value of option {name!r} of target {target.name!r}", value, offered[name].values
            )
    return {name: options.get(name, choice.default) for name, choice in offered.items()}


def legalize(target: Target, program: Program) -> Program:
    """Return the program if the target can run all of it, else raise `NotLegal`."""
    if issues := target.issues(program):
        raise NotLegal(target.name, issues)
    return program
