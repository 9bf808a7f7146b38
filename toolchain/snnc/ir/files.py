"""Write files whole or not at all, and say clearly why one cannot be read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snnc.errors import CannotWrite, InvalidFile, OutputExists


def write_bytes(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file under a temporary name, then rename it into place.

    Raises:
        OutputExists: the path exists and `force` is False, or it is no file.
        CannotWrite: the file system refused.
    """
    refuse_existing(path, force=force)
    if path.exists() and not path.is_file():
        raise OutputExists(f"{path} is no file, so nothing is written there; choose another path")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


@contextmanager
def new_directory(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` when the block ends without an error.

    An existing directory is replaced only then, and only if `force` is True.

    Raises:
        OutputExists: the path exists and `force` is False.
        CannotWrite: the file system refused.
    """
    refuse_existing(path, force=force)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            _swap(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Replace what is at `path`; put it back if the new one cannot take its place."""
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        os.replace(path, aside / path.name)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(aside / path.name, path)
            raise
    finally:
        shutil.rmtree(aside)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `OutputExists` if the path exists and may not be replaced."""
    if not force and os.path.lexists(path):
        raise OutputExists(f"{path} exists; choose another path, or replace it with --force")


def read_bytes(path: Path, kind: str) -> bytes:
    """Return the content of a file.

    Raises:
        InvalidFile: it is missing, a directory, empty or unreadable.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InvalidFile(f"{path} is not a regular file; pass the path of {kind}")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidFile(f"{path} does not exist; pass the path of {kind}") from error
    except IsADirectoryError as error:
        raise InvalidFile(f"{path} is a directory; pass the path of {kind}") from error
    except OSError as error:
        raise InvalidFile(f"cannot read {path}: {error.strerror}; pass {kind}") from error
    if not content:
        raise InvalidFile(f"{path} is empty; pass {kind}")
    return content


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    if isinstance(error, FileExistsError | NotADirectoryError):  # what mkdir says of a file
        reason = "a part of the path is not a directory"
    else:
        reason = error.strerror or str(error)
    return CannotWrite(
        f"cannot write {path}: {reason}; nothing was left behind, free the space or choose "
        "another path"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
