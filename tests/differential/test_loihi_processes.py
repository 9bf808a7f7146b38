"""Whatever happens to a run on Lava, no process and no shared memory is left behind.

Each test starts snnc in a process of its own on a program that runs for many minutes, waits
until Lava runs, disturbs it, and looks at what is left. Only processes and segments of this
very run are looked at, so that other Lava runs on the machine do not matter.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.lava,
    pytest.mark.usefixtures("lava"),
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc"),
]

PATIENCE = 180.0  # seconds until Lava must run, and until everything must be gone

SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from snnc.errors import SnncError
    from snnc.ir.graph import Reset
    from snnc.ir.program import FullyConnected, ImageInput, Layer, Program, SpikeCount, Synapses
    from snnc.ir.weights import Dense, integers
    from snnc_targets.loihi import interpreter, limits, emit
    from snnc_targets.loihi.interpreter import Places
    from snnc_targets.loihi.runner import Runner

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
        steps=1_000_000,
    )
    directory = Path(sys.argv[1])
    emit.emit(program, directory)
    places = Places.here()
    runner = Runner(python=interpreter.find(places), places=places, stall=float(sys.argv[2]))
    try:
        runner.run(program, directory, integers(np.ones((1, 5))), raster=False, progress=None)
    except SnncError as error:
        print(error)
        raise SystemExit(1)
    """
)


class Run:
    """One run: snnc, the processes that belong to it, and the segments they mapped."""

    def __init__(self, directory: Path, stall: float = 600.0):
        self.build = directory / "build"
        self.build.mkdir()
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        (directory / "script.py").write_text(SCRIPT)
        self.parent = subprocess.Popen(
            [sys.executable, str(directory / "script.py"), str(self.build), str(stall)],
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.segments: set[str] = set()

    def workers(self) -> list[int]:
        """Return Lava's processes of this run and the program that leads them."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"{self.build}/network.py" in command:  # a zombie has no command line
                found.append(int(entry.name))
        return sorted(found)

    def wait_until_lava_runs(self) -> list[int]:
        """Return the processes once all of Lava's are there and talk through shared memory."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            workers = self.workers()
            for worker in workers:
                try:
                    maps = Path(f"/proc/{worker}/maps").read_text()
                except OSError:
                    continue
                self.segments |= set(re.findall(r"/dev/shm/(psm_\w+)", maps))
            if len(workers) > 5 and list(self.temporary.glob("*/b_neurons.npy")):
                time.sleep(0.5)  # into the steps
                return workers
            if self.parent.poll() is not None:
                break
            time.sleep(0.05)
        self.parent.kill()
        pytest.fail(f"Lava did not start: {self.parent.communicate()[0]}")

    def finish(self) -> str:
        """Wait for snnc to end; return what it printed."""
        return self.parent.communicate(timeout=PATIENCE)[0]

    def assert_nothing_is_left(self) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and (self.workers() or self._left_segments()):
            time.sleep(0.05)
        assert self.workers() == []
        assert self._left_segments() == set()

    def _left_segments(self) -> set[str]:
        return {name for name in self.segments if Path("/dev/shm", name).exists()}

    def files_left(self) -> list[str]:
        return sorted(path.name for path in self.temporary.glob("*/*"))


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    yield run
    run.parent.kill()


def test_the_run_uses_shared_memory_that_these_tests_see(run):
    run.wait_until_lava_runs()
    run.parent.send_signal(signal.SIGINT)
    run.finish()
    assert run.segments


def test_a_killed_lava_process_is_reported_and_leaves_nothing(run):
    victim = run.wait_until_lava_runs()[-1]
    os.kill(victim, signal.SIGKILL)
    printed = run.finish()
    assert "Lava did not finish: a Lava process ended with SIGKILL" in printed
    assert "log.txt" in printed
    run.assert_nothing_is_left()
    assert run.files_left() == ["log.txt"]


def test_ctrl_c_in_the_parent_leaves_nothing(run):
    run.wait_until_lava_runs()
    run.parent.send_signal(signal.SIGINT)
    run.finish()
    assert run.parent.returncode == -signal.SIGINT  # Python's own ending after Ctrl-C
    assert run.workers() == []  # gone before snnc is, not some time later
    run.assert_nothing_is_left()
    assert run.files_left() == []


def test_a_parent_that_dies_without_a_word_takes_lava_along(run):
    run.wait_until_lava_runs()
    run.parent.kill()
    run.finish()
    run.assert_nothing_is_left()


def test_a_run_without_progress_ends_and_leaves_nothing(tmp_path):
    run = Run(tmp_path, stall=4.0)
    run.wait_until_lava_runs()
    printed = run.finish()
    assert "Lava finished no sample within 4 s (after 0 of 1)" in printed
    run.assert_nothing_is_left()


def test_a_stopped_lava_process_does_not_survive_the_end(run):
    victim = run.wait_until_lava_runs()[-1]
    os.kill(victim, signal.SIGSTOP)
    run.parent.send_signal(signal.SIGINT)
    run.finish()
    run.assert_nothing_is_left()
