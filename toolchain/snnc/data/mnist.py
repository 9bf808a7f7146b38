"""MNIST and Fashion-MNIST: 28x28 grey images in ten classes, in IDX files.

MNIST: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86(11), 1998. Fashion-MNIST:
H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747, 2017. Each has 60,000 training and 10,000
test images; the last 500 training images of every class validate (`holdout`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from snnc.data.dataset import Dataset, Split
from snnc.data.files import PublishedFile, Source, read_files
from snnc.data.holdout import Published, hold_out

VALIDATION = 500  # images of each class

# MD5 of the unpacked files, which torchvision keeps under these names. torchvision's source
# (`torchvision/datasets/mnist.py`) states those of the .gz files they are unpacked from.
MNIST = Source(
    name="mnist",
    files=(
        PublishedFile(
            name="train-images-idx3-ubyte",
            md5="6bbc9ace898e44ae57da46a324031adb",
            least=47_040_016,
        ),
        PublishedFile(
            name="train-labels-idx1-ubyte", md5="a25bea736e30d166cdddb491f175f624", least=60_008
        ),
        PublishedFile(
            name="t10k-images-idx3-ubyte", md5="2646ac647ad5339dbf082846283269ea", least=7_840_016
        ),
        PublishedFile(
            name="t10k-labels-idx1-ubyte", md5="27ae3e4e09519cfbb04c329615203637", least=10_008
        ),
    ),
    folders=("MNIST/raw", "raw", "."),
    archive=None,
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
)

FASHION_MNIST = replace(
    MNIST,
    name="fashion_mnist",
    files=(
        replace(MNIST.files[0], md5="f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        replace(MNIST.files[1], md5="9018921c3c673c538a1fc5bad174d6f9"),
        replace(MNIST.files[2], md5="8181f5470baa50b63fa0f6fddb340f0a"),
        replace(MNIST.files[3], md5="15d484375f8d13e6eb1aabb0c3f46965"),
    ),
    folders=("FashionMNIST/raw", "raw", "."),
    url="https://github.com/zalandoresearch/fashion-mnist",
)

FASHION_NAMES = (  # labels 0 to 9, from the README of zalandoresearch/fashion-mnist
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_mnist(root: Path | None) -> Dataset:
    """Return MNIST, split. Raises as `files.read_files`."""
    return load_idx(MNIST, tuple("0123456789"), root, held_out=VALIDATION)


def load_fashion_mnist(root: Path | None) -> Dataset:
    """Return Fashion-MNIST, split. Raises as `files.read_files`."""
    return load_idx(FASHION_MNIST, FASHION_NAMES, root, held_out=VALIDATION)


def load_idx(
    source: Source, class_names: tuple[str, ...], root: Path | None, *, held_out: int
) -> Dataset:
    """Return a set of four IDX files (training images and labels, test images and labels)."""
    train_images, train_labels, test_images, test_labels = read_files(source, root)
    published = Published(
        name=source.name,
        train=_split(train_images, train_labels),
        test=_split(test_images, test_labels),
        class_names=class_names,
    )
    return hold_out(published, held_out)


def _split(images: bytes, labels: bytes) -> Split:
    """Return images and labels of whole IDX files.

    IDX: four bytes of which the last is the number of dimensions, each dimension as a 32-bit
    integer with the highest byte first, then one byte for each value, the last index fastest.
    """
    height, width = np.frombuffer(images, ">u4", count=2, offset=8).tolist()
    return Split(
        pixels=np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, height, width).copy(),
        white=255,
        labels=np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )
