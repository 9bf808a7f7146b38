"""Compiled kernels, kept on disk under a name that says what they were compiled from.

numba keeps machine code and throws it away when the file of the kernel changes. A kernel is
made of more files than its own: vector code that other modules write, and their constants.
So the name under which it is kept holds a fingerprint of the text of all of them: what
another version of any of them left behind is never found.

The code is kept beside the kernel; where that folder is read-only, in numba's folder in the
user's cache, or in `NUMBA_CACHE_DIR` where that is set. Where none can be written to, every
process compiles anew.
"""

# numba has no types
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

BEYOND = ("semantics/neuron.py",)  # in the package, beside all that lies in this folder


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function when it is first called; it holds no lock of Python."""
    function.__qualname__ += f"_{fingerprint()}"  # numba's name for what it keeps
    try:
        compiled: Callable[..., Any] = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder can be written to
        compiled = numba.njit(nogil=True)(function)
    return compiled


def ingredients() -> list[Path]:
    """Return the files that kernels are made from, in one order."""
    here = Path(__file__).parent
    return sorted(here.glob("*.py")) + [here.parents[1] / name for name in BEYOND]


@cache
def fingerprint() -> str:
    """Return what changes with any of the files that kernels are made from."""
    digest = hashlib.sha256()
    for path in ingredients():
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)} ".encode() + text)
    return digest.hexdigest()[:16]
