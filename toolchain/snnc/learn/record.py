"""What a training run leaves on disk, and which of it another run may take over.

A stage's result depends on the recipe up to that stage, on the seed and on the data, and
on nothing else. A digest of all that, its key, is written beside each checkpoint: two runs
whose recipes part after training share the trained network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from snnc import __version__
from snnc.data import Dataset
from snnc.errors import InvalidFile, InvalidSetting, OutputExists
from snnc.ir.files import read_bytes, write_bytes
from snnc.learn.machine import Machine
from snnc.learn.recipes import Recipe, differences


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One finished stage."""

    name: str
    seconds: float
    metrics: Mapping[str, float]
    checkpoint: Path


def stage_key(recipe: Recipe, dataset: Dataset, settings: Mapping[str, object]) -> str:
    """Return the digest of everything that decides a stage's result.

    `settings` maps the stages up to this one to their settings.
    """
    content = {
        "snnc": __version__,
        "seed": recipe.seed,
        "data": [recipe.data.model_dump(mode="json"), dataset.digest],
        "model": recipe.model.model_dump(mode="json"),
        "stages": {name: _json(value) for name, value in settings.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _json(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


class Record:
    """The directory of one run."""

    def __init__(self, directory: Path, reuse: tuple[Path, ...]) -> None:
        self.directory = directory
        self.reuse = reuse

    def path(self, number: int, name: str) -> Path:
        """Return where the checkpoint of a stage lies."""
        return self.directory / "checkpoints" / f"{number:02}-{name}.pt"

    def claim(self, recipe: Recipe, dataset: Dataset, *, resume: bool, leads: bool) -> None:
        """Write the recipe into the directory, or check that it holds the same one.

        Raises:
            OutputExists: the directory holds a run and `resume` is False.
            InvalidSetting: it holds a run of another recipe or of other data.
            InvalidFile: the file that says so is damaged.
        """
        path = self.directory / "run.json"
        new = {
            "recipe": recipe.model_dump(mode="json"),
            "data": {"name": dataset.name, "digest": dataset.digest},
        }
        if not leads:
            return
        if not path.exists():
            if (self.directory / "checkpoints").exists() or (self.directory / "model.pt").exists():
                raise OutputExists(
                    f"{self.directory} holds checkpoints but no run.json, so nobody knows of which "
                    "recipe; choose another path"
                )
            _write_json(path, new)
            return
        if not resume:
            raise OutputExists(
                f"{self.directory} holds a training run; go on with --resume, or choose another "
                "path"
            )
        if changed := differences(_read_json(path), new):
            listed = "".join(f"\n  {line}" for line in changed)
            raise InvalidSetting(
                f"cannot resume {self.directory} with another recipe; undo these changes or choose "
                f"another path:{listed}"
            )

    def finished(self, number: int, name: str, key: str, machine: Machine) -> StageResult | None:
        """Return the result of a stage if it is here, or if another run has it; else None."""
        path = self.path(number, name)
        if machine.leads and not path.with_suffix(".json").exists():
            self._take_over(path, key)
        machine.wait()
        if not path.with_suffix(".json").exists():
            return None
        return _read_result(path, name)

    def _take_over(self, path: Path, key: str) -> None:
        """Copy a finished stage of the same key from another run, if one has it."""
        for run in self.reuse:
            for found in sorted((run / "checkpoints").glob("*.json")):
                content = _read_json(found)
                if content.get("key") == key:
                    kinds = [".pt", ".report.json", ".report.txt", ".json"]  # .json says: done
                    for kind in kinds:
                        if (source := found.with_suffix(kind)).exists():
                            copied = read_bytes(source, "a file of a training run")
                            write_bytes(path.with_suffix(kind), copied, force=True)
                    return

    @staticmethod
    def finish(result: StageResult, key: str) -> None:
        """Write down that a stage is finished."""
        content = {"seconds": result.seconds, "metrics": dict(result.metrics), "key": key}
        _write_json(result.checkpoint.with_suffix(".json"), content)


def _read_result(path: Path, name: str) -> StageResult:
    content = _read_json(path.with_suffix(".json"))
    try:
        return StageResult(
            name=name,
            seconds=float(content["seconds"]),
            metrics={str(key): float(value) for key, value in content["metrics"].items()},
            checkpoint=path,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path.with_suffix(".json")) from error


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode(), force=True)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_bytes(path, "a file of a training run"))
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> InvalidFile:
    if path.name == "run.json":
        return InvalidFile(f"{path} is damaged; the run cannot go on, choose another path")
    return InvalidFile(f"{path} is damaged; delete it to repeat what it records")
