"""Picture files to bytes. The one place that needs Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from snnc.data.dataset import Pixels
from snnc.errors import Issue, MissingDependency, Refusal

SHOWN = 20  # issues that a refusal lists; the rest are counted
CHANNELS = {"L": 1, "RGB": 3}  # what may be trained on: grey and colour, 8 bits


@dataclass(frozen=True, kw_only=True)
class Form:
    """What must be the same for all pictures of a set."""

    width: int
    height: int
    mode: str  # Pillow's name of the kind of pixel, such as L and RGB

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.mode}"


def decode(what: str, paths: Sequence[Path], form: Form) -> Pixels:
    """Return pictures as bytes (samples, channels, height, width), in the order of the paths.

    A picture of another mode is converted to that of the form, as Pillow does; one of another
    size is refused. EXIF rotation is not applied.

    Raises:
        MissingDependency: Pillow is not installed.
        Refusal: files that cannot be decoded or have another size; `what` opens its text.
    """
    image = _pillow()
    pixels = np.empty((len(paths), CHANNELS[form.mode], form.height, form.width), dtype=np.uint8)
    issues: list[Issue] = []
    for row, path in enumerate(paths):  # threads are slower: small files wait for Python's lock
        try:
            with image.open(path) as picture:
                if picture.size != (form.width, form.height):
                    issues.append(_wrong_size(path, picture.size, form))
                    continue
                values = np.asarray(picture.convert(form.mode))
        except (OSError, SyntaxError, image.DecompressionBombError) as error:  # PNG: SyntaxError
            issues.append(_unreadable(path, error))
            continue
        pixels[row] = values.reshape(form.height, form.width, -1).transpose(2, 0, 1)
    refuse(what, issues)
    return pixels


def forms(what: str, paths: Sequence[Path]) -> list[Form]:
    """Return the form of each picture, read from its header only.

    Raises:
        MissingDependency: Pillow is not installed.
        Refusal: files that are no pictures, or several in one; `what` opens its text.
    """
    image = _pillow()
    found: list[Form] = []
    issues: list[Issue] = []
    for path in paths:
        try:
            with image.open(path) as picture:
                found.append(Form(width=picture.width, height=picture.height, mode=picture.mode))
                if getattr(picture, "n_frames", 1) != 1:
                    problem = f"holds {picture.n_frames} pictures"
                    issues.append(Issue(str(path), problem, "store them one by one", "picture"))
        except (OSError, SyntaxError, image.DecompressionBombError) as error:
            issues.append(_unreadable(path, error))
    refuse(what, issues)
    return found


def refuse(what: str, issues: Sequence[Issue]) -> None:
    """Raise a refusal with the first issues and a count of the rest; with none, return."""
    if not issues:
        return
    rest = len(issues) - SHOWN
    counted = [Issue(f"{rest} more", "are not listed", "mend these first", "more")]
    raise Refusal(what, [*issues[:SHOWN], *(counted if rest > 0 else [])])


def _unreadable(path: Path, error: Exception) -> Issue:
    """Return the issue of a file that is no whole picture."""
    return Issue(str(path), f"cannot be decoded ({error})", "replace or remove it", "picture")


def _wrong_size(path: Path, size: tuple[int, int], form: Form) -> Issue:
    """Return the issue of a picture that does not fit among the others."""
    width, height = size
    problem = f"is {width}x{height}, not {form.width}x{form.height}"
    return Issue(str(path), problem, "resize or remove it", "picture-form")


def _pillow() -> ModuleType:
    """Return the module `PIL.Image`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency(
            "reading pictures needs Pillow; try: pip install 'snnc[images]'"
        ) from error
    return Image
