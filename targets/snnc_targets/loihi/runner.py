"""Run an emitted program under another Python, and leave nothing behind.

Lava runs each of its processes as a process of the operating system, with shared memory. The
generated program gets a session of its own; whatever happens here (an end, an error, a stall,
Ctrl-C) its whole process group gets SIGTERM, which Python's resource tracker survives and
answers by freeing the shared memory. SIGKILL, which leaks it, comes only after a grace period.
If this process dies without a chance to do so, the program notices and ends its group itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from snnc.errors import InvalidSetting, TargetFailed
from snnc.ir.program import Layer, Program
from snnc.ir.weights import IntArray
from snnc.simulate.activity import trace_from_rasters
from snnc.simulate.trace import Counts, Spikes, Trace, concatenate
from snnc.targets.api import Progress

from snnc_targets.batches import batch_size, in_batches
from snnc_targets.loihi.interpreter import Places
from snnc_targets.loihi.plan import plan

CHUNK_BYTES = 1 << 28  # of files in the temporary directory: bounds the disk
STALL = 600.0  # seconds without one more finished sample: no network we know needs a tenth
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_POLL = 0.05  # seconds
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """How to run emitted programs: with which Python, and how long to wait for a sample."""

    python: Path
    places: Places
    stall: float = STALL

    def run(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        raster: bool,
        progress: Progress | None,
    ) -> Trace:
        """Run the emitted files in `directory` on codes (samples, *shape).

        Raises:
            InvalidSetting: there is no sample, or a code is none that an image can become.
            TargetFailed: the run broke; the text holds the reason and the path of the log.
        """
        check_codes(program, codes)
        return in_batches(
            lambda batch, report: self._chunk(program, directory, batch, report, raster),
            codes,
            chunk_size(program),
            progress,
        )

    def _chunk(
        self, program: Program, directory: Path, codes: IntArray, report: Progress, raster: bool
    ) -> Trace:
        work = _working_directory()
        log = work / "log.txt"
        failed = False
        try:
            np.save(work / "codes.npy", codes)
            self._start_and_wait(directory, work, len(codes), report)
            return read_trace(program, work, codes, raster=raster)
        except (TargetFailed, OSError) as error:
            failed = True
            raise _explained(error, log) from error
        finally:
            _clear(work, keep=log if failed else None)

    def _start_and_wait(self, directory: Path, work: Path, samples: int, report: Progress) -> None:
        command = [
            str(self.python),
            str(directory.resolve() / "network.py"),
            *("--input", str(work / "codes.npy")),
            *("--output", str(work)),
            *("--stop-with", str(os.getpid())),
        ]
        environ = self.places.child_environ() | dict.fromkeys(_THREADS, "1")
        environ["PYTHONUNBUFFERED"] = "1"
        # the log is a file, not a pipe: a Lava process that lives on would keep a pipe open
        with (work / "log.txt").open("w") as log, _sockets() as environ["TMPDIR"]:
            process = subprocess.Popen(
                command,
                cwd=work,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                self._watch(process, work, samples, report)
            finally:
                end_group(process)
        status = read_status(work)
        if status.state != "done":
            raise TargetFailed(status.problem or _last_words(process, work))

    def _watch(
        self, process: subprocess.Popen[bytes], work: Path, samples: int, report: Progress
    ) -> None:
        """Wait for the end, reporting finished samples; raise when there are no more of them."""
        seen, since = 0, time.monotonic()
        while process.poll() is None:
            done = read_status(work).done
            if done > seen:
                seen, since = done, time.monotonic()
                report(done, samples)
            if time.monotonic() - since > self.stall:
                raise TargetFailed(
                    f"Lava finished no sample within {self.stall:g} s (after {seen} of {samples})"
                )
            time.sleep(_POLL)


def _sockets() -> tempfile.TemporaryDirectory[str]:
    """Make a directory for the sockets of Lava's processes, which a killed process leaves.

    The path of a socket has at most 103 bytes on every system, of which multiprocessing adds 32.
    """
    place = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(prefix="snnc-", dir=place if len(place) < 50 else "/tmp")


def check_codes(program: Program, codes: IntArray) -> None:
    """Refuse codes that no image becomes: the current bounds do not cover them."""
    image = program.input
    if codes.shape[1:] != image.shape:
        raise InvalidSetting(
            f"codes have shape {codes.shape}, the program reads (samples, *{image.shape})"
        )
    zero_point = image.zero_point.reshape(-1, *[1] * (len(image.shape) - 1))
    if ((codes < -zero_point) | (codes > image.levels - zero_point)).any():
        raise InvalidSetting(
            f"codes reach from {codes.min()} to {codes.max()}, which no image in [0, 1] becomes; "
            "use snnc.semantics.encode"
        )


def chunk_size(program: Program) -> int:
    """Return how many samples one run of Lava takes."""
    spikes = program.steps * sum(layer.size for layer in program.layers) // 8
    currents = 4 * sum(population.size for population in program.populations)
    return max(1, CHUNK_BYTES // (spikes + currents))


def read_trace(program: Program, work: Path, codes: IntArray, *, raster: bool) -> Trace:
    """Return the trace of what a run left in `work`, reading a batch of samples at a time."""
    files = {
        place.population.name: np.load(work / f"{place.variable}.npy", mmap_mode="r")
        for place in plan(program)
        if isinstance(place.population, Layer)
    }
    logits: Counts = np.load(work / "logits.npy")
    size = batch_size(program)
    traces = []
    for first in range(0, len(codes), size):
        part = slice(first, first + size)
        rasters = {layer.name: unpacked(layer, files[layer.name][part]) for layer in program.layers}
        traces.append(
            trace_from_rasters(
                program, codes[part], rasters, keep_rasters=raster, logits=logits[part]
            )
        )
    return concatenate(traces)


def unpacked(layer: Layer, packed: npt.NDArray[np.uint8]) -> Spikes:
    """Return spikes (samples, T, *shape) of (samples, T, bytes), eight neurons to a byte."""
    spikes = np.unpackbits(packed, axis=2, count=layer.size).view(np.bool_)
    return spikes.reshape(*packed.shape[:2], *layer.shape)


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


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End every process of the group that `process` leads, and wait until they are gone."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 1.0)):
        try:
            os.killpg(process.pid, number)
            os.killpg(process.pid, signal.SIGCONT)  # a stopped process hears nothing else
        except (ProcessLookupError, PermissionError):  # macOS says the latter of zombies
            break
        until = time.monotonic() + patience
        while _alive(process) and time.monotonic() < until:
            time.sleep(_POLL / 5)
        if not _alive(process):
            break
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


def _last_words(process: subprocess.Popen[bytes], work: Path) -> str:
    lines = (work / "log.txt").read_text(errors="replace").strip().splitlines()
    words = lines[-1] if lines else "it printed nothing"
    return f"it ended with code {process.returncode}: {words}"


def _working_directory() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="snnc-lava-"))
    except OSError as error:
        raise TargetFailed(
            f"cannot make a temporary directory: {error.strerror}; let $TMPDIR name one"
        ) from error


def _clear(work: Path, *, keep: Path | None) -> None:
    """Remove the working directory; with `keep`, all but that file."""
    if keep is None or not keep.exists():
        shutil.rmtree(work, ignore_errors=True)
        return
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path != keep:
            path.unlink()


def _explained(error: Exception, log: Path) -> TargetFailed:
    remedy = f"the log is {log}" if log.exists() else "look at the temporary directory's space"
    return TargetFailed(f"Lava did not finish: {error}\n{remedy}")
