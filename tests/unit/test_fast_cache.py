"""Compiled kernels on disk: never those of other code, and no need of a folder to write to."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import snnc
from snnc.simulate.kernels import cache as kernels_cache

PACKAGE = Path(snnc.__file__).parent
TOUCH = """
import numpy as np
from snnc.simulate.kernels.blocks import touched

memory = np.zeros(512, np.uint8)
memory[0], memory[64] = 0b0011, 0b0101
reached = np.zeros((1, 1, 1, 1), np.uint8)
numbers = np.array([0, 2]), np.array([0, 64], np.int32)
touched(0, 1, np.array([0]), reached, memory, *numbers, 64)
print(bin(reached.item()), sum(touched.stats.cache_hits.values()))
"""


@pytest.fixture
def copied(tmp_path):
    """Return a copy of the package, in which a test may change things."""
    where = tmp_path / "installed" / "snnc"
    shutil.copytree(PACKAGE, where, ignore=shutil.ignore_patterns("__pycache__"))
    return where


def touch(copied, cache):
    """Return what a new process computes with one kernel of a copy, and how often from a cache.

    `cache` is what the user's cache would be made in.
    """
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"), str(cache))
    others = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copied.parent)}
    done = subprocess.run(
        [sys.executable, "-c", TOUCH],
        env={**others, **homes, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value, hits = done.stdout.split()
    return value, int(hits)


def block(copied):
    """Leave no room for what is compiled beside the kernels."""
    cache = copied / "simulate" / "kernels" / "__pycache__"
    cache.write_text("a file, so that nothing can be kept here")


def kept(folder):
    return list(folder.rglob("*.nbi"))


def test_what_a_change_of_vector_code_left_behind_never_runs(copied, tmp_path):
    """The change keeps the size and the times of all files, as an upgrade may."""
    assert touch(copied, tmp_path / "user") == ("0b111", 0)
    assert touch(copied, tmp_path / "user") == ("0b111", 1)
    vectors = copied / "simulate" / "kernels" / "sums.py"
    text, times = vectors.read_text(), vectors.stat()
    changed = text.replace("builder.or_(builder.load(found), vector)", "builder.xor(*[vector] * 2)")
    assert changed != text
    vectors.write_text(changed.ljust(len(text)))
    os.utime(vectors, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert touch(copied, tmp_path / "user") == ("0b0", 0)
    vectors.write_text(text)
    assert touch(copied, tmp_path / "user") == ("0b111", 1)


def test_a_read_only_installation_keeps_kernels_in_the_cache_of_the_user(copied, tmp_path):
    (copied / "simulate" / "kernels" / "__pycache__").write_text(
        "a file, so that nothing can be kept here"
    )
    user = tmp_path / "user"
    assert touch(copied, user) == ("0b111", 0) and kept(user)
    assert touch(copied, user) == ("0b111", 1)


def test_without_any_folder_to_write_to_kernels_run_and_are_not_kept(copied, tmp_path):
    (copied / "simulate" / "kernels" / "__pycache__").write_text(
        "a file, so that nothing can be kept here"
    )
    user = tmp_path / "user"
    user.write_text("a file, too")
    assert touch(copied, user) == ("0b111", 0) and not kept(tmp_path)


def test_kernels_are_made_from_nothing_that_the_fingerprint_leaves_out():
    files = {path.relative_to(PACKAGE).as_posix() for path in kernels_cache.ingredients()}
    assert {
        "simulate/kernels/blocks.py",
        "simulate/kernels/sums.py",
        "semantics/neuron.py",
    } <= files
    for name in files - set(kernels_cache.BEYOND):  # a specification, and constants
        for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("snnc"):
                inside = node.module.removeprefix("snnc").replace(".", "/").lstrip("/")
                assert f"{inside}.py" in files, f"{name} imports {node.module}"
            assert not (isinstance(node, ast.Import) and "snnc" in ast.dump(node)), name
