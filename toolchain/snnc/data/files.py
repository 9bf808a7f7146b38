"""Files as their publishers made them: where they lie, and whether they are whole.

Nothing is downloaded here. A file whose MD5 is not the published one is never parsed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from snnc.errors import InvalidFile, InvalidSetting

ROOT = "SNNC_DATA"  # environment variable: the folder to look in where none is named


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a data set, unpacked."""

    name: str
    md5: str  # hexadecimal
    least: int  # bytes; a shorter file was cut short


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published data set: its files, where they may lie, and where they come from."""

    name: str  # of the data set
    files: tuple[PublishedFile, ...]
    folders: tuple[str, ...]  # under the root, the usual one first; "." is the root itself
    archive: str | None  # under the root: a .tar.gz that holds folders[0]
    url: str

    @property
    def layout(self) -> str:
        """What the root must hold, in words."""
        names = ", ".join(file.name for file in self.files)
        packed = "" if self.archive is None else f" or {self.archive}"
        folder = "" if self.folders[0] == "." else f"{self.folders[0]}/"
        return f"{folder}{{{names}}}{packed}"


def root_of(name: str, layout: str, root: Path | None) -> Path:
    """Return the folder that was named, or the one that SNNC_DATA names.

    Raises:
        InvalidSetting: there is neither.
        InvalidFile: it is not a folder.
    """
    if root is None and os.environ.get(ROOT):
        root = Path(os.environ[ROOT])
    if root is None:
        raise InvalidSetting(
            f"data set {name!r} is read from files: name the folder that holds {layout} "
            f"(--data-root, root=) or set {ROOT} to it"
        )
    if not root.is_dir():
        raise InvalidFile(f"data set {name!r}: {root} is not a folder; name one with {layout}")
    return root


def read_files(source: Source, root: Path | None) -> tuple[bytes, ...]:
    """Return the contents of the published files, in the order of `source.files`.

    The first of the source's folders that has any of them is read, else the archive. Where
    only NAME.gz is there, it is unpacked.

    Raises:
        InvalidSetting: no root is named.
        InvalidFile: files are absent, cut short, damaged, or not the published ones; the text
            names each of them.
    """
    root = root_of(source.name, source.layout, root)
    place, found = _read_folder(source, root)
    if not found and source.archive is not None and (root / source.archive).is_file():
        place, found = root / source.archive, _read_archive(source, root / source.archive)
    if not found:
        raise InvalidFile(
            f"data set {source.name!r} is not in {root}; expected {source.layout} there; "
            f"download it from {source.url}"
        )
    problems = [problem for file in source.files if (problem := _problem(file, found))]
    if problems:
        raise InvalidFile(
            f"data set {source.name!r} in {place}: {'; '.join(problems)}; "
            f"download it again from {source.url}"
        )
    return tuple(found[file.name] for file in source.files)


def _read_folder(source: Source, root: Path) -> tuple[Path, dict[str, bytes]]:
    """Return the first folder that has any of the files, and the contents it has."""
    for folder in source.folders:
        place = root / folder
        found = {
            file.name: path
            for file in source.files
            for path in (place / f"{file.name}.gz", place / file.name)  # the unpacked one wins
            if path.is_file()
        }
        if found:
            return place, {name: _content(path) for name, path in found.items()}
    return root, {}


def _content(path: Path) -> bytes:
    """Return a file's bytes, unpacked."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as packed:
            return packed.read()
    except EOFError as error:
        raise InvalidFile(f"{path} is cut short; download it again") from error
    except (OSError, zlib.error) as error:
        raise InvalidFile(f"{path} cannot be read: {error}; download it again") from error


def _read_archive(source: Source, path: Path) -> dict[str, bytes]:
    """Return the contents of the files in a .tar.gz; nothing is written."""
    wanted = {f"{source.folders[0]}/{file.name}": file.name for file in source.files}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = wanted.get(member.name.removeprefix("./"))
                content = None if name is None else archive.extractfile(member)
                if name is not None and content is not None:
                    found[name] = content.read()
    except EOFError as error:
        raise InvalidFile(f"{path} is cut short; download it again from {source.url}") from error
    except (OSError, tarfile.TarError, zlib.error) as error:
        raise InvalidFile(
            f"{path} cannot be read: {error}; download it again from {source.url}"
        ) from error
    return found


def _problem(file: PublishedFile, found: dict[str, bytes]) -> str | None:
    """Return what is wrong with one of the files; None for the published one."""
    if file.name not in found:
        return f"{file.name} is missing"
    content = found[file.name]
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 == file.md5:
        return None
    if len(content) < file.least:
        return f"{file.name} is cut short ({len(content):,} of {file.least:,} bytes or more)"
    return f"{file.name} is not the published file (MD5 {md5}, published {file.md5})"
