"""Find targets by name, through the entry points of installed packages.

Nothing is imported until a target is asked for, so a broken plugin harms only the user
who names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from snnc.errors import TargetFailedToLoad, UnknownName
from snnc.targets.api import Target

GROUP = "snnc.targets"
NOTHING: Mapping[str, str] = MappingProxyType({})


def available() -> dict[str, EntryPoint]:
    """Map each target name to its entry point. Two packages may not share a name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise TargetFailedToLoad(
                f"two packages offer target {point.name!r}: {other.value} and {point.value}; "
                "uninstall one"
            )
    return found


def load(name: str, options: Mapping[str, str] = NOTHING) -> Target:
    """Import and return the target called `name`, with the choices of `options` made.

    Raises:
        UnknownName: no installed package offers it, or it offers no such option.
        TargetFailedToLoad: a package offers it and importing it failed.
    """
    points = available()
    if name not in points:
        raise UnknownName("target", name, points)
    try:
        target = points[name].load()
    except ImportError as error:
        raise TargetFailedToLoad(
            f"target {name!r} needs {error.name!r}; install the package that offers it again"
        ) from error
    except Exception as error:
        raise TargetFailedToLoad(
            f"target {name!r} breaks while loading ({type(error).__name__}: {error}); repair or "
            f"uninstall the package of {points[name].value}"
        ) from error
    if not isinstance(target, Target):
        raise TargetFailedToLoad(f"{points[name].value} is {type(target).__name__}, not a Target")
    return target.configured(options)
