"""A directory appears whole, or not at all."""

import os
import stat

import pytest
from snnc.errors import CannotWrite, InvalidFile, OutputExists
from snnc.ir import files
from snnc.ir.files import new_directory, read_bytes, refuse_existing, write_bytes


def tree(path):
    return {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}


def test_a_directory_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "deep" / "build"
    with new_directory(target, force=False) as temporary:
        (temporary / "a").write_text("1")
        assert not target.exists()
    assert tree(tmp_path) == {"deep/build/a": "1"}
    assert os.listdir(target.parent) == ["build"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_inside_leaves_nothing_and_passes_through(tmp_path, error):
    with pytest.raises(type(error)), new_directory(tmp_path / "build", force=False) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("1")
        raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(28, "full")])
def test_an_error_inside_leaves_the_old_directory_as_it_was(tmp_path, error):
    old = tmp_path / "build"
    old.mkdir()
    (old / "precious").write_text("old")
    expected = CannotWrite if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), new_directory(old, force=True) as temporary:
        (temporary / "a").write_text("new")
        raise error
    assert tree(tmp_path) == {"build/precious": "old"}
    assert os.listdir(tmp_path) == ["build"]


def test_force_replaces_the_whole_directory(tmp_path):
    old = tmp_path / "build"
    (old / "sub").mkdir(parents=True)
    (old / "sub" / "stale").write_text("old")
    with new_directory(old, force=True) as temporary:
        (temporary / "a").write_text("new")
        assert tree(old) == {"sub/stale": "old"}
    assert tree(tmp_path) == {"build/a": "new"}
    assert os.listdir(tmp_path) == ["build"]


@pytest.mark.parametrize("kind", ["file", "directory", "broken link"])
def test_whatever_exists_is_refused_before_the_block_runs(tmp_path, kind):
    path = tmp_path / "build"
    match kind:
        case "file":
            path.write_text("x")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "nowhere")
    before = os.listdir(tmp_path)
    with (
        pytest.raises(OutputExists, match="build exists; choose another path, or replace it"),
        new_directory(path, force=False),
    ):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == before


def test_a_failed_rename_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with (
        pytest.raises(CannotWrite, match="No space left on device; nothing was left behind"),
        new_directory(tmp_path / "build", force=False) as temporary,
    ):
        (temporary / "a").write_text("1")
    assert os.listdir(tmp_path) == []


# Fails: new_directory leaves the old directory under a hidden name and says that nothing was
# left behind.
def test_a_second_rename_that_fails_does_not_lose_the_old_directory(tmp_path, monkeypatch):
    old = tmp_path / "build"
    old.mkdir()
    (old / "precious").write_text("old")
    replace, calls = os.replace, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", second_fails)
    with pytest.raises(CannotWrite), new_directory(old, force=True) as temporary:
        (temporary / "a").write_text("new")
    assert tree(tmp_path) == {"build/precious": "old"}


def test_a_parent_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CannotWrite, match="cannot write"),
        new_directory(tmp_path / "file" / "build", force=False),
    ):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_written_has_the_usual_permissions(tmp_path):
    umask = os.umask(0o022)
    try:
        write_bytes(tmp_path / "file", b"x", force=False)
        with new_directory(tmp_path / "directory", force=False):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o755


def test_a_free_path_and_a_forced_one_pass(tmp_path):
    refuse_existing(tmp_path / "free", force=False)
    refuse_existing(tmp_path, force=True)


def test_reading_tells_missing_empty_and_directory_apart(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "full").write_bytes(b"abc")
    for name, fact in (("none", "does not exist"), ("empty", "is empty"), (".", "is a directory")):
        with pytest.raises(InvalidFile, match=f"{fact}; pass .*a cake"):
            read_bytes(tmp_path / name, "a cake")
    assert read_bytes(tmp_path / "full", "a cake") == b"abc"
