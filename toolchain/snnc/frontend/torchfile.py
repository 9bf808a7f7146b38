"""Read a file of `torch.save` without running code from it.

The file is looked at as a zip first: every member must be stored uncompressed and pass its
checksum. Only then is it unpickled, by torch's `weights_only` reader, which builds tensors
and plain Python values and nothing else.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from snnc.errors import InvalidFile
from snnc.ir.files import read_bytes

REMEDY = (
    "save network.state_dict() with torch.save, and read that with "
    "snnc.frontend.checkpoint.from_state_dict"
)
PICKLE = b"\x80"  # the first byte of a pickle of protocol 2 and later


def read(path: Path) -> object:
    """Return what was saved: plain Python values and tensors on the CPU.

    Raises:
        InvalidFile: the file is missing, a directory, empty, truncated, damaged, another kind
            of archive, or a pickle that would run code.
    """
    content = read_bytes(path, "a checkpoint, usually model.pt")
    _look(path, content)
    _refuse_code(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, which the user did not choose
            value: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path) from error
    for name, tensor in _tensors(value, "").items():
        # A tensor may claim any size by strides of 0; what is in the file has an end.
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            _refuse(path, f"holds {name!r}, which is no ordinary tensor", REMEDY)
        if tensor.numel() * tensor.element_size() > len(content):
            _refuse(path, f"holds {name!r}, which is larger than the file", "write it again")
    return value


def not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]


def _look(path: Path, content: bytes) -> None:
    """Refuse what is not a whole, undamaged zip as `torch.save` writes it."""
    if content.startswith(PICKLE):
        _refuse(path, "is a bare pickle, and reading a pickle can run any code", REMEDY)
    if not content.startswith(b"PK"):
        _refuse(path, "is not a checkpoint, nor anything that torch.save writes", REMEDY)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            names = {member.filename.partition("/")[2] for member in members}
            if "constants.pkl" in names or any(name.startswith("code/") for name in names):
                _refuse(path, "is a TorchScript archive, which is a program", REMEDY)
            if "archive_format" in names or any(name.startswith("models/") for name in names):
                _refuse(
                    path,
                    "is a .pt2 archive of torch.export, whose pickles can run code when read",
                    REMEDY,
                )
            if "data.pkl" not in names:
                _refuse(path, "is a zip, but not one that torch.save wrote", REMEDY)
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                _refuse(path, "holds compressed members, which torch.save never writes", REMEDY)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        _refuse(path, f"is truncated or damaged ({error})", "write it again", error)
    if damaged is not None:
        _refuse(path, f"is damaged: {damaged} does not match its checksum", "write it again")


def _refuse_code(path: Path, content: bytes) -> None:
    """Refuse a pickle that names anything but tensors and plain values."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(content))
    except Exception as error:
        raise _unreadable(path) from error
    if names:
        _refuse(
            path,
            f"holds more than tensors ({', '.join(sorted(names))}), and reading it can run code",
            REMEDY,
        )


def _tensors(value: object, place: str) -> dict[str, Tensor]:
    """Return the tensors inside dicts, lists and tuples, by their place."""
    if isinstance(value, Tensor):
        return {place: value}
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    return {
        name: tensor
        for key, item in pairs
        for name, tensor in _tensors(item, f"{place}.{key}" if place else str(key)).items()
    }


def _unreadable(path: Path) -> InvalidFile:
    return InvalidFile(f"{path} is damaged: its pickle cannot be read; write it again")


def _refuse(path: Path, fact: str, remedy: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidFile(f"{path} {fact}; {remedy}") from cause
