"""TinyImageNet: 64x64 colour images in 200 classes, one JPEG file each.

Stanford CS231n, `tiny-imagenet-200.zip`. 100,000 training images, of which the last 25 of
every class in order of file names validate (`holdout`). The labels of the published test
files are secret, so the published validation files are the test split, as everywhere.

The publisher states no checksum of the single files. Names, counts and sizes are checked
instead, and every file must decode; `digest` tells whether two copies decode to the same. A
JPEG decoder may round in its own way, so digests compare only under the same Pillow. Some
files are grey: their three channels are equal. Loading decodes 110,000 files at about 0.2 ms
each (one core, files in the disk's cache), some 25 s in all, and keeps no copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnc.data.dataset import Dataset, Split
from snnc.data.decode import Form, decode, refuse
from snnc.data.files import root_of
from snnc.data.holdout import Published, hold_out
from snnc.errors import InvalidFile, Issue

NAME = "tinyimagenet"
FOLDER = "tiny-imagenet-200"
LAYOUT = (
    f"{FOLDER}/{{words.txt, train/<class>/images/*.JPEG, val/val_annotations.txt, "
    "val/images/*.JPEG}"
)
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many of everything there must be."""

    classes: int
    train: int  # images of each class
    test: int  # images of each class
    held_out: int  # training images of each class that validate
    form: Form


PUBLISHED = Counts(
    classes=200, train=500, test=50, held_out=25, form=Form(width=64, height=64, mode="RGB")
)


def load_tinyimagenet(root: Path | None) -> Dataset:
    """Return TinyImageNet, split; classes are numbered in the order of their WordNet ids.

    Raises:
        InvalidSetting: no folder is named.
        InvalidFile: the files are not there.
        Refusal: some are missing, damaged, or of another size.
        MissingDependency: Pillow is not installed.
    """
    return load_counted(PUBLISHED, root)


def load_counted(counts: Counts, root: Path | None) -> Dataset:
    """Return a set in TinyImageNet's layout that has exactly these counts."""
    place = _place(root_of(NAME, LAYOUT, root))
    words = sorted(path.name for path in (place / "train").iterdir() if path.is_dir())
    train = [(path, label) for label, word in enumerate(words) for path in _train(place, word)]
    test = _test(place, {word: label for label, word in enumerate(words)})
    what = f"data set {NAME!r} in {place} is not whole"
    refuse(what, _miscounts(counts, words, train, test))
    published = Published(
        name=NAME,
        train=_split(what, train, counts.form),
        test=_split(what, test, counts.form),
        class_names=_class_names(place, words),
    )
    return hold_out(published, counts.held_out)


Labelled = list[tuple[Path, int]]


def _place(root: Path) -> Path:
    """Return the folder that holds `words.txt`, `train` and `val`."""
    for place in (root / FOLDER, root):
        if (place / "val" / "val_annotations.txt").is_file() and (place / "train").is_dir():
            return place
    raise InvalidFile(
        f"data set {NAME!r} is not in {root}; expected {LAYOUT} there; download {URL} and unzip it"
    )


def _train(place: Path, word: str) -> list[Path]:
    """Return the training images of a class, in order of their names."""
    return sorted((place / "train" / word / "images").glob("*.JPEG"))


def _test(place: Path, labels: dict[str, int]) -> Labelled:
    """Return the images that `val_annotations.txt` lists: name, class, and a box in each line."""
    annotations = place / "val" / "val_annotations.txt"
    found: Labelled = []
    issues: list[Issue] = []
    for number, line in enumerate(_lines(annotations), start=1):
        name, *rest = line.split("\t")
        if rest and rest[0] in labels:
            found.append((place / "val" / "images" / name, labels[rest[0]]))
        else:
            issues.append(
                Issue(f"line {number}", "names no class of train", "unzip it again", "annotation")
            )
    refuse(f"{annotations} is damaged", issues)
    return found


def _miscounts(counts: Counts, words: list[str], train: Labelled, test: Labelled) -> list[Issue]:
    """Return what is missing or too much."""
    issues = []
    if len(words) != counts.classes:
        issues.append(
            Issue("train", f"{len(words)} classes of {counts.classes}", "unzip it again", "count")
        )
    for split, images, each in (("train", train, counts.train), ("val", test, counts.test)):
        sizes = np.bincount([label for _, label in images], minlength=len(words))
        issues += [
            Issue(f"{split} {word}", f"{size} images of {each}", "unzip it again", "count")
            for word, size in zip(words, sizes.tolist(), strict=True)
            if size != each
        ]
    return issues


def _split(what: str, images: Labelled, form: Form) -> Split:
    """Return decoded images."""
    return Split(
        pixels=decode(what, [path for path, _ in images], form),
        white=255,
        labels=np.array([label for _, label in images], dtype=np.int64),
    )


def _class_names(place: Path, words: list[str]) -> tuple[str, ...]:
    """Return what `words.txt` calls the classes: after the id and a tab, the first synonym."""
    path = place / "words.txt"
    if not path.is_file():
        raise InvalidFile(f"{path} is missing; unzip {URL} again")
    rows = (line.partition("\t") for line in _lines(path))
    names = {word: text.partition(",")[0].strip() for word, _, text in rows}
    unnamed = [word for word in words if not names.get(word)]
    if unnamed:
        raise InvalidFile(f"{path} has no name for {', '.join(unnamed)}; unzip {URL} again")
    return tuple(names[word] for word in words)


def _lines(path: Path) -> list[str]:
    """Return the lines of a text; bytes that are no text become marks that match nothing."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
