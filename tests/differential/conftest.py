"""A run of snnc on Lava in a process of its own, and what belongs to it: for tests that disturb it.

All processes of a run carry a private environment variable, so that other Lava runs on the
machine do not matter.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

MARK = "SNNC_TEST_RUN"
SHARED = Path("/dev/shm")
PATIENCE = 120.0  # seconds: far more than anything here takes on a busy machine
SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from snnc.errors import SnncError
    from snnc.ir.graph import Reset
    from snnc.ir.program import FullyConnected, ImageInput, Layer, Program, SpikeCount, Synapses
    from snnc.ir.weights import Dense, integers
    from snnc.targets.outside import Manner
    from snnc_targets.loihi.target import TARGET

    directory, engine, workers, timeout, samples, steps = sys.argv[1:]

    def layer(name, source):
        weight = Dense(integers(np.full((5, 5), 3)))
        synapses = Synapses(name=name, source=source, weight=weight, kind=FullyConnected())
        return Layer(
            name=name, shape=(5,), synapses=(synapses,), bias=integers(np.zeros(5)),
            threshold=641, decay=0, reset=Reset.ZERO, scale=1.0,
        )

    program = Program(
        input=ImageInput(shape=(5,), levels=1, zero_point=integers([0])),
        layers=(layer("a", "input"), layer("b", "a")),
        readout=SpikeCount(),
        steps=int(steps),
    )
    TARGET.emit(program, Path(directory))
    print("emitted", flush=True)
    try:
        trace, outside = TARGET.execute_outside(
            program, Path(directory), integers(np.ones((int(samples), 5))), raster=False,
            manner=Manner(engine=engine, workers=int(workers), timeout=float(timeout)),
        )
        print("done", trace.samples, outside.workers)
    except SnncError as error:
        print(error)
        raise SystemExit(1)
    """
)


class Run:
    """snnc in a session of its own, the processes that belong to it, the segments they map."""

    def __init__(
        self,
        directory: Path,
        *,
        engine: str = "lava",
        workers: int = 1,
        timeout: float = 600.0,
        samples: int = 1,
        steps: int = 1_000_000,
    ):
        self.build = directory / "build"
        self.build.mkdir(parents=True)
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        self.mapped: set[str] = set()
        self._before = set(os.listdir(SHARED))
        script = directory / "script.py"
        script.write_text(SCRIPT)
        what = [self.build, engine, workers, timeout, samples, steps]
        self.parent = subprocess.Popen(
            [sys.executable, *map(str, [script, *what])],
            env={**os.environ, "TMPDIR": str(self.temporary), MARK: self.mark},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """Return every living process of this run; note what it maps of /dev/shm."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:  # a zombie has no environment
                mine = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                if mine:
                    found.append(int(entry.name))
                    self.mapped |= _segments((entry / "maps").read_text())
            except OSError:
                continue
        return sorted(found)

    def children(self) -> list[int]:
        """Return every process of this run but snnc."""
        return [process for process in self.processes() if process != self.parent.pid]

    def wait_until_it_steps(self) -> list[int]:
        """Return the children once the network is there and runs."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.parent.poll() is None:
            if len(list(self.temporary.glob("*/b_neurons.npy"))) > 0 or self._built():
                time.sleep(0.5)  # into the steps
                return self.children()
            time.sleep(0.05)
        self.parent.kill()
        raise AssertionError(f"Lava did not start: {self.parent.communicate()[0]}")

    def _built(self) -> bool:
        return any(self.temporary.glob("*/b.npy"))

    def finish(self) -> str:
        """Wait for snnc to end; return what it printed."""
        return self.parent.communicate(timeout=PATIENCE)[0]

    def left(
        self, *, within: float = PATIENCE, beside: tuple[int, ...] = ()
    ) -> tuple[list[int], set[str]]:
        """Return the other processes and the segments still there after so many seconds."""
        until = time.monotonic() + within
        while (
            left := ([p for p in self.processes() if p not in beside], self._segments_left())
        ) != ([], set()):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return left

    def _segments_left(self) -> set[str]:
        """Return the segments that this run mapped, and new ones that no living process maps."""
        now = set(os.listdir(SHARED))
        if not now - self._before and not now & self.mapped:
            return set()
        used = set()
        for maps in Path("/proc").glob("[0-9]*/maps"):
            try:
                used |= _segments(maps.read_text())
            except OSError:
                continue
        return now & self.mapped | (now - self._before - used) & set(os.listdir(SHARED))

    def files_left(self) -> list[str]:
        """Return the files and directories in this run's temporary directory."""
        return sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*"))

    def end(self) -> None:
        """Kill whatever is left, as in a test that failed."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not self.parent.stdout.closed:
            self.parent.communicate()


def _segments(maps: str) -> set[str]:
    """Return the names under /dev/shm that are mapped and not removed yet."""
    return set(re.findall(r"/dev/shm/(\S+)$", maps, flags=re.MULTILINE))


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a run with the arguments of `Run`; it ends with the test."""
    runs = []

    def one(**how) -> Run:
        runs.append(Run(tmp_path / f"run{len(runs)}", **how))
        return runs[-1]

    yield one
    for run in runs:
        run.end()
