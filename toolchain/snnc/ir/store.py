"""Both forms <-> files: `*.snn` holds a Graph, `*.snnx` a Program.

A file is a zip of one JSON text (readable, diffable) and `tensors.safetensors`, both
stored without compression and with fixed dates, so equal content gives equal bytes.
Reading runs no code: JSON and safetensors hold data only. What is not exactly as written
by this module is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import safetensors
import safetensors.numpy

from snnc.errors import InvalidFile, Refusal
from snnc.ir.check import check_graph
from snnc.ir.check_program import check_program
from snnc.ir.codec import Tensors, Undecodable, decode, encode
from snnc.ir.files import read_bytes, write_bytes
from snnc.ir.graph import Graph
from snnc.ir.program import SEMANTICS, Program

JSON, TENSORS = "graph.json", "tensors.safetensors"
VERSION = 1  # of the layout of both files
LIMIT = 1 << 32  # bytes of one member: more is not a network that we could hold
EPOCH = (1980, 1, 1, 0, 0, 0)

Form = TypeVar("Form", Graph, Program)


def save_graph(path: Path, graph: Graph, *, force: bool) -> None:
    """Check a graph and write it to a `*.snn` file.

    Raises:
        InvalidGraph, OutputExists, CannotWrite.
    """
    write_bytes(path, graph_bytes(graph), force=force)


def save_program(path: Path, program: Program, *, force: bool) -> None:
    """Check a program and write it to a `*.snnx` file.

    Raises:
        InvalidProgram, OutputExists, CannotWrite.
    """
    write_bytes(path, program_bytes(program), force=force)


def load_graph(path: Path) -> Graph:
    """Read a `*.snn` file.

    Raises:
        InvalidFile: it is missing, damaged, of another kind or version, or breaks a rule.
    """
    return _checked(path, _read(path, Graph), check_graph)


def load_program(path: Path) -> Program:
    """Read a `*.snnx` file.

    Raises:
        InvalidFile: it is missing, damaged, of another kind or version, or breaks a rule.
    """
    return _checked(path, _read(path, Program), check_program)


def graph_bytes(graph: Graph) -> bytes:
    """Return the content of a `*.snn` file."""
    return _pack(check_graph(graph), "snnc graph")


def program_bytes(program: Program) -> bytes:
    """Return the content of a `*.snnx` file."""
    return _pack(check_program(program), "snnc program")


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes, as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()


def _pack(form: Graph | Program, name: str) -> bytes:
    tensors: Tensors = {}
    body = encode(form, tensors, "")
    packed = safetensors.numpy.save(dict(sorted(tensors.items())))
    head = {
        "format": name,
        "version": VERSION,
        "semantics": SEMANTICS,
        "tensors_sha256": digest(packed),
        "body": body,
    }
    text = json.dumps(head, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for member, content in ((JSON, text.encode()), (TENSORS, packed)):
            archive.writestr(zipfile.ZipInfo(member, EPOCH), content)
    return buffer.getvalue()


def _read(path: Path, form: type[Form]) -> Form:
    name = f"snnc {form.__name__.lower()}"
    suffix = ".snn" if form is Graph else ".snnx"
    content = read_bytes(path, f"a {suffix} file")
    head, tensors = _unpack(path, content, name)
    try:
        decoded: Form = decode(form, head["body"], tensors, "")
    except (Undecodable, RecursionError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is damaged: {error}; write it again") from error
    return decoded


def _unpack(path: Path, content: bytes, name: str) -> tuple[dict[str, Any], Tensors]:
    def refuse(fact: str, cause: Exception | None = None) -> NoReturn:
        raise InvalidFile(f"{path} {fact}; write it again with snnc") from cause

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if [member.filename for member in members] != [JSON, TENSORS]:
                refuse(f"is not a {name} file: it does not hold exactly {JSON} and {TENSORS}")
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > LIMIT:
                    refuse(f"holds a compressed or oversized {member.filename}")
            text, packed = (archive.read(member) for member in members)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        refuse(f"is truncated or damaged ({error})", error)
    try:
        head = json.loads(text, parse_constant=_refuse_constant)
        tensors = dict(safetensors.numpy.load(packed))
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        refuse(f"is damaged ({error})", error)
    if not isinstance(head, dict) or head.get("format") != name:
        found = head.get("format") if isinstance(head, dict) else None
        refuse(f"holds {found!r}, not {name!r}")
    for key, known in (("version", VERSION), ("semantics", SEMANTICS)):
        if head.get(key) != known:
            refuse(f"has {key} {head.get(key)!r}, this snnc reads {known}")
    if head.get("tensors_sha256") != digest(packed) or "body" not in head:
        refuse("is damaged: its tensors do not match their checksum")
    return head, tensors


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not a JSON number")


def _checked(path: Path, form: Form, check: Callable[[Form], Form]) -> Form:
    try:
        return check(form)
    except Refusal as error:
        raise InvalidFile(f"{path}: {error}") from error
