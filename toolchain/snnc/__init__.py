"""Train, convert, compile, attack and price robust sparse spiking networks.

The functions named here live in `snnc.api` and are imported when first used, so that
`import snnc` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snnc.api import Build as Build
    from snnc.api import compile as compile
    from snnc.api import count as count
    from snnc.api import load as load
    from snnc.api import load_build as load_build
    from snnc.api import run as run

__version__ = "0.1.0"
_API = ("Build", "compile", "count", "load", "load_build", "run")


def __getattr__(name: str) -> object:
    if name in _API:
        return getattr(import_module("snnc.api"), name)
    raise AttributeError(f"module 'snnc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
