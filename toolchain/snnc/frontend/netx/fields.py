"""The fields of one group of a netx file, read as whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import numpy.typing as npt

from snnc.errors import Issue
from snnc.frontend.netx.file import Value
from snnc.frontend.netx.synapses import BYTE
from snnc.ir.weights import Shape

Whole = npt.NDArray[np.int64]

AGAIN = "export the network again"
HUGE = 1 << 31
NEURONS = 1 << 24  # of one layer: 16 million


class Fields:
    """Reads the fields of one group as whole numbers and collects what is wrong with them."""

    def __init__(self, place: str, values: Mapping[str, Value], issues: list[Issue]) -> None:
        self.place, self.values, self.issues = place, values, issues

    def wrong(self, problem: str, remedy: str, code: str) -> None:
        """Add an issue about this layer."""
        self.issues.append(Issue(self.place, problem, remedy, code))

    def only(self, known: set[str]) -> None:
        """Complain about fields that nobody reads: they may mean something."""
        for name in sorted(set(self.values) - known):
            self.wrong(
                f"has a field {name!r} that lava-dl's netx does not read",
                "remove it if it changes nothing",
                "unknown-field",
            )

    def array(self, name: str, default: int | None = None) -> Whole:
        """Return an array of whole numbers; without a default, the field must be there."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                self.wrong(f"has no {name}", AGAIN, "missing-field")
            return np.full((), default or 0, dtype=np.int64)
        if isinstance(value, str):
            self.wrong(f"{name} is the text {value[:20]!r}", "store numbers", "field-type")
            return np.zeros((), dtype=np.int64)
        numbers = value.astype(np.float64)
        if not np.isfinite(numbers).all() or (np.rint(numbers) != numbers).any():
            self.wrong(
                f"{name} holds values that are not whole, lava-dl would cut them off",
                "quantize the network before exporting it (slayer: quantize=True)",
                "not-whole",
            )
            return np.zeros(value.shape, dtype=np.int64)
        if (np.abs(numbers) >= HUGE).any():
            self.wrong(f"{name} exceeds 32 bits", "use smaller values", "range")
            return np.zeros(value.shape, dtype=np.int64)
        return numbers.astype(np.int64)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return one whole number within limits."""
        value = self.array(name, default)
        if value.size != 1:
            self.wrong(
                f"{name} has {value.size} values", "give one for the whole layer", "per-neuron"
            )
            return low
        number = int(value.flat[0])
        if name in self.values and not low <= number <= high:
            self.wrong(f"{name} is {number}, the range is {low} to {high}", AGAIN, "range")
            return low
        return number

    def pair(self, name: str, low: int, default: int | None = None) -> tuple[int, int]:
        """Return (of height, of width): netx takes one number for both."""
        value = self.array(name, default).reshape(-1)
        if len(value) not in (1, 2):
            self.wrong(f"{name} has {len(value)} values", "give height and width", "shape")
            return 1, 1
        if not (low <= value.min() and value.max() <= BYTE):
            problem = f"{name} is {value.tolist()}, lava-nc keeps {low} to {BYTE}"
            self.wrong(problem, AGAIN, "range")
            return 1, 1
        return int(value[0]), int(value[-1])

    def shape(self, dimensions: tuple[int, ...]) -> Shape:
        """Return the shape; an allowed one with a wrong number of dimensions is complained of."""
        value = self.array("shape").reshape(-1)
        if len(value) not in dimensions or not (
            1 <= value.min() and prod(value.tolist()) <= NEURONS
        ):
            self.wrong(
                f"has shape {tuple(value.tolist())}",
                "use (channels, height, width)" + (" or (neurons,)" if 1 in dimensions else ""),
                "shape",
            )
            return (1,) * dimensions[-1]
        return tuple(value.tolist())

    def agrees(self, name: str, wanted: int | tuple[int, ...]) -> None:
        """Complain if a field that netx ignores contradicts those that it reads."""
        if name in self.values:
            found = self.array(name).reshape(-1).tolist()
            if found != np.reshape(wanted, -1).tolist():
                self.wrong(f"{name} is {found}, its weight says {wanted}", AGAIN, "shape")
