"""SVHN's MATLAB files."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat
from snnc import data
from snnc.data.files import PublishedFile
from snnc.data.svhn import SVHN, load_mat
from snnc.errors import InvalidFile


def write(root, *, labels=(10, 1, 9, 10, 1, 9)):
    """Write two files of 2x4 colour images; return their source."""
    files = []
    for name in ("train_32x32.mat", "test_32x32.mat"):
        count = len(labels)
        images = np.arange(2 * 4 * 3 * count, dtype=np.uint8).reshape(count, 3, 2, 4)
        columns = {"X": images.transpose(2, 3, 1, 0), "y": np.array(labels, np.uint8)[:, None]}
        savemat(root / name, columns, do_compression=True)
        content = (root / name).read_bytes()
        md5 = hashlib.md5(content).hexdigest()
        files.append(PublishedFile(name=name, md5=md5, least=len(content)))
    return replace(SVHN, files=tuple(files))


def test_label_ten_is_the_digit_zero(tmp_path):
    found = load_mat(write(tmp_path), tmp_path, held_out=1)
    assert found.train.labels.tolist() == [0, 1, 9]
    assert found.validation.labels.tolist() == [0, 1, 9]
    assert found.class_names[0] == "0"


def test_images_are_channels_then_rows_then_columns(tmp_path):
    found = load_mat(write(tmp_path), tmp_path, held_out=1)
    assert found.test.pixels.shape == (6, 3, 2, 4)
    assert found.test.pixels.dtype == np.uint8
    assert found.test.pixels.ravel().tolist() == list(range(144))


@pytest.mark.parametrize("folder", ["svhn", "SVHN"])
def test_a_folder_of_that_name_is_looked_into(tmp_path, folder):
    (tmp_path / folder).mkdir()
    source = write(tmp_path / folder)
    assert len(load_mat(source, tmp_path, held_out=1).test) == 6


def test_other_files_of_these_names_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(InvalidFile, match=r"train_32x32\.mat is cut short .* of 182,040,794"):
        data.load("svhn", root=tmp_path)
