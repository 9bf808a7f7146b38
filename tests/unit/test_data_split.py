"""Splits: bytes that become images, fewer training images, and the held-out ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from snnc.data.dataset import Dataset, Split
from snnc.data.holdout import Published, digest, hold_out
from snnc.errors import InvalidSetting


def split(labels, first=0):
    """Return a split whose samples are single pixels, numbered from `first`."""
    pixels = np.arange(first, first + len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Split(pixels=pixels, white=255, labels=np.array(labels, dtype=np.int64))


def numbers(part):
    return part.pixels.ravel().tolist()


def test_images_are_the_pixels_over_white_rounded_once():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    images = Split(pixels=pixels, white=255, labels=np.array([0])).images
    nearest = (pixels.astype(np.float64) / 255).astype(np.float32)
    assert images.dtype == np.float32
    assert (images == nearest).all()
    assert images.max() == 1.0


def test_images_are_a_new_array_each_time():
    part = split([0, 1])
    part.images[:] = 0.5
    assert numbers(part) == [0, 1]


def test_pixels_stay_bytes_when_samples_are_taken():
    assert split([0, 1, 0]).take(2).pixels.dtype == np.uint8


def test_a_subset_has_fewer_training_images_class_by_class_and_nothing_else_changes():
    whole = Dataset(
        name="tiny",
        train=split([0, 0, 0, 1, 1, 1]),
        validation=split([0, 1], first=6),
        test=split([0, 1], first=8),
        class_names=("a", "b"),
        digest="00",
    )
    part = whole.subset(3)
    assert numbers(part.train) == [0, 3, 1]
    assert part.validation is whole.validation and part.test is whole.test
    assert (part.digest, part.class_names) == ("00", ("a", "b"))
    with pytest.raises(InvalidSetting, match="7 samples were asked for, the split has 6"):
        whole.subset(7)


def test_the_last_of_every_class_validate_and_the_order_stays():
    published = Published(
        name="tiny",
        train=split([1, 0, 1, 0, 0, 1, 1]),
        test=split([0, 1], first=7),
        class_names=("a", "b"),
    )
    found = hold_out(published, 2)
    assert numbers(found.train) == [0, 1, 2]
    assert numbers(found.validation) == [3, 4, 5, 6]
    assert found.validation.labels.tolist() == [0, 0, 1, 1]
    assert numbers(found.test) == [7, 8]


def test_the_digest_is_of_pixels_and_labels_as_published():
    part = split([3, 1])
    content = bytes([0, 1]) + b"\x03" + bytes(7) + b"\x01" + bytes(7)
    assert digest(part) == hashlib.sha256(content).hexdigest()
    assert digest(part, part) == hashlib.sha256(content + content).hexdigest()


def test_the_digest_does_not_depend_on_how_an_array_lies_in_memory():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    labels = np.array([0, 1])
    plain = Split(pixels=pixels, white=255, labels=labels)
    turned = np.asfortranarray(pixels)
    assert digest(Split(pixels=turned, white=255, labels=labels)) == digest(plain)
