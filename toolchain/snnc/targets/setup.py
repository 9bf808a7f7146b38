"""What a target that needs an installation of its own offers beside `Target`.

Commands ask `isinstance(target, NeedsSetup)`; a target without needs does not implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing a target needs or looked at, and whether it is in order."""

    name: str
    ok: bool
    detail: str  # what was found
    remedy: str  # what to do; empty when `ok`


class NeedsSetup(ABC):
    """A target that runs on something this Python does not bring along."""

    @abstractmethod
    def doctor(self) -> Sequence[Check]:
        """Look at everything the target needs; change nothing. The first check sums up."""

    @abstractmethod
    def setup(self, progress: Callable[[str], None]) -> str:
        """Install what is missing; return one line that says what is there now.

        Does nothing when all is in order. `progress` gets one line for each stage.

        Raises:
            SnncError: it could not be installed; the text says what to do.
        """
