"""The data sets that `snnc` knows, by name: one line for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from snnc.data.dataset import Dataset
from snnc.data.digits import load_digits
from snnc.errors import UnknownName

# A loader gets the folder that holds the files of its data set; None means the loader's own
# place. A set that is bundled with a package refuses a folder, one that is not refuses None.
Loader = Callable[[Path | None], Dataset]

LOADERS: dict[str, Loader] = {
    "digits": load_digits,
}


def names() -> tuple[str, ...]:
    """Return the names that `load` knows.

    >>> names()
    ('digits',)
    """
    return tuple(sorted(LOADERS))


def load(name: str, *, root: Path | None = None) -> Dataset:
    """Return the data set of that name; `root` is the folder with its files.

    Raises:
        UnknownName: no data set has that name; the text suggests the nearest.
        InvalidSetting: this data set reads no folder, or needs one.
        InvalidFile: the data are missing, damaged or not the published ones.
        MissingDependency: a package that reads or holds the data is not installed.
    """
    if name not in LOADERS:
        raise UnknownName("data set", name, names())
    return LOADERS[name](root)
