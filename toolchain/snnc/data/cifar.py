"""CIFAR-10 and CIFAR-100: 32x32 colour images in 10 or 100 classes, in pickles of Python 2.

A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009. Each has 50,000
training and 10,000 test images; the last 5,000 training images, class by class (500 or 50 of
each), validate (`holdout`). A pickle is opened after its checksum, and even then by an
unpickler that can make numpy arrays and nothing else.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from snnc.data.dataset import Dataset, Split
from snnc.data.files import PublishedFile, Source, read_files
from snnc.data.holdout import Published, hold_out
from snnc.errors import InvalidFile


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Under which keys the pickles hold what is read."""

    labels: bytes
    class_names: bytes


# MD5 from torchvision's source (`torchvision/datasets/cifar.py`). The files are the batches of
# the training split, the test batch and the class names, in that order.
CIFAR10 = Source(
    name="cifar10",
    files=(
        PublishedFile(
            name="data_batch_1", md5="c99cafc152244af753f735de768cd75f", least=31_035_704
        ),
        PublishedFile(
            name="data_batch_2", md5="d4bba439e000b95fd0a9bffe97cbabec", least=31_035_320
        ),
        PublishedFile(
            name="data_batch_3", md5="54ebc095f3ab1f0389bbae665268c751", least=31_035_999
        ),
        PublishedFile(
            name="data_batch_4", md5="634d18415352ddfa80567beed471001a", least=31_035_696
        ),
        PublishedFile(
            name="data_batch_5", md5="482c414d41f54cd18b22e5b47cb7c3cb", least=31_035_623
        ),
        PublishedFile(name="test_batch", md5="40351d587109b95175f43aff81a1287e", least=31_035_526),
        PublishedFile(name="batches.meta", md5="5ff9c542aee3614f3951f8cda6e48888", least=158),
    ),
    folders=("cifar-10-batches-py", "."),
    archive="cifar-10-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
)
CIFAR10_KEYS = Keys(labels=b"labels", class_names=b"label_names")

CIFAR100 = Source(
    name="cifar100",
    files=(  # the least is the bytes of the pixels alone: 3,072 for each image
        PublishedFile(name="train", md5="16019d7e3df5f24257cddd939b257f8d", least=153_600_000),
        PublishedFile(name="test", md5="f0ef6b0ae62326f3e7ffdfab6717acfc", least=30_720_000),
        PublishedFile(name="meta", md5="7973b15100ade9c7d40fb424638fde48", least=1),
    ),
    folders=("cifar-100-python", "."),
    archive="cifar-100-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
)
CIFAR100_KEYS = Keys(labels=b"fine_labels", class_names=b"fine_label_names")


def load_cifar10(root: Path | None) -> Dataset:
    """Return CIFAR-10, split. Raises as `files.read_files`."""
    return load_cifar(CIFAR10, CIFAR10_KEYS, root, held_out=500)


def load_cifar100(root: Path | None) -> Dataset:
    """Return CIFAR-100 with its 100 fine classes, split. Raises as `files.read_files`."""
    return load_cifar(CIFAR100, CIFAR100_KEYS, root, held_out=50)


def load_cifar(source: Source, keys: Keys, root: Path | None, *, held_out: int) -> Dataset:
    """Return a set in CIFAR's format: training batches, test batch, class names."""
    *train, test, meta = (
        unpickle(content, file.name)
        for content, file in zip(read_files(source, root), source.files, strict=True)
    )
    published = Published(
        name=source.name,
        train=_split(train, keys),
        test=_split([test], keys),
        class_names=tuple(name.decode("ascii") for name in meta[keys.class_names]),
    )
    return hold_out(published, held_out)


def _split(batches: list[dict[bytes, list[bytes]]], keys: Keys) -> Split:
    """Return batches one after the other; a row of a batch is an image, plane by plane."""
    rows = np.concatenate([np.asarray(batch[b"data"], dtype=np.uint8) for batch in batches])
    labels = [np.asarray(batch[keys.labels], dtype=np.int64) for batch in batches]
    return Split(pixels=rows.reshape(-1, 3, 32, 32), white=255, labels=np.concatenate(labels))


def unpickle(content: bytes, name: str) -> dict[bytes, list[bytes]]:
    """Return the dictionary of a pickle that holds numbers, texts and numpy arrays only.

    Raises:
        InvalidFile: the pickle asks for anything else, or is none.
    """
    try:
        found = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except _Forbidden as error:
        raise InvalidFile(
            f"{name} is a pickle that asks for {error}; that is no data and was not run"
        ) from error
    except Exception as error:
        raise InvalidFile(f"{name} is no pickle of CIFAR: {error}; download it again") from error
    if not isinstance(found, dict):
        raise InvalidFile(f"{name} holds a {type(found).__name__}, not the dictionary of CIFAR")
    return found


class _Forbidden(Exception):
    """A pickle asked for something that is not on the list."""


class _ArraysOnly(pickle.Unpickler):
    """Makes numpy arrays; every other class or function is refused before it is imported."""

    def find_class(self, module: str, name: str) -> object:
        """Return one of the three things an array is pickled as."""
        match module, name:
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty
            case _:
                raise _Forbidden(f"{module}.{name}")


def _empty(kind: type, shape: tuple[int, ...], code: bytes) -> npt.NDArray[np.generic]:
    """Stand in for numpy's `_reconstruct`: an array that its pickled state then fills."""
    if not issubclass(kind, np.ndarray):
        raise _Forbidden(f"an array of {kind}")
    array: npt.NDArray[np.generic] = kind(shape, np.dtype(code.decode("ascii")))
    return array
