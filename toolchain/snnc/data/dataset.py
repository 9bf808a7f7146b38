"""What a data set is: three disjoint splits of images with their labels.

Pixels stay the bytes that were published, a quarter of their size as floats; the images in
[0, 1] are computed from them when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidSetting

Pixels = npt.NDArray[np.uint8]
Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images and their labels, in a fixed order."""

    pixels: Pixels  # (samples, channels, height, width), 0 to `white`
    white: int  # the pixel value that means 1.0
    labels: Labels  # (samples,), 0 to classes - 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Images:
        """The pixels as float32 in [0, 1], (samples, channels, height, width): a new array."""
        images = self.pixels.astype(np.float32)
        images /= np.float32(self.white)
        return images

    def take(self, samples: int) -> Split:
        """Return the first samples in class-balanced order, as copies.

        The order takes the first image of every class, then the second of every class, and
        so on, classes ascending; a class that runs out is passed over.

        Raises:
            InvalidSetting: fewer than one, or more than there are.
        """
        if not 1 <= samples <= len(self):
            raise InvalidSetting(
                f"{samples} samples were asked for, the split has {len(self)}; "
                f"ask for 1 to {len(self)}"
            )
        return self.rows(class_balanced(self.labels)[:samples])

    def rows(self, chosen: npt.NDArray[np.intp]) -> Split:
        """Return some of the samples, by their indices, as copies."""
        return Split(pixels=self.pixels[chosen], white=self.white, labels=self.labels[chosen])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A named set of images. Splits share no sample."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    digest: str  # SHA-256 of the pixels and labels as published, hexadecimal

    def subset(self, samples: int) -> Dataset:
        """Return the data set with fewer training images: `take` of its training split.

        The other splits and the digest, which is that of the whole, stay.

        Raises:
            InvalidSetting: fewer than one, or more than there are.
        """
        return replace(self, train=self.train.take(samples))


def class_balanced(labels: Labels) -> npt.NDArray[np.intp]:
    """Return the order that takes the first of every class, then the second of every class, ...

    >>> class_balanced(np.array([1, 1, 0, 1, 0])).tolist()
    [2, 0, 4, 1, 3]
    """
    turn = np.empty(len(labels), dtype=np.int64)  # how many of its class come before
    for label in np.unique(labels):
        mine = labels == label
        turn[mine] = np.arange(np.count_nonzero(mine))
    return np.lexsort((labels, turn))
