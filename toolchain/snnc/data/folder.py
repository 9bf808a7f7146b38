"""A user's own images: one folder for each split, in it one folder for each class.

    ROOT/train/<class>/*.png          numbers the classes, in the order of their names
    ROOT/test/<class>/*.png
    ROOT/validation/<class>/*.png     may be absent

Without a validation folder, the last tenth of every class's training images in order of
file names validates: rounded down, at least one. Pictures are PNG, JPEG, BMP, PGM, PPM, TIFF
or WebP, all of one size, all grey or all colour with 8 bits; nothing is resized or converted,
because what is measured should be what the user has. Files whose name starts with a dot are
not looked at; any other file is read or refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from snnc.data.dataset import Dataset, Labels, Split
from snnc.data.decode import CHANNELS, Form, decode, forms, refuse
from snnc.data.files import root_of
from snnc.data.holdout import digest
from snnc.errors import InvalidFile, Issue

NAME = "folder"
LAYOUT = "{train,test}/<class>/*.png (and validation/<class>/*.png, if you have it)"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of one split and their classes."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def load_folder(root: Path | None) -> Dataset:
    """Return the images of a folder, split.

    Raises:
        InvalidSetting: no folder is named.
        InvalidFile: a split or all its images are missing.
        Refusal: files that are no pictures or not of the form of the others, classes without
            training images, or classes that training does not know.
        MissingDependency: Pillow is not installed.
    """
    root = root_of(NAME, LAYOUT, root)
    names = _classes(root)
    splits = {
        split: _listing(root / split, names)
        for split in ("train", "validation", "test")
        if split != "validation" or (root / split).is_dir()
    }
    form = _common_form(root, [path for listing in splits.values() for path in listing.paths])
    loaded = {split: _load(root, listing, form) for split, listing in splits.items()}
    total = digest(*loaded.values())
    if "validation" not in loaded:
        last = _last_tenth(root, names, loaded["train"].labels)
        loaded["validation"] = loaded["train"].rows(np.flatnonzero(last))
        loaded["train"] = loaded["train"].rows(np.flatnonzero(~last))
    return Dataset(name=NAME, **loaded, class_names=names, digest=total)


def _classes(root: Path) -> tuple[str, ...]:
    """Return the names of the folders in `train`, in order."""
    if not (root / "train").is_dir():
        raise InvalidFile(f"data set {NAME!r}: {root} has no folder 'train'; expected {LAYOUT}")
    names = tuple(path.name for path in _visible(root / "train") if path.is_dir())
    if len(names) < 2:
        raise InvalidFile(
            f"data set {NAME!r}: {root / 'train'} holds {len(names)} folders, one for each class; "
            "at least 2 are needed"
        )
    return names


def _listing(place: Path, names: tuple[str, ...]) -> Listing:
    """Return the files of a split, class after class, in order of file names.

    Raises:
        InvalidFile: the split is missing or empty.
        Refusal: what lies there is no class of training or no picture, or a class of the
            training split is empty.
    """
    if not place.is_dir():
        raise InvalidFile(f"data set {NAME!r}: {place} is missing; expected {LAYOUT}")
    issues = [
        Issue(str(path), "is no class of train", "move or remove it", "class")
        for path in _visible(place)
        if path.name not in names or not path.is_dir()
    ]
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = _visible(place / name) if (place / name).is_dir() else []
        issues += [
            Issue(str(path), "is no picture", f"use {' '.join(SUFFIXES)}, or remove it", "picture")
            for path in files
            if path.suffix.lower() not in SUFFIXES or not path.is_file()
        ]
        if not files and place.name == "train":
            issues.append(Issue(str(place / name), "is empty", "fill or remove it", "class"))
        paths += files
        labels += [label] * len(files)
    refuse(f"data set {NAME!r} cannot be read", issues)
    if not paths:
        raise InvalidFile(f"data set {NAME!r}: {place} holds no pictures; expected {LAYOUT}")
    return Listing(paths=tuple(paths), labels=tuple(labels))


def _visible(place: Path) -> list[Path]:
    """Return what lies in a folder, in order of names, without names that start with a dot."""
    return sorted(path for path in place.iterdir() if not path.name.startswith("."))


def _common_form(root: Path, paths: list[Path]) -> Form:
    """Return the form of all pictures.

    Raises:
        Refusal: some differ from what most of them are, or all are of a mode that cannot be
            trained on.
    """
    what = f"data set {NAME!r} in {root} cannot be read"
    found = forms(what, paths)
    form = Counter(found).most_common(1)[0][0]
    issues = [
        Issue(str(path), f"is {own}, most are {form}", "convert or remove it", "picture-form")
        for path, own in zip(paths, found, strict=True)
        if own != form
    ]
    if form.mode not in CHANNELS:
        remedy = "convert all to L (8 bits of grey) or RGB (8 bits for each colour)"
        issues.append(Issue("all pictures", f"have mode {form.mode}", remedy, "picture-form"))
    refuse(what, issues)
    return form


def _load(root: Path, listing: Listing, form: Form) -> Split:
    """Return a split's pictures, decoded."""
    return Split(
        pixels=decode(f"data set {NAME!r} in {root} cannot be read", listing.paths, form),
        white=255,
        labels=np.array(listing.labels, dtype=np.int64),
    )


def _last_tenth(root: Path, names: tuple[str, ...], labels: Labels) -> npt.NDArray[np.bool_]:
    """Return which training images validate: the last tenth of each class, at least one."""
    last = np.zeros(len(labels), dtype=np.bool_)
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise InvalidFile(
                f"data set {NAME!r}: {root / 'train' / name} holds 1 picture; without a folder "
                "'validation', every class needs at least 2"
            )
        last[rows[-max(1, len(rows) // 10) :]] = True
    return last
