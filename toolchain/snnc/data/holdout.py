"""The validation split, cut from the training files by a rule.

The last images of every class, in the order of the files, validate; no generator is drawn
from, so no library's version can change which. The published test files are the test split,
and nothing is chosen by looking at them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snnc.data.dataset import Dataset, Labels, Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """The splits as they were published."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]


def hold_out(published: Published, each: int) -> Dataset:
    """Return the data set whose validation split is the last `each` images of every class."""
    last = last_of_class(published.train.labels, each)
    return Dataset(
        name=published.name,
        train=published.train.rows(np.flatnonzero(~last)),
        validation=published.train.rows(np.flatnonzero(last)),
        test=published.test,
        class_names=published.class_names,
        digest=digest(published.train, published.test),
    )


def last_of_class(labels: Labels, each: int) -> npt.NDArray[np.bool_]:
    """Return which samples are among the last `each` of their class.

    >>> last_of_class(np.array([1, 0, 0, 1, 0]), 1).tolist()
    [False, False, False, True, True]
    """
    last = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        last[rows[max(0, len(rows) - each) :]] = True
    return last


def digest(*splits: Split) -> str:
    """Return the SHA-256 of splits as published: of each its pixels, then its labels.

    Pixels are bytes in the order (samples, channels, height, width), labels 64-bit integers,
    lowest byte first.
    """
    total = hashlib.sha256()
    for split in splits:
        total.update(np.ascontiguousarray(split.pixels).data)
        total.update(split.labels.astype("<i8").data)
    return total.hexdigest()
