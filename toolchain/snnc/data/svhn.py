"""SVHN: 32x32 colour crops of house numbers, ten digits, in two MATLAB files.

Y. Netzer et al.: Reading Digits in Natural Images with Unsupervised Feature Learning, 2011.
73,257 training and 26,032 test images, the classes of unlike size; the last 500 training
images of every class validate (`holdout`). The set of extra images is not read.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from snnc.data.dataset import Dataset, Split
from snnc.data.files import PublishedFile, Source, read_files
from snnc.data.holdout import Published, hold_out

VALIDATION = 500  # images of each class

# MD5 from torchvision's source (`torchvision/datasets/svhn.py`).
SVHN = Source(
    name="svhn",
    files=(
        PublishedFile(
            name="train_32x32.mat", md5="e26dedcc434d2e4c54c9b2d4a06d8373", least=182_040_794
        ),
        PublishedFile(
            name="test_32x32.mat", md5="eb5a983be6a315427106f1b164d9cef3", least=64_275_384
        ),
    ),
    folders=(".", "svhn", "SVHN"),
    archive=None,
    url="http://ufldl.stanford.edu/housenumbers/",
)


def load_svhn(root: Path | None) -> Dataset:
    """Return SVHN, split. Raises as `files.read_files`."""
    return load_mat(SVHN, root, held_out=VALIDATION)


def load_mat(source: Source, root: Path | None, *, held_out: int) -> Dataset:
    """Return a set in SVHN's format: a training and a test file."""
    train, test = read_files(source, root)
    published = Published(
        name=source.name,
        train=_split(train),
        test=_split(test),
        class_names=tuple("0123456789"),
    )
    return hold_out(published, held_out)


def _split(content: bytes) -> Split:
    """Return X (height, width, channels, samples) and y (samples, 1), where 10 means digit 0."""
    from scipy.io import loadmat

    arrays = loadmat(io.BytesIO(content))  # type: ignore[arg-type]  # the stubs know paths only
    return Split(
        pixels=np.ascontiguousarray(arrays["X"].transpose(3, 2, 0, 1)),
        white=255,
        labels=arrays["y"].reshape(-1).astype(np.int64) % 10,
    )
