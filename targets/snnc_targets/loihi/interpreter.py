"""Find a Python that has lava-nc 0.10.0: 3.10, or for the engine `inproc` a newer one.

Lava's last release runs on Python 3.10 only, so it runs out of process. Lava's models run on
newer ones too, through `template/newer_python.py`, if somebody installed lava-nc there with
`pip install --ignore-requires-python --no-deps lava-nc==0.10.0`. Every candidate is asked by
running it; nothing is remembered between calls. Environment variables and the file system are
the only inputs, and arrive as `Places`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from snnc.errors import MissingDependency

VARIABLE = "SNNC_LAVA_PYTHON"
LAVA_VERSION = "0.10.0"
LAVA = f"lava-nc=={LAVA_VERSION}"  # as pip names it
PYTHON = (3, 10)
NEWER = Path(__file__).parent / "template" / "newer_python.py"
INCOMPLETE = ".incomplete"  # lies in a managed environment until its setup is done
_PATIENCE = 60.0  # seconds for a candidate to answer: the first import from a cold disk is slow
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_PROBE = """
import json, sys
report = {"python": list(sys.version_info[:2])}
try:
    import lava.proc.lif.process
    from importlib.metadata import version
    report["lava"] = version("lava-nc")
except Exception as error:
    report["problem"] = f"{type(error).__name__}: {error}"
print(json.dumps(report))
"""


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that can run Lava, or at least Lava's models."""

    python: Path
    version: tuple[int, ...]  # (3, 10)

    @property
    def command(self) -> tuple[str, ...]:
        """What runs a script that imports Lava."""
        return _command(self.python, newer=self.version > PYTHON)

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.python})"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where to look: the environment variables, the home directory, this Python.

    `this` is this Python if it is 3.10, `newer` if it is newer.
    """

    environ: Mapping[str, str]
    home: Path
    this: Path | None
    newer: Path | None = None

    @staticmethod
    def here() -> Places:
        """Return the places of this process."""
        python, is_310 = Path(sys.executable), sys.version_info[:2] == PYTHON
        return Places(
            environ=dict(os.environ),
            home=Path.home(),
            this=python if is_310 else None,
            newer=None if is_310 else python,
        )

    @property
    def managed(self) -> Path:
        """The environment that `snnc lava setup` makes."""
        cache = self.environ.get("XDG_CACHE_HOME")  # XDG: an empty or relative value counts not
        root = Path(cache) if cache and Path(cache).is_absolute() else self.home / ".cache"
        return root / "snnc" / "lava-3.10"

    def child_environ(self) -> dict[str, str]:
        """Return the variables for another Python: without those that belong to this one."""
        return {name: value for name, value in self.environ.items() if name not in _FOREIGN}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One place that was tried."""

    place: str  # "$SNNC_LAVA_PYTHON", "pyenv", ...
    python: Path | None  # None if the place itself gave no interpreter
    is_310: bool
    problem: str  # why it cannot run Lava; empty if it can

    def __str__(self) -> str:
        where = f" ({self.python})" if self.python else ""
        return f"{self.place}{where}: {self.problem or 'ready'}"


def find(places: Places) -> Path:
    """Return the first interpreter that can run Lava.

    Raises:
        MissingDependency: there is none, or $SNNC_LAVA_PYTHON is set and cannot; the text
            lists all that was tried.
    """
    tried = []
    for answer in answers(places):
        if answer.python is not None and not answer.problem:
            return answer.python
        tried.append(answer)
    listing = "".join(f"\n  {answer}" for answer in tried)
    if VARIABLE in places.environ:
        raise MissingDependency(
            f"${VARIABLE} names a Python that cannot run Lava:{listing}\n"
            f"unset it, or let it name a Python 3.10 that has lava-nc {LAVA_VERSION}"
        )
    raise MissingDependency(
        f"no Python 3.10 with lava-nc {LAVA_VERSION} found; make one with: snnc lava setup\n"
        f"or let ${VARIABLE} name one. Tried:{listing or ' nothing to try'}"
    )


def find_for_models(places: Places) -> Interpreter:
    """Return the first interpreter that can run Lava's models in one process.

    That is one that `find` finds, else $SNNC_LAVA_PYTHON or this Python with its newer version.

    Raises:
        MissingDependency: as `find`; the text lists the newer Python too.
    """
    try:
        return Interpreter(python=find(places), version=PYTHON)
    except MissingDependency as missing:
        named = places.environ.get(VARIABLE)
        newer = Path(named).expanduser() if named is not None else places.newer
        if newer is None:
            raise
        version, problem = _probe(newer, places, newer=True)
        if not problem and version > PYTHON:
            return Interpreter(python=newer, version=version)
        raise MissingDependency(
            f"{missing}\n  for inproc, {newer}: {problem or 'is not newer than Python 3.10'}"
        ) from missing


