"""What a target that runs in processes of its own offers beside `Target`.

Commands ask `isinstance(target, RunsOutside)`; a target that runs in this process does not
implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from snnc.errors import InvalidSetting
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.simulate.trace import Trace
from snnc.targets.api import Progress


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How to run: what executes it, how many at once, how long to wait. No field changes a result.

    `workers` None leaves the number to the target; `timeout` is how many seconds may pass
    without one more finished sample, None for the target's own patience.
    """

    engine: str
    workers: int | None
    timeout: float | None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InvalidSetting(f"workers is {self.workers}; at least one has to run")
        if self.timeout is not None and not self.timeout > 0:
            raise InvalidSetting(f"timeout is {self.timeout:g} s; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What a run ran on."""

    interpreter: str  # the program that executed it, with its version
    workers: int


class RunsOutside(ABC):
    """A target that runs programs in processes of its own."""

    @property
    @abstractmethod
    def engines(self) -> Mapping[str, str]:
        """What `Manner.engine` may be -> what it is, in one line."""

    @abstractmethod
    def execute_outside(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        manner: Manner,
        raster: bool,
        progress: Progress | None = None,
    ) -> tuple[Trace, Outside]:
        """Run as `Target.execute` does, in the manner asked for; say what it ran on.

        Raises:
            UnknownName: there is no such engine.
            MissingDependency, InvalidSetting, TargetFailed: as `Target.execute`.
        """
