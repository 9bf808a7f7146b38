"""Digits: 1,797 scans of handwritten digits, 8x8 pixels with 17 grey levels, ten classes.

The data come with scikit-learn (`sklearn.datasets.load_digits`); they are the test part of
E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998, doi:10.24432/C50P49. Pixels k of 0 to 16 become k / 16, exact in float32.

The split is a rule, not a random draw, so no library's generator can change it. Within each
class the scans are ordered by the SHA-256 of their 64 pixel bytes; the first 60 % train, the
next 20 % validate, the rest test, each count rounded down.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from snnc.data.dataset import Dataset, Labels, Pixels, Split, class_balanced
from snnc.errors import InvalidFile, InvalidSetting, MissingDependency

# SHA-256 of the (1797, 8, 8) pixels and then the (1797,) labels, one byte each, in the order of
# scikit-learn; computed from scikit-learn 1.9.1.
DIGEST = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
TRAIN, VALIDATION = 60, 20  # percent of each class; the rest is the test split
WHITE = 16


def load_digits(root: Path | None) -> Dataset:
    """Return the digits, split.

    Raises:
        InvalidSetting: a folder was given; the data come with scikit-learn.
        MissingDependency: scikit-learn is not installed.
        InvalidFile: this scikit-learn holds other data than the published ones.
    """
    if root is not None:
        raise InvalidSetting(
            "data set 'digits' comes with scikit-learn and reads no folder; leave the folder out"
        )
    scans, labels = _read()
    digest = hashlib.sha256(scans.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if digest != DIGEST:
        raise InvalidFile(
            "data set 'digits': scikit-learn's copy differs from the published data "
            f"(SHA-256 {digest[:12]}..., expected {DIGEST[:12]}...); reinstall scikit-learn"
        )
    train, validation, test = _divide(scans, labels)
    return Dataset(
        name="digits",
        train=_split(scans, labels, train),
        validation=_split(scans, labels, validation),
        test=_split(scans, labels, test),
        class_names=tuple("0123456789"),
        digest=digest,
    )


def _read() -> tuple[Pixels, Labels]:
    """Return scans (samples, 8, 8) with values 0 to 16, and labels (samples,)."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingDependency(
            "data set 'digits' needs scikit-learn; try: pip install 'snnc[train]'"
        ) from error
    bunch = datasets.load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


def _divide(scans: Pixels, labels: Labels) -> tuple[list[int], list[int], list[int]]:
    """Return the rows of the train, validation and test split by the rule of this module."""
    keys = [hashlib.sha256(scan.tobytes()).digest() for scan in scans]
    train: list[int] = []
    validation: list[int] = []
    test: list[int] = []
    for label in range(10):
        rows = sorted(np.flatnonzero(labels == label).tolist(), key=lambda row: keys[row])
        first = len(rows) * TRAIN // 100
        second = first + len(rows) * VALIDATION // 100
        train += rows[:first]
        validation += rows[first:second]
        test += rows[second:]
    return train, validation, test


def _split(scans: Pixels, labels: Labels, rows: list[int]) -> Split:
    """Return those rows as images, in class-balanced order."""
    chosen = np.array(rows)
    chosen = chosen[class_balanced(labels[chosen])]
    return Split(pixels=scans[chosen][:, np.newaxis], white=WHITE, labels=labels[chosen])
