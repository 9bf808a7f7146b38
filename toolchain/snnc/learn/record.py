"""What a training run leaves on disk, and which of it another run may take over.

A stage's result depends on the recipe up to that stage, on the seed, the data and the code
of the architecture. A digest of all that, its key, is written beside each checkpoint: two
runs whose recipes part after training share the trained network. (It depends on the number
of processes too, as it would on another seed; that is not part of the key.)
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from snnc import __version__
from snnc.data import Dataset
from snnc.errors import InvalidFile, InvalidSetting, OutputExists, SnncError
from snnc.frontend.checkpoint import load_checkpoint
from snnc.frontend.tracing import trace
from snnc.ir.files import read_bytes, write_bytes
from snnc.learn.machine import Machine
from snnc.learn.recipes import Recipe, differences

PLAIN = (bool, int, float, str, tuple, type(None))  # settings that a module may have
DECIDES_NOTHING = ("recipe.about", "recipe.name")  # keys of run.json


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One finished stage."""

    name: str
    seconds: float
    metrics: Mapping[str, float]
    checkpoint: Path


def stage_key(recipe: Recipe, dataset: Dataset, code: str, decided_by: Mapping[str, object]) -> str:
    """Return the digest of everything that decides a stage's result.

    `code` is the fingerprint of the untrained network, `decided_by` maps the stages up to
    this one to their settings.
    """
    content = {
        "snnc": __version__,
        "seed": recipe.seed,
        "data": [_json(recipe.data), dataset.digest],
        "model": [_json(recipe.model), code],
        "stages": {name: _json(value) for name, value in decided_by.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fingerprint(network: nn.Module) -> str:
    """Return a digest of a network: its traced graph, its modules' settings, its weights.

    The name of an architecture does not say what code it stands for today.

    Raises:
        Unsupported: it cannot be traced.
    """
    digest = hashlib.sha256(str(trace(network).graph).encode())
    for path, module in network.named_modules():
        settings = {k: v for k, v in sorted(vars(module).items()) if isinstance(v, PLAIN)}
        digest.update(f"{path} {type(module).__name__} {settings}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _json(value: object) -> object:
    if isinstance(value, list):
        return [_json(each) for each in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


class Record:
    """The directory of one run, seen by all processes as its leader sees it."""

    def __init__(self, directory: Path, reuse: tuple[Path, ...], machine: Machine) -> None:
        for run in reuse:
            if not (run / "run.json").is_file():
                raise InvalidSetting(f"{run} is no run of snnc train, so nothing can be reused")
        self.directory = directory
        self.reuse = reuse
        self.machine = machine

    def path(self, number: int, name: str) -> Path:
        """Return where the checkpoint of a stage lies."""
        return self.directory / "checkpoints" / f"{number:02}-{name}.pt"

    def claim(self, recipe: Recipe, dataset: Dataset, *, resume: bool) -> None:
        """Write the recipe into the directory, or check that it holds the same one.

        Raises:
            OutputExists: the directory holds a run and `resume` is False.
            InvalidSetting: it holds a run of another recipe or of other data.
            InvalidFile: the file that says so is damaged.
        """
        refusal: SnncError | None = None
        if self.machine.leads:
            try:
                self._claim(recipe, dataset, resume)
            except SnncError as error:
                refusal = error
        if (refusal := self.machine.from_leader(refusal)) is not None:
            raise refusal  # in every process: none waits for another

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the directory for the time.

        Raises:
            OutputExists: another process trains here.
        """
        if not self.machine.leads:
            yield
            return
        with (self.directory / "run.json").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputExists(
                    f"another process trains in {self.directory}; wait for it, or stop it"
                ) from error
            yield

    def _claim(self, recipe: Recipe, dataset: Dataset, resume: bool) -> None:
        path = self.directory / "run.json"
        new = {
            "recipe": recipe.model_dump(mode="json"),
            "data": {"name": dataset.name, "digest": dataset.digest},
        }
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
        changed = differences(_read_json(path), new)
        if changed := [line for line in changed if not line.startswith(DECIDES_NOTHING)]:
            listed = "".join(f"\n  {line}" for line in changed)
            raise InvalidSetting(
                f"cannot resume {self.directory} with another recipe; undo these changes or choose "
                f"another path:{listed}"
            )

    def finished(self, path: Path, key: str) -> StageResult | None:
        """Return the result of a stage if it is here, or if another run has it; else None.

        Raises:
            InvalidSetting: it is here, but of another architecture under the same name.
            InvalidFile: what is here is damaged.
        """
        return self.machine.from_leader(self._finished(path, key) if self.machine.leads else None)

    def _finished(self, path: Path, key: str) -> StageResult | None:
        file = path.with_suffix(".json")
        if not file.exists() and not self._take_over(path, key):
            return None
        content = _read_json(file)
        if content.get("key", key) != key:
            raise InvalidSetting(
                f"{path} was trained with other code of the same name or another version of snnc; "
                "choose another path, or go back to that code"
            )
        return _result(path, content)

    def _take_over(self, path: Path, key: str) -> bool:
        """Copy a finished stage of the same key from another run, if one has it."""
        for run in self.reuse:
            for found in sorted((run / "checkpoints").glob("*.json")):
                if _read_json(found).get("key") == key:
                    load_checkpoint(found.with_suffix(".pt"))  # a damaged one is refused here
                    for kind in (".pt", ".report.json", ".report.txt", ".json"):  # .json: done
                        if (source := found.with_suffix(kind)).exists():
                            copied = read_bytes(source, "a file of a training run")
                            write_bytes(path.with_suffix(kind), copied, force=True)
                    return True
        return False

    @staticmethod
    def finish(result: StageResult, key: str) -> None:
        """Write down that a stage is finished, and forget its half-done work."""
        content = {"seconds": result.seconds, "metrics": dict(result.metrics), "key": key}
        _write_json(result.checkpoint.with_suffix(".json"), content)
        for left in result.checkpoint.parent.glob(f"{result.checkpoint.stem}.part*"):
            left.unlink()


def _result(path: Path, content: Mapping[str, Any]) -> StageResult:
    try:
        return StageResult(
            name=path.stem.partition("-")[2],
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
