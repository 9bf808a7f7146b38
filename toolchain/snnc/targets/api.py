"""The contract between the toolchain and a target.

A target runs a program exactly or refuses it. There is no default target and no
fallback from one to another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from snnc.errors import Issue, NotLegal
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.passes.numbers import Numbers
from snnc.simulate.trace import Trace

Progress = Callable[[int, int], None]  # called with (done, total) samples


class Target(ABC):
    """One place to run programs. Implementations are final and hold no state."""

    name: str
    summary: str  # one line for `snnc targets`
    numbers: Numbers  # the formats it offers, asked by quantize

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


def legalize(target: Target, program: Program) -> Program:
    """Return the program if the target can run all of it, else raise `NotLegal`."""
    if issues := target.issues(program):
        raise NotLegal(target.name, issues)
    return program
