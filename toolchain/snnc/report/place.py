"""Reading JSON strictly: every error says in which file, at which key, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import NoReturn, TypeVar

from snnc.errors import InvalidFile, nearest
from snnc.ir.files import read_bytes

KIND = "the metrics.json that snnc demo writes into its run directory"
T = TypeVar("T")
E = TypeVar("E", bound=Enum)


def read_json(path: Path) -> Place:
    """Return the content of a JSON file.

    Raises:
        InvalidFile: the file is missing or not JSON.
    """
    try:
        content = json.loads(read_bytes(path, KIND), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path}: not JSON ({error}); run the recipe again") from error
    return Place(path, "", content)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


@dataclass(frozen=True)
class Place:
    """One value in the file, and where it stands."""

    file: Path
    name: str
    value: object

    def fail(self, fact: str, remedy: str = "run the recipe again") -> NoReturn:
        """Raise the one error of this module."""
        raise InvalidFile(f"{self.file}: {self.name or 'the file'} {fact}; {remedy}")

    def within(self, key: str | int, value: object) -> Place:
        """Return a value inside this one."""
        inner = f"{self.name}[{key}]" if isinstance(key, int) else f"{self.name}.{key}".lstrip(".")
        return Place(self.file, inner, value)

    def entries(self) -> dict[str, Place]:
        """Return the members of a JSON object with any keys."""
        if not isinstance(self.value, dict):
            self.fail("is not an object")
        return {key: self.within(key, value) for key, value in self.value.items()}

    def some(self, required: Collection[str]) -> dict[str, Place]:
        """Return the members of a JSON object; keys that are not asked for are left alone."""
        found = self.entries()
        if missing := [key for key in required if key not in found]:
            self.fail(f"lacks {', '.join(map(repr, missing))}")
        return found

    def members(
        self, required: Collection[str], optional: Collection[str] = ()
    ) -> dict[str, Place]:
        """Return the members of a JSON object with known keys; an optional null is absent."""
        found = self.some(required)
        known = (*required, *optional)
        if foreign := [key for key in found if key not in known]:
            self.fail(f"has the unknown key {foreign[0]!r}", nearest(foreign[0], known))
        return {
            key: place for key, place in found.items() if key in required or place.value is not None
        }

    def items(self, read: Callable[[Place], T]) -> tuple[T, ...]:
        """Read each item of a JSON array."""
        if not isinstance(self.value, list):
            self.fail("is not an array")
        return tuple(read(self.within(i, value)) for i, value in enumerate(self.value))

    def named(self, read: Callable[[Place], T]) -> dict[str, T]:
        """Read each member of a JSON object with any keys."""
        return {key: read(place) for key, place in self.entries().items()}

    def text(self) -> str:
        """Read a string."""
        if not isinstance(self.value, str):
            self.fail("is not a string")
        return self.value

    def number(self) -> float:
        """Read a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.fail("is not a number")
        try:
            value = float(self.value)
        except OverflowError:
            self.fail("is too large")
        if not isfinite(value):  # 1e999 is JSON
            self.fail("is too large")
        return value

    def amount(self) -> float:
        """Read a number that is not negative."""
        value = self.number()
        if value < 0:
            self.fail(f"is {value:g}, less than 0")
        return value

    def share(self) -> float:
        """Read a number from 0 to 1."""
        value = self.number()
        if not 0.0 <= value <= 1.0:
            self.fail(f"is {value:g}, not from 0 to 1")
        return value

    def whole(self) -> int:
        """Read an integer that is not negative."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            self.fail("is not a whole number of at least 0")
        return self.value

    def optional(self, read: Callable[[Place], T]) -> T | None:
        """Read a value that may be null."""
        return None if self.value is None else read(self)

    def choice(self, options: type[E]) -> E:
        """Read the value of an enum."""
        allowed = {option.value: option for option in options}
        text = self.text()
        if text not in allowed:
            self.fail(f"is {text!r}", nearest(text, allowed))
        return allowed[text]

    def scalar(self) -> str | float | bool | None:
        """Read a string, a number, true, false or null."""
        if self.value is None or isinstance(self.value, str | bool):
            return self.value
        return self.number()

    def plain(self) -> Mapping[str, object]:
        """Return a JSON object as it is."""
        return {key: place.value for key, place in self.entries().items()}
