"""MNIST's files: where they are found, what is read from them, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from snnc import data
from snnc.data.files import PublishedFile
from snnc.data.mnist import FASHION_MNIST, FASHION_NAMES, MNIST, load_idx
from snnc.errors import InvalidFile, InvalidSetting

HEIGHT, WIDTH = 2, 3
NAMES = ("zero", "one")


def idx(values):
    """Return an IDX file of bytes."""
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


def contents():
    """Return four IDX files: six training images and two test images of two classes."""
    pixels = np.arange(8 * HEIGHT * WIDTH, dtype=np.uint8).reshape(8, HEIGHT, WIDTH)
    labels = np.array([0, 1, 1, 0, 1, 0, 1, 0], dtype=np.uint8)
    parts = (pixels[:6], labels[:6], pixels[6:], labels[6:])
    return {file.name: idx(part) for file, part in zip(MNIST.files, parts, strict=True)}


def source(of=MNIST):
    """Return the source of `contents`, with the checksums that they have."""
    files = tuple(
        PublishedFile(name=name, md5=hashlib.md5(content).hexdigest(), least=len(content))
        for name, content in contents().items()
    )
    return replace(of, files=files)


def write(folder, *, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def load(root, of=MNIST):
    return load_idx(source(of), NAMES, root, held_out=1)


def test_images_and_labels_are_read_in_the_order_of_the_file(tmp_path):
    write(tmp_path / "MNIST" / "raw")
    found = load(tmp_path)
    assert found.train.pixels.shape == (4, 1, HEIGHT, WIDTH)
    assert found.train.pixels[0].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert found.train.labels.tolist() == [0, 1, 1, 0]
    assert found.validation.pixels[:, 0, 0, 0].tolist() == [24, 30]
    assert found.test.labels.tolist() == [1, 0]
    assert found.train.white == 255
    assert found.class_names == NAMES


@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "gz"])
def test_files_are_found_wherever_people_keep_them(tmp_path, folder, packed):
    write(tmp_path / "elsewhere")
    write(tmp_path / folder, packed=packed)
    assert load(tmp_path).digest == load(tmp_path / "elsewhere").digest


def test_the_two_sets_do_not_meet_under_one_root(tmp_path):
    write(tmp_path / "MNIST" / "raw")
    with pytest.raises(InvalidFile, match="data set 'fashion_mnist' is not in"):
        load(tmp_path, FASHION_MNIST)
    write(tmp_path / "FashionMNIST" / "raw")
    assert load(tmp_path, FASHION_MNIST).name == "fashion_mnist"


def test_absent_files_are_one_sentence_with_the_layout_and_the_place_to_download(tmp_path):
    with pytest.raises(InvalidFile) as caught:
        data.load("mnist", root=tmp_path)
    assert str(caught.value) == (
        f"data set 'mnist' is not in {tmp_path}; expected MNIST/raw/{{train-images-idx3-ubyte, "
        "train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte} there; "
        "download it from https://ossci-datasets.s3.amazonaws.com/mnist/"
    )


def test_a_root_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(InvalidFile, match="nowhere is not a folder; name one with MNIST/raw/"):
        data.load("mnist", root=tmp_path / "nowhere")


def test_without_a_root_the_environment_names_it(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setenv("SNNC_DATA", str(tmp_path))
    assert len(load(None).train) == 4


def test_a_root_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNC_DATA", str(tmp_path / "nowhere"))
    write(tmp_path)
    assert len(load(tmp_path).train) == 4


@pytest.mark.parametrize("name", [name for name in data.names() if name != "digits"])
def test_without_any_root_the_layout_is_shown(name, monkeypatch):
    monkeypatch.delenv("SNNC_DATA", raising=False)
    with pytest.raises(InvalidSetting, match=f"'{name}' is read from files: .* or set SNNC_DATA"):
        data.load(name)


def test_every_file_that_is_wrong_is_named_with_what_is_wrong(tmp_path):
    write(tmp_path)
    images, labels, test_images, _ = (tmp_path / file.name for file in MNIST.files)
    images.write_bytes(images.read_bytes()[:-1])
    labels.unlink()
    test_images.write_bytes(test_images.read_bytes()[:-1] + b"!")
    with pytest.raises(InvalidFile) as caught:
        load(tmp_path)
    text = str(caught.value)
    assert "train-images-idx3-ubyte is cut short (51 of 52 bytes or more); " in text
    assert "train-labels-idx1-ubyte is missing; " in text
    assert "t10k-images-idx3-ubyte is not the published file (MD5 " in text
    assert "t10k-labels" not in text
    assert text.endswith("download it again from https://ossci-datasets.s3.amazonaws.com/mnist/")


def test_the_files_of_one_set_under_the_name_of_the_other_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(InvalidFile, match="train-images-idx3-ubyte is cut short"):
        data.load("mnist", root=str(tmp_path))


def test_a_gz_file_that_was_cut_short_says_so(tmp_path):
    write(tmp_path, packed=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InvalidFile, match=r"train-labels-idx1-ubyte\.gz is cut short; download"):
        load(tmp_path)


def test_a_gz_file_that_is_something_else_is_named(tmp_path):
    write(tmp_path, packed=True)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(InvalidFile, match=r"train-labels-idx1-ubyte\.gz cannot be read: "):
        load(tmp_path)


def test_arrays_may_be_written_to(tmp_path):
    """Torch warns about memory that may not be written, and shares numpy's."""
    write(tmp_path)
    found = load(tmp_path)
    for part in (found.train, found.validation, found.test):
        assert part.pixels.flags.writeable and part.labels.flags.writeable


def test_fashion_mnist_has_ten_class_names():
    assert len(set(FASHION_NAMES)) == 10


def test_the_published_checksums_are_those_of_different_files():
    sums = [file.md5 for source in (MNIST, FASHION_MNIST) for file in source.files]
    assert len(set(sums)) == 8 and {len(md5) for md5 in sums} == {32}
