"""A build: a directory that holds a compiled network and everything to run it.

    program.snnx    the integers
    graph.snn       the float graph they came from, unless they were imported as integers
    mapping.json    what each layer became on the target, and why
    manifest.json   format, target, versions, checksums of every other file
    ...             the target's own files

A build is written under a temporary name and renamed; a build whose files were changed
since is refused when loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from snnc import __version__
from snnc.errors import InvalidFile, OutputExists
from snnc.ir.files import new_directory, read_bytes
from snnc.ir.graph import Graph
from snnc.ir.program import SEMANTICS, Program
from snnc.ir.store import digest, load_graph, load_program, save_graph, save_program
from snnc.targets.api import Target, legalize

FORMAT, VERSION = "snnc build", 2
PROGRAM, GRAPH, MAPPING, MANIFEST = "program.snnx", "graph.snn", "mapping.json", "manifest.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Build:
    """A build that was checked and read."""

    directory: Path
    target: str
    options: Mapping[str, str]  # what was chosen of the target's choices
    program: Program
    graph: Graph | None
    mapping: Mapping[str, object]
    manifest: Mapping[str, object]


def write_build(
    directory: Path, target: Target, program: Program, graph: Graph | None, *, force: bool
) -> None:
    """Write a build of `program`, which came from `graph` (as trained, before any pass).

    Imported integers come from no graph.

    Raises:
        NotLegal: the target cannot run the program; lists every reason.
        OutputExists, CannotWrite.
    """
    legalize(target, program)
    if force and directory.exists() and not (directory / MANIFEST).is_file():
        raise OutputExists(
            f"{directory} is not a build, so --force does not replace it; choose another path"
        )
    with new_directory(directory, force=force) as temporary:
        mapping = target.emit(program, temporary)
        save_program(temporary / PROGRAM, program, force=False)
        if graph is not None:
            save_graph(temporary / GRAPH, graph, force=False)
        _write_json(temporary / MAPPING, mapping)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "snnc": __version__,
            "semantics": SEMANTICS,
            "target": target.name,
            "options": dict(target.options),
            "files": {
                name: digest((temporary / name).read_bytes()) for name in sorted(_files(temporary))
            },
        }
        _write_json(temporary / MANIFEST, manifest)


def load_build(directory: str | Path) -> Build:
    """Read a build and check every file against the manifest.

    Raises:
        InvalidFile: the directory is no build, or one of its files is missing or was changed.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InvalidFile(f"{directory} is not a directory; pass a build made by snnc compile")
    if not (directory / MANIFEST).is_file():
        raise InvalidFile(
            f"{directory} is not a build: it has no {MANIFEST}; pass one made by snnc compile"
        )
    manifest = _read_json(directory / MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise InvalidFile(
            f"{directory / MANIFEST} has format {manifest.get('format')!r} version "
            f"{manifest.get('version')!r}, this snnc reads {FORMAT!r} {VERSION}; compile again"
        )
    files = manifest.get("files")
    target, options = manifest.get("target"), manifest.get("options")
    if not (isinstance(files, dict) and isinstance(target, str) and _is_texts(options)):
        raise InvalidFile(f"{directory / MANIFEST} is damaged; compile again")
    missing = {PROGRAM, MAPPING} - set(files)
    changed = [
        name
        for name, sha in files.items()
        if not (directory / name).is_file() or digest((directory / name).read_bytes()) != sha
    ]
    if missing or changed:
        names = ", ".join(sorted(missing | set(changed)))
        raise InvalidFile(
            f"{directory}: {names} changed since the build was made, or is missing; compile again"
        )
    if added := sorted(_files(directory) - set(files) - {MANIFEST}):
        raise InvalidFile(
            f"{directory} holds {', '.join(added)}, which is not of the build; remove it or "
            "compile again"
        )
    return Build(
        directory=directory,
        target=target,
        options=options,
        program=load_program(directory / PROGRAM),
        graph=load_graph(directory / GRAPH) if GRAPH in files else None,
        mapping=_read_json(directory / MAPPING),
        manifest=manifest,
    )


def _is_texts(value: object) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _files(directory: Path) -> set[str]:
    """Return the files of a build; what Python caches beside sources is none of it."""
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(read_bytes(path, "a build"))
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is damaged ({error}); compile again") from error
    if not isinstance(value, dict):
        raise InvalidFile(f"{path} is damaged; compile again")
    return value
