"""Compute what is asked of a program several times once.

A target is asked for the issues of a program, then to emit it, and each needs its partition,
which takes seconds for a large network; the calls share nothing but the program. A program never
changes, so what was computed of it stays true, and is forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from snnc.ir.program import Program

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class OncePerProgram(Generic[Key, Value]):
    """The values of a function of programs and keys; no value may refer to its program."""

    def __init__(self, compute: Callable[[Program, Key], Value]) -> None:
        self._compute = compute
        self._known: WeakKeyDictionary[Program, dict[Key, Value]] = WeakKeyDictionary()

    def __call__(self, program: Program, key: Key) -> Value:
        """Return the value, computed at the first call."""
        known = self._known.setdefault(program, {})
        if key not in known:
            known[key] = self._compute(program, key)
        return known[key]
