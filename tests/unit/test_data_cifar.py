"""CIFAR's pickles: what is read from them, and that nothing in them runs."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from snnc import data
from snnc.data.cifar import (
    CIFAR10,
    CIFAR10_KEYS,
    CIFAR100,
    CIFAR100_KEYS,
    load_cifar,
    unpickle,
)
from snnc.data.files import PublishedFile
from snnc.errors import InvalidFile

SETS = {"cifar10": (CIFAR10, CIFAR10_KEYS), "cifar100": (CIFAR100, CIFAR100_KEYS)}

# `{'data': numpy.arange(6, dtype=uint8).reshape(1, 6), 'labels': [1]}` as Python 2 pickles it:
# numpy's module under its old name, and the array's bytes as a Python 2 text.
PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
    b"\x87R(K\x01K\x01K\x06\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff"
    b"\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x02\x03\x04\x05tbU\x06labels]K\x01au."
)


def contents(source, keys):
    """Return the files of a set with two classes: two images in each batch, one for each class.

    Image n has the values n, n + 1, n + 2 in its red, green and blue plane.
    """
    *batches, meta = source.files
    found = {}
    for number, file in enumerate(batches):
        rows = [np.repeat([value, value + 1, value + 2], 1024) for value in (2 * number, 99)]
        batch = {b"data": np.array(rows, dtype=np.uint8), keys.labels: [0, 1]}
        found[file.name] = pickle.dumps(batch, protocol=3)
    found[meta.name] = pickle.dumps({keys.class_names: [b"cat", b"dog"]}, protocol=3)
    return found


def source_of(source, files):
    """Return the source with the checksums that the files have."""
    published = tuple(
        PublishedFile(name=name, md5=hashlib.md5(content).hexdigest(), least=len(content))
        for name, content in files.items()
    )
    return replace(source, files=published)


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def pack(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def a_set(tmp_path, name="cifar10"):
    """Write a set as it is published; return its source and keys."""
    source, keys = SETS[name]
    files = contents(source, keys)
    write(tmp_path / source.folders[0], files)
    return source_of(source, files), keys


def test_planes_are_channels_and_batches_follow_each_other(tmp_path):
    source, keys = a_set(tmp_path)
    found = load_cifar(source, keys, tmp_path, held_out=1)
    assert found.train.pixels.shape == (8, 3, 32, 32)
    assert found.train.pixels[2].reshape(3, -1).T.tolist() == [[2, 3, 4]] * 1024
    assert found.train.labels.tolist() == [0, 1] * 4
    assert found.validation.pixels[:, 0, 0, 0].tolist() == [8, 99]
    assert found.test.pixels[:, 0, 0, 0].tolist() == [10, 99]
    assert found.class_names == ("cat", "dog")


def test_cifar100_reads_the_fine_labels(tmp_path):
    source, keys = a_set(tmp_path, "cifar100")
    files = {
        name: (tmp_path / "cifar-100-python" / name).read_bytes() for name in contents(source, keys)
    }
    train = pickle.loads(files["train"]) | {b"coarse_labels": [1, 1]}
    files["train"] = pickle.dumps(train, protocol=3)
    write(tmp_path / "cifar-100-python", files)
    found = load_cifar(source_of(source, files), keys, tmp_path, held_out=0)
    assert found.train.labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", list(SETS))
def test_the_archive_as_downloaded_holds_the_same(tmp_path, name):
    source, keys = a_set(tmp_path / "unpacked", name)
    unpacked = tmp_path / "unpacked" / source.folders[0]
    files = {path.name: path.read_bytes() for path in unpacked.iterdir()}
    pack(tmp_path / source.archive, source.folders[0], files)
    from_archive = load_cifar(source, keys, tmp_path, held_out=1)
    assert from_archive.digest == load_cifar(source, keys, unpacked, held_out=1).digest
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["unpacked"]


def test_an_archive_that_was_cut_short_says_so(tmp_path):
    source, keys = SETS["cifar10"]
    path = tmp_path / source.archive
    pack(path, source.folders[0], contents(source, keys))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidFile, match=r"cifar-10-python\.tar\.gz is cut short; download it"):
        data.load("cifar10", root=tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(InvalidFile, match=r"cifar-10-python\.tar\.gz cannot be read"):
        data.load("cifar10", root=tmp_path)


def test_absent_files_are_named_with_the_archive(tmp_path):
    with pytest.raises(InvalidFile, match=r"batches\.meta} or cifar-10-python\.tar\.gz there; "):
        data.load("cifar10", root=tmp_path)


def test_a_batch_with_the_wrong_checksum_is_named(tmp_path):
    source, keys = a_set(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes().replace(b"\x04", b"\x05"))
    with pytest.raises(InvalidFile, match=r"data_batch_3 is not the published file \(MD5 "):
        load_cifar(source, keys, tmp_path, held_out=1)


def test_a_pickle_of_python_2_is_read():
    found = unpickle(PYTHON_2, "batch")
    assert found[b"data"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert found[b"data"].dtype == np.uint8
    assert found[b"labels"] == [1]


class Calls:
    """A value whose pickle calls a function when it is opened."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function, named",
    [
        (os.system, f"{os.system.__module__}.system"),
        (builtins.eval, "builtins.eval"),
        (builtins.getattr, "builtins.getattr"),
        (np.load, "numpy.load"),
    ],
)
def test_a_pickle_that_calls_a_function_is_refused_and_not_run(function, named):
    evil = pickle.dumps({b"data": Calls(function, "never run")}, protocol=3)
    with pytest.raises(InvalidFile, match=f"asks for {named}; that is no data and was not run"):
        unpickle(evil, "data_batch_1")


def test_a_malicious_batch_does_nothing_even_if_its_checksum_is_right(tmp_path):
    source, keys = SETS["cifar10"]
    files = contents(source, keys)
    trace = tmp_path / "trace"
    files["data_batch_2"] = pickle.dumps(Calls(os.mkdir, str(trace)), protocol=3)
    write(tmp_path, files)
    with pytest.raises(InvalidFile, match="data_batch_2 is a pickle that asks for "):
        load_cifar(source_of(source, files), keys, tmp_path, held_out=1)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"hello", PYTHON_2[:-30]], ids=["empty", "text", "cut"])
def test_what_is_no_pickle_is_refused(content):
    with pytest.raises(InvalidFile, match=r"batch is no pickle of CIFAR"):
        unpickle(content, "batch")


def test_a_pickle_of_something_else_is_refused():
    with pytest.raises(InvalidFile, match="batch holds a list, not the dictionary of CIFAR"):
        unpickle(pickle.dumps([1, 2]), "batch")
