"""The data sets that `snnc` knows, by name: one line for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from snnc.data.cifar import load_cifar10, load_cifar100
from snnc.data.dataset import Dataset
from snnc.data.digits import load_digits
from snnc.data.folder import load_folder
from snnc.data.mnist import load_fashion_mnist, load_mnist
from snnc.data.svhn import load_svhn
from snnc.data.tinyimagenet import load_tinyimagenet
from snnc.errors import UnknownName

# A loader gets the folder that holds the files of its data set. None means the folder that
# SNNC_DATA names; a set that is bundled with a package refuses a folder.
Loader = Callable[[Path | None], Dataset]

LOADERS: dict[str, Loader] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "folder": load_folder,
    "mnist": load_mnist,
    "svhn": load_svhn,
    "tinyimagenet": load_tinyimagenet,
}


def names() -> tuple[str, ...]:
    """Return the names that `load` knows.

    >>> names()
    ('cifar10', 'cifar100', 'digits', 'fashion_mnist', 'folder', 'mnist', 'svhn', 'tinyimagenet')
    """
    return tuple(sorted(LOADERS))


def load(name: str, *, root: str | Path | None = None) -> Dataset:
    """Return the data set of that name; `root` is the folder with its files.

    Without a root, the environment variable SNNC_DATA names it.

    Raises:
        UnknownName: no data set has that name; the text suggests the nearest.
        InvalidSetting: this data set reads no folder, or needs one.
        InvalidFile: the data are missing, damaged or not the published ones.
        Refusal: pictures are missing, damaged or unlike the others; the text lists them.
        MissingDependency: a package that reads or holds the data is not installed.
    """
    if name not in LOADERS:
        raise UnknownName("data set", name, names())
    return LOADERS[name](None if root is None else Path(root))
