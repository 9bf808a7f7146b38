"""Run programs side by side, each in a session of its own, and leave nothing behind.

    what happens                what follows
    a program ends, all done    its results are read, its directory is removed, the next starts
    a program fails, dies, or   all the others are killed; the error is the reason of the first;
    stands still                its log stays
    Ctrl-C, SIGTERM             all are killed, all directories are removed, then the signal acts
    SIGKILL here                each program notices that its parent is gone, removes its
                                directory and ends; a directory whose program had not yet started
                                stays

Killing is SIGKILL to a session's process group: the programs hold nothing with a name, see
template/lifetime.py. A program is a session so that Ctrl-C in a terminal comes here alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from snnc.errors import TargetFailed

from snnc_targets.loihi.interruptions import Interruptions, held

Result = TypeVar("Result")
PATIENCE = 5.0  # seconds for killed processes to go; one that waits for a disk may take longer
LITTLE = 1 << 20  # bytes free on a disk that is as good as full
_POLL = 0.02  # seconds


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Result]):
    """One program to run: it writes status.json and its results into a directory of its own."""

    name: str  # for errors; empty if it is the only one
    samples: int
    prepare: Callable[[Path], Sequence[str]]  # writes the input; returns the command
    read: Callable[[Path], Result]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """How many programs run at once, with which variables, how long each may stand still."""

    workers: int
    environ: Mapping[str, str]
    stall: float  # seconds without one more finished sample

    def run(self, jobs: Sequence[Job[Result]], progress: Callable[[int], None]) -> list[Result]:
        """Run every job; return their results in the order of the jobs.

        `progress` gets the number of samples that all jobs together have finished.

        Raises:
            TargetFailed: a job failed; the text holds the reason and the path of its log.
        """
        waiting = list(enumerate(jobs))
        running: dict[int, _Session[Result]] = {}
        results: dict[int, Result] = {}
        finished = 0
        with held() as interruptions:
            try:
                while waiting or running:
                    interruptions.check()
                    while waiting and len(running) < self.workers:
                        place, job = waiting.pop(0)
                        running[place] = _Session(job, self.environ, self.stall)
                    for place, session in list(running.items()):
                        if session.advance():
                            results[place] = session.result(interruptions)
                            finished += running.pop(place).close().samples
                    progress(finished + sum(session.done for session in running.values()))
                    time.sleep(_POLL if running else 0)
            finally:
                for session in running.values():
                    session.kill()
                for session in running.values():
                    session.close()
        return [results[place] for place in range(len(jobs))]


class _Session(Generic[Result]):
    """One program that was started, and its directory."""

    def __init__(self, job: Job[Result], environ: Mapping[str, str], stall: float) -> None:
        self.done = 0
        self._job, self._stall, self._since = job, stall, time.monotonic()
        self._failed = False
        self._work = _working_directory()
        try:
            command = job.prepare(self._work)
            # a file, not a pipe: a process that lives on would keep a pipe open
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=self._work,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException as error:
            shutil.rmtree(self._work, ignore_errors=True)
            if isinstance(error, OSError):
                raise TargetFailed(f"Lava did not start: {error}; is the disk full?") from error
            raise

    @property
    def _log(self) -> Path:
        return self._work / "log.txt"

    def advance(self) -> bool:
        """Look how far the program is; return whether it is done.

        Raises:
            TargetFailed: it failed, ended too early, or stands still.
        """
        ended = self._process.poll() is not None  # before the last look at what it wrote
        try:
            status = read_status(self._work)
        except OSError as error:
            raise self._broken(str(error)) from error
        if ended and status.state != "done":
            raise self._broken(status.problem or self._last_words())
        if status.done > self.done:
            self.done, self._since = status.done, time.monotonic()
        if not ended and time.monotonic() - self._since > self._stall:
            raise self._broken(
                f"it finished no sample within {self._stall:g} s (after {self.done} of "
                f"{self._job.samples})"
            )
        return ended

    def result(self, interruptions: Interruptions) -> Result:
        """Return what the job makes of the results."""
        try:
            with interruptions.let_through():
                return self._job.read(self._work)
        except (OSError, ValueError, EOFError) as error:
            raise self._broken(f"its results cannot be read: {error}") from error

    def kill(self) -> None:
        """Send every process its end; `close` waits for it."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of zombies
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> Job[Result]:
        """End every process and remove the directory, all but the log of a failed run."""
        self.kill()
        _wait(self._process)
        if not self._failed:
            shutil.rmtree(self._work, ignore_errors=True)
            return self._job
        for path in self._work.iterdir():
            if path != self._log:
                with suppress(OSError):
                    path.unlink()
        return self._job

    def _broken(self, reason: str) -> TargetFailed:
        self._failed = True
        whose = f" {self._job.name}" if self._job.name else ""
        return TargetFailed(f"Lava did not finish{whose}: {reason}\nthe log is {self._log}")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        words = lines[-1] if lines else "it printed nothing"
        code = self._process.returncode
        how = f"with {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        full = shutil.disk_usage(self._work).free < LITTLE
        return f"it ended {how}: {words}" + (f"; the disk of {self._work} is full" if full else "")


@dataclass(frozen=True, kw_only=True)
class Status:
    """What status.json says."""

    state: str
    done: int
    problem: str


def read_status(work: Path) -> Status:
    """Return the status that the generated program wrote last, or one that says: none yet."""
    try:
        facts = json.loads((work / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Status(state="absent", done=0, problem="")
    return Status(state=facts["state"], done=facts["done"], problem=facts.get("problem", ""))


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait until every killed process of the group that `process` leads is gone."""
    until = time.monotonic() + PATIENCE
    while _alive(process) and time.monotonic() < until:
        time.sleep(_POLL / 5)
    process.wait()


def _alive(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process of the group still runs.

    A zombie does not run, though a signal still finds it: in a container without an init that
    reaps, orphans stay zombies for ever. /proc tells the two apart where there is one.
    """
    process.poll()
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    if not stats:
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for stat in stats:
        try:  # "pid (name) state parent group ...", see proc(5); a name may hold spaces
            state, _, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if int(group) == process.pid and state not in "ZX":
            return True
    return False


def _working_directory() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="snnc-lava-"))
    except OSError as error:
        raise TargetFailed(
            f"cannot make a temporary directory: {error.strerror}; let $TMPDIR name one"
        ) from error
