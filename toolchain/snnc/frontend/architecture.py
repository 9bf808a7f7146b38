"""Build a network by the name of its architecture and keyword arguments.

A name without a colon comes from the entry point group `snnc.architectures` of installed
packages. "module:callable" is any importable Python, which runs as soon as it is imported:
that happens only when the caller says that the user asked for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from snnc.errors import InvalidSetting, MissingDependency, SnncError, UnknownName

GROUP = "snnc.architectures"


def available() -> dict[str, EntryPoint]:
    """Map each architecture's name to its entry point. Two packages may not share a name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise InvalidSetting(
                f"two packages offer architecture {point.name!r}: {other.value} and "
                f"{point.value}; uninstall one"
            )
    return found


def build(architecture: str, arguments: Mapping[str, object], *, trust: bool) -> nn.Module:
    """Return a new network, its weights not yet loaded; torch's random state is left as it was.

    Raises:
        UnknownName: no installed package offers the architecture.
        InvalidSetting: "module:callable" without `trust`, it cannot be imported, it does not
            take the arguments, or it returns no module.
        MissingDependency: an installed architecture needs a package that is missing.
    """
    constructor = (
        _imported(architecture, trust) if ":" in architecture else _installed(architecture)
    )
    try:
        with torch.random.fork_rng(devices=[]):
            network = constructor(**arguments)
    except SnncError:
        raise
    except Exception as error:
        raise InvalidSetting(
            f"architecture {architecture!r} failed with arguments {dict(arguments)}: {error}; "
            "pass the arguments that it takes"
        ) from error
    if not isinstance(network, nn.Module):
        raise InvalidSetting(
            f"architecture {architecture!r} returns {type(network).__name__}; "
            "name a callable that returns a torch.nn.Module"
        )
    return network


def _installed(name: str) -> Callable[..., Any]:
    points = available()
    if name not in points:
        raise UnknownName("architecture", name, points)
    try:
        constructor: Callable[..., Any] = points[name].load()
    except ImportError as error:
        raise MissingDependency(
            f"architecture {name!r} needs {error.name!r}; install the package that offers it again"
        ) from error
    return constructor


def _imported(path: str, trust: bool) -> Callable[..., Any]:
    if not trust:
        raise InvalidSetting(
            f"architecture {path!r} is Python code outside of the installed architectures, which "
            f"runs when it is imported; if you trust it, pass --trust (trust=True in Python)"
        )
    module, _, name = path.partition(":")
    try:
        constructor: Callable[..., Any] = attrgetter(name)(importlib.import_module(module))
    except Exception as error:
        raise InvalidSetting(
            f"cannot import architecture {path!r}: {error}; give module:callable, the module in a "
            "folder of PYTHONPATH"
        ) from error
    return constructor
