"""What a data set is: three disjoint splits of images in [0, 1] with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidSetting

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images and their labels, in a fixed order."""

    images: Images  # (samples, channels, height, width), values in [0, 1]
    labels: Labels  # (samples,), 0 to classes - 1

    def __len__(self) -> int:
        return len(self.labels)

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
        chosen = class_balanced(self.labels)[:samples]
        return Split(images=self.images[chosen], labels=self.labels[chosen])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A named set of images. Splits share no image."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    digest: str  # SHA-256 of the data as published, hexadecimal


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