def answers(places: Places) -> Iterator[Answer]:
    """Ask every candidate in the order of preference; if $SNNC_LAVA_PYTHON is set, only that."""
    asked: set[Path] = set()
    for place, python, problem in _candidates(places):
        if python is None or problem:
            yield Answer(place=place, python=python, is_310=False, problem=problem)
        elif python not in asked:
            asked.add(python)
            yield _ask(place, python, places)


def _candidates(places: Places) -> Iterator[tuple[str, Path | None, str]]:
    """Yield (place, interpreter, why it is not even asked)."""
    if VARIABLE in places.environ:
        yield f"${VARIABLE}", Path(places.environ[VARIABLE]).expanduser(), ""
        return
    if places.this is not None:
        yield "this Python", places.this, ""
    yield _managed(places)
    search = places.environ.get("PATH", os.defpath)
    if found := shutil.which("python3.10", path=search):
        yield "PATH", Path(found), ""
    pyenv = Path(places.environ.get("PYENV_ROOT") or places.home / ".pyenv")
    for python in sorted(pyenv.glob("versions/3.10*/bin/python"), reverse=True):
        yield "pyenv", python, ""
    if uv := shutil.which("uv", path=search):
        yield _uv(uv, places)
    if conda := places.environ.get("CONDA_EXE") or shutil.which("conda", path=search):
        yield from _conda(conda, places)


def _managed(places: Places) -> tuple[str, Path | None, str]:
    place, python = "snnc lava setup", places.managed / "bin" / "python"
    if not python.exists():
        return place, None, f"has not made {places.managed} yet"
    if (places.managed / INCOMPLETE).exists():
        return place, python, "was interrupted; run it again"
    return place, python, ""


def _uv(uv: str, places: Places) -> tuple[str, Path | None, str]:
    output, problem = _output([uv, "python", "find", "3.10"], places)
    return ("uv", None, problem) if problem else ("uv", Path(output.strip()), "")


def _conda(conda: str, places: Places) -> Iterator[tuple[str, Path | None, str]]:
    output, problem = _output([conda, "env", "list", "--json"], places)
    if problem:
        yield "conda", None, problem
        return
    try:
        environments = [Path(path) for path in json.loads(output)["envs"]]
    except (ValueError, KeyError, TypeError):
        yield "conda", None, "`conda env list --json` printed something else"
        return
    for environment in environments:
        if (python := environment / "bin" / "python3.10").exists():
            yield "conda", python, ""


def _ask(place: str, python: Path, places: Places) -> Answer:
    """Run a candidate and let it say what it is."""
    version, problem = _probe(python, places, newer=False)
    if version and version != PYTHON:
        problem = f"is Python {version[0]}.{version[1]}, Lava needs 3.10"
    return Answer(place=place, python=python, is_310=version == PYTHON, problem=problem)


def _probe(python: Path, places: Places, *, newer: bool) -> tuple[tuple[int, ...], str]:
    """Return the version of an interpreter, () if it is none, and why it cannot run Lava."""
    output, problem = _output([*_command(python, newer=newer), "-c", _PROBE], places)
    if problem:
        return (), problem
    try:
        report = json.loads(output.strip().splitlines()[-1])
        version = tuple(report["python"])
    except (ValueError, IndexError, KeyError, TypeError):
        return (), "is not a Python"
    if "problem" in report:
        problem = f"cannot import Lava: {report['problem']}"
    elif report["lava"] != LAVA_VERSION:
        problem = f"has lava-nc {report['lava']}, snnc emits for {LAVA_VERSION}"
    return version, problem


def _command(python: Path, *, newer: bool) -> tuple[str, ...]:
    return (str(python), "-P", str(NEWER)) if newer else (str(python),)


def _output(command: list[str], places: Places) -> tuple[str, str]:
    """Return what a command printed, and why it is of no use (empty if it is)."""
    try:
        done = subprocess.run(
            command,
            env=places.child_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"did not answer within {_PATIENCE:.0f} s"
    except OSError as error:
        return "", f"cannot be run: {error.strerror or error}"
    if done.returncode < 0:
        return "", f"ended with {signal.Signals(-done.returncode).name}"
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        reason = lines[-1] if lines[0].startswith("Traceback") else lines[0]
        return "", f"failed: {reason}"
    return done.stdout, ""
