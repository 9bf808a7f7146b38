"""Make the Python environment that runs Lava, once: what `snnc lava setup` does.

A virtual environment of a Python 3.10 with lava-nc 0.10.0, in the user's cache directory. It
is made in place, because a virtual environment cannot be moved: a marker file says that it is
not finished, and a lock lets only one setup run at a time. What is left of an interrupted one
is removed and made anew.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from snnc.errors import CannotWrite, MissingDependency

from snnc_targets.loihi.interpreter import INCOMPLETE, LAVA, LAVA_VERSION, VARIABLE, Places, answers

_GET_310 = (
    "no Python 3.10 found; get one with one of\n"
    "  pyenv install 3.10\n"
    "  uv python install 3.10\n"
    "  conda create -n lava python=3.10\n"
    "and run `snnc lava setup` again. Tried:"
)


def setup(places: Places, progress: Callable[[str], None]) -> Path:
    """Return the interpreter of a working environment for Lava, making it if need be.

    pip runs with the user's own settings (PIP_* variables, pip.conf).

    Raises:
        MissingDependency: there is no Python 3.10, or pip failed.
        CannotWrite: the cache directory cannot be written.
    """
    directory = places.managed
    python = directory / "bin" / "python"
    # the variable decides what runs Lava, not what the environment is made from
    environ = {name: value for name, value in places.environ.items() if name != VARIABLE}
    own = replace(places, environ=environ)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(directory.with_name(f"{directory.name}.lock"), progress):
            if not _works(own, python):
                _make(own, directory, progress)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {error.filename or directory}: {error.strerror}; "
            "free some space, or let $XDG_CACHE_HOME name a directory that can be written"
        ) from error
    return python


def _works(places: Places, python: Path) -> bool:
    return any(answer.python == python and not answer.problem for answer in answers(places))


def _make(places: Places, directory: Path, progress: Callable[[str], None]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    base = _bare(places)
    directory.mkdir()
    (directory / INCOMPLETE).touch()
    try:
        progress(f"making {directory} with {base}")
        _run([str(base), "-m", "venv", str(directory)], places, "python -m venv")
        progress(f"installing lava-nc {LAVA_VERSION}")
        python = directory / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", LAVA]
        _run(install, places, f"pip install {LAVA}")
        progress("trying it")
        (directory / INCOMPLETE).unlink()
        if not _works(places, python):
            problem = [str(a) for a in answers(places) if a.python == python]
            raise MissingDependency(f"the new environment does not run Lava: {problem}")
    except BaseException:  # Ctrl-C too: leave nothing half-made
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _bare(places: Places) -> Path:
    """Return any Python 3.10, with or without Lava."""
    tried = []
    for answer in answers(places):
        if answer.is_310 and answer.python is not None:
            return answer.python
        tried.append(answer)
    raise MissingDependency(_GET_310 + "".join(f"\n  {answer}" for answer in tried))


def _run(command: list[str], places: Places, what: str) -> None:
    done = subprocess.run(
        command,
        env=places.child_environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["no message"]
        last = next((line for line in reversed(lines) if "ERROR" in line), lines[-1])
        raise MissingDependency(
            f"`{what}` failed: {last.strip()}\n"
            "check the network and pip's settings, then run `snnc lava setup` again"
        )


@contextmanager
def _only_one(lock: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file; wait for another setup that holds it. The kernel frees it at death."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another setup is running; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
