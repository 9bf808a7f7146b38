"""The digits: what they hold, how they are split, and what is refused."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
from snnc import data
from snnc.data import digits as digits_module
from snnc.data.dataset import Split
from snnc.errors import InvalidFile, InvalidSetting, MissingDependency, UnknownName


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def parts(digits):
    return (digits.train, digits.validation, digits.test)


def test_digits_hold_the_1797_published_scans_each_once(digits):
    images = np.concatenate([part.images for part in parts(digits)])
    assert images.shape == (1797, 1, 8, 8)
    assert len({image.tobytes() for image in images}) == 1797


def test_pixels_are_sixteenths_in_float32(digits):
    for part in parts(digits):
        assert part.images.dtype == np.float32
        assert part.labels.dtype == np.int64
        levels = part.images * 16
        assert (levels == np.rint(levels)).all()
    assert digits.train.images.min() == 0.0
    assert digits.train.images.max() == 1.0


def test_the_split_is_60_20_20_in_every_class(digits):
    sizes = [np.bincount(part.labels, minlength=10) for part in parts(digits)]
    total = sum(sizes)
    assert [size.sum() for size in sizes] == [1074, 355, 368]
    assert (sizes[0] == total * 60 // 100).all()
    assert (sizes[1] == total * 20 // 100).all()


def test_the_split_never_changes(digits):
    """The digests were computed once, from scikit-learn 1.9.1 and numpy 2.4."""
    found = [
        hashlib.sha256(part.images.tobytes() + part.labels.tobytes()).hexdigest()[:16]
        for part in parts(digits)
    ]
    assert found == ["b6524f3072061801", "564bf4f23258d3df", "388783f7ca90e4fe"]


def test_the_split_does_not_depend_on_the_order_of_the_rows():
    scans, labels = digits_module._read()
    back = slice(None, None, -1)
    forward = digits_module._divide(scans, labels)
    reversed_ = digits_module._divide(scans[back], labels[back])
    assert [[1796 - row for row in rows] for rows in reversed_] == list(forward)


def test_loading_twice_gives_the_same_data_in_arrays_of_their_own(digits):
    again = data.load("digits")
    assert (again.test.images == digits.test.images).all()
    assert not np.shares_memory(again.test.images, digits.test.images)


def test_take_returns_the_classes_in_turn(digits):
    taken = digits.test.take(23)
    assert taken.labels.tolist() == [*range(10), *range(10), 0, 1, 2]
    assert (taken.images == digits.test.images[:23]).all()


def test_take_balances_a_split_that_is_sorted_by_class():
    pixels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    split = Split(pixels=pixels, white=255, labels=np.array([0, 0, 0, 0, 1, 1]))
    taken = split.take(5)
    assert taken.labels.tolist() == [0, 1, 0, 1, 0]
    assert taken.pixels.ravel().tolist() == [0, 4, 1, 5, 2]


def test_take_of_all_samples_is_allowed(digits):
    assert len(digits.test.take(len(digits.test))) == 368


@pytest.mark.parametrize("samples", [-1, 0, 369])
def test_take_refuses_what_the_split_does_not_have(digits, samples):
    with pytest.raises(InvalidSetting, match=f"{samples} samples .* has 368; ask for 1 to 368"):
        digits.test.take(samples)


def test_a_misspelt_data_set_gets_a_suggestion():
    with pytest.raises(UnknownName, match="no data set named 'digit'; did you mean 'digits'"):
        data.load("digit")


def test_digits_refuse_a_folder(tmp_path):
    with pytest.raises(InvalidSetting, match="reads no folder"):
        data.load("digits", root=tmp_path)


def test_a_missing_scikit_learn_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependency, match="needs scikit-learn; try: pip install"):
        data.load("digits")


def test_other_data_than_the_published_are_refused(monkeypatch):
    scans, labels = digits_module._read()
    scans[700, 3, 3] ^= 1
    monkeypatch.setattr(digits_module, "_read", lambda: (scans, labels))
    with pytest.raises(InvalidFile, match="differs from the published data"):
        data.load("digits")
