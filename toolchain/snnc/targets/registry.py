"""Find targets and exporters by name, through the entry points of installed packages.

Nothing is imported until one is asked for, so a broken plugin harms only the user who names
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from snnc.errors import TargetFailedToLoad, UnknownName
from snnc.targets.api import Exporter, Target

GROUP = "snnc.targets"
EXPORTERS = "snnc.exporters"
NOTHING: Mapping[str, str] = MappingProxyType({})
_KIND = {GROUP: "target", EXPORTERS: "format"}


def available(group: str = GROUP) -> dict[str, EntryPoint]:
    """Map each name of a group to its entry point. Two packages may not share a name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise TargetFailedToLoad(
                f"two packages offer {_KIND[group]} {point.name!r}: {other.value} and "
                f"{point.value}; uninstall one"
            )
    return found


def load(name: str, options: Mapping[str, str] = NOTHING) -> Target:
    """Import and return the target called `name`, with the choices of `options` made.

    Raises:
        UnknownName: no installed package offers it, or it offers no such option.
        TargetFailedToLoad: a package offers it and importing it failed.
    """
    point, target = _loaded(GROUP, name)
    if not isinstance(target, Target):
        raise TargetFailedToLoad(f"{point.value} is {type(target).__name__}, not a Target")
    return target.configured(options)


def load_exporter(name: str) -> Exporter:
    """Import and return the exporter of the format called `name`.

    Raises:
        UnknownName: no installed package offers it.
        TargetFailedToLoad: a package offers it and importing it failed.
    """
    point, exporter = _loaded(EXPORTERS, name)
    if not isinstance(exporter, Exporter):
        raise TargetFailedToLoad(f"{point.value} is {type(exporter).__name__}, not an Exporter")
    return exporter


def _loaded(group: str, name: str) -> tuple[EntryPoint, object]:
    points, kind = available(group), _KIND[group]
    if name not in points:
        raise UnknownName(kind, name, points)
    point = points[name]
    try:
        return point, point.load()
    except ImportError as error:
        raise TargetFailedToLoad(
            f"{kind} {name!r} needs {error.name!r}; install the package that offers it again"
        ) from error
    except Exception as error:
        raise TargetFailedToLoad(
            f"{kind} {name!r} breaks while loading ({type(error).__name__}: {error}); repair or "
            f"uninstall the package of {point.value}"
        ) from error
