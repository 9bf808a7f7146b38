"""What a target that lays a program out on a chip's cores offers beside `Target`.

Commands ask `isinstance(target, MapsCores)`; a target without cores does not implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from snnc.errors import Issue
from snnc.ir.program import Program


class MapsCores(ABC):
    """A target that knows which cores of which chips hold a program."""

    @abstractmethod
    def picture(self, program: Program) -> str | None:
        """Return an SVG drawing of the cores; None where the program does not fit on them."""

    @abstractmethod
    def too_many_chips(self, program: Program, chips: int) -> Sequence[Issue]:
        """Return why the program needs more than so many chips; empty when it does not."""
