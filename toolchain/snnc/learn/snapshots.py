"""Snapshots: half-done work on disk, so that a killed run loses a minute, not a day."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from snnc.errors import InvalidFile
from snnc.ir.files import read_bytes, write_bytes

EVERY = 60.0  # seconds; writing VGG-16's weights, momenta and best network takes about one


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Where one piece of work is kept while it is half done. Without a path, nowhere."""

    path: Path | None = None
    every: float = EVERY  # seconds between two snapshots; 0 takes one after every step

    def of(self, phase: str) -> Snapshots:
        """Return the snapshots of one phase of the work."""
        if self.path is None:
            return self
        return replace(self, path=self.path.with_name(f"{self.path.name}.{phase}"))

    def save(self, content: Mapping[str, Any]) -> None:
        """Replace the snapshot: a kill leaves the old one or the new one."""
        if self.path is not None:
            file = io.BytesIO()
            torch.save(dict(content), file)
            write_bytes(self.path, file.getvalue(), force=True)

    def load(self) -> Mapping[str, Any] | None:
        """Return the last snapshot, on the CPU; None if there is none.

        Raises:
            InvalidFile: the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            content: Mapping[str, Any] = torch.load(
                io.BytesIO(read_bytes(self.path, "a snapshot")), map_location="cpu"
            )
        except Exception as error:  # torch.load raises what it likes on foreign bytes
            raise InvalidFile(
                f"{self.path} is damaged; delete it to repeat the stage from its start"
            ) from error
        return content
