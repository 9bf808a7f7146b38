"""Strict reading of tables of TOML or JSON: every problem is recorded, none is passed over.

A reading method that finds a problem records it and returns a value of the right type, so
that reading goes on and one error can list all problems. What is built from such values
must be thrown away; whoever reads the file checks `issues` at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from snnc.errors import Issue, nearest

E = TypeVar("E", bound=Enum)


@dataclass
class Table:
    """One table being read. All tables of a file share one list of issues.

    A JSON null counts as a missing key.
    """

    data: Mapping[str, object]
    place: str
    issues: list[Issue]
    known: set[str] = field(default_factory=set)

    def at(self, key: str) -> str:
        """Return the place of a key in the file."""
        return f"{self.place}.{key}" if self.place else key

    def report(self, key: str, problem: str, remedy: str, code: str) -> None:
        """Record a problem with a key."""
        self.issues.append(Issue(self.at(key), problem, remedy, code))

    def take(self, key: str, kind: str, remedy: str) -> object | None:
        """Return the value of a key that must be there."""
        self.known.add(key)
        if self.data.get(key) is None:
            self.report(key, f"missing {kind}", remedy, "missing")
        return self.data.get(key)

    def has(self, key: str) -> bool:
        """Whether an optional key is there."""
        self.known.add(key)
        return self.data.get(key) is not None

    def text(self, key: str, *, default: str | None = None) -> str:
        """Return a text that is not blank; the default only where the key is absent."""
        if default is not None and not self.has(key):
            return default
        value = self.take(key, "text", "add it")
        if isinstance(value, str) and value.strip():
            return value
        if value is not None:
            self.report(key, f"{value!r} is not text", "write it in quotes", "type")
        return ""

    def number(self, key: str) -> float:
        """Return a finite number that is not negative."""
        value = self.take(key, "number", "add it, or say published = false")
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.report(key, f"{value!r} is not a number", "write a number", "type")
        elif not (math.isfinite(value) and value >= 0):
            self.report(key, f"{value} is no price or count", "write a number from 0", "range")
        else:
            return float(value)
        return 0.0

    def optional_number(self, key: str) -> float | None:
        """Return a number like `number`, or None where the key is absent."""
        return self.number(key) if self.has(key) else None

    def integer(self, key: str) -> int:
        """Return a whole number that is not negative."""
        value = self.take(key, "whole number", "add it")
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        if value is not None:
            self.report(key, f"{value!r} is no count", "write a whole number from 0", "type")
        return 0

    def truth(self, key: str) -> bool:
        """Return a truth value."""
        value = self.take(key, "truth value", "write true or false")
        if value is not None and not isinstance(value, bool):
            self.report(key, f"{value!r} is not true or false", "write one of them", "type")
        return value is True

    def choice(self, key: str, options: type[E]) -> E:
        """Return the member of an enumeration that has this value."""
        allowed = {str(option.value): option for option in options}
        value = self.take(key, "choice", f"write one of: {', '.join(allowed)}")
        if isinstance(value, str) and value in allowed:
            return allowed[value]
        if value is not None:
            self.report(key, f"no choice {value!r}", nearest(str(value), allowed), "choice")
        return next(iter(options))

    def optional_choice(self, key: str, options: type[E]) -> E | None:
        """Return a choice, or None where the key is absent."""
        return self.choice(key, options) if self.has(key) else None

    def table(self, key: str) -> Table:
        """Return a table in this one; an empty one stands in for what is not there."""
        value = self.take(key, "table", f"add [{self.at(key)}]")
        if value is not None and not isinstance(value, dict):
            self.report(key, f"{value!r} is not a table", f"write [{self.at(key)}]", "type")
        data = value if isinstance(value, dict) else {}
        return Table(data, self.at(key), self.issues)

    def tables(self, key: str) -> list[Table]:
        """Return a list of tables, at least one."""
        value = self.take(key, "list of tables", f"add at least one [[{self.at(key)}]]")
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            if value is not None:
                self.report(key, "not a list of tables", f"write [[{self.at(key)}]]", "type")
            return []
        if not value:
            self.report(key, "an empty list", f"add at least one [[{self.at(key)}]]", "missing")
        return [Table(each, f"{self.at(key)}[{i}]", self.issues) for i, each in enumerate(value)]

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, perhaps empty."""
        value = self.take(key, "list of texts", "add it; [] if there is nothing to list")
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        if value is not None:
            self.report(key, f"{value!r} is not a list of texts", 'write ["..."]', "type")
        return ()

    def close(self) -> None:
        """Report every key that nobody asked for."""
        for key in sorted(self.data.keys() - self.known):
            self.report(key, "unknown key", nearest(key, self.known), "unknown-key")
