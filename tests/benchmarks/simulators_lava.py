"""Lava on the networks of the comparison: the program that the target `loihi` generates.

    lava-stock  Lava's runtime, its own models, its Conv for every convolution: what a user
                of Lava runs
    lava        as the target generates it: faster models, convolutions of few weights unrolled
    lava-inproc the same in one process, without Lava's runtime

Lava streams one image after the other, one step at a time, at a cost that hardly depends on
activity. An image costs T steps; starting and filling the pipeline are not counted. Where a
step takes minutes, a few steps are timed and nothing is compared: such a result says so.
Everything else must give the logits of the baseline. Memory is the sum of what all processes
of a run hold in proportion (PSS), sampled twice a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from simulators_dense import Dense
from simulators_networks import Setting, codes, draw, program
from snnc.errors import SnncError
from snnc.targets import registry
from snnc.targets.api import legalize
from snnc_targets.loihi import interpreter
from snnc_targets.loihi.interpreter import Places

SCRIPT = Path(__file__).with_name("simulators_lava_run.py")
TITLES = {
    "lava-stock": "Lava",
    "lava": "Lava, by snnc",
    "lava-inproc": "Lava, by snnc, in process",
}
MODES = {"lava-stock": "stock", "lava": "lava", "lava-inproc": "inproc"}
OPTIONS = {"lava-stock": {"convolutions": "conv"}, "lava": {}, "lava-inproc": {}}
PATIENCE = 3000.0  # seconds for a run


@dataclass(frozen=True, kw_only=True)
class LavaResult:
    """What Lava did on one network."""

    contender: str
    problem: str  # why there is no result; then the rest is empty
    samples: int = 0
    steps: int = 0  # that were timed
    seconds: float = 0.0  # for those
    each: float = 0.0  # seconds for one image: T steps
    complete: bool = False  # all samples were run, and their logits are right
    memory: int = 0  # bytes


def measure(
    setting: Setting, name: str, *, samples: int, steps: int | None, cores: Sequence[int]
) -> LavaResult:
    """Run `samples` images on Lava, or time `steps` steps only."""
    setting = replace(setting, samples=samples)
    try:
        python = interpreter.find(Places.here())
    except SnncError as error:
        return LavaResult(contender=name, problem=str(error).splitlines()[0])
    network = draw(setting)
    images = codes(setting, network.input_shape)
    target = registry.load("loihi", OPTIONS[name])
    with TemporaryDirectory() as directory:
        bundle, output = Path(directory) / "bundle", Path(directory) / "output"
        bundle.mkdir()
        output.mkdir()
        try:
            target.emit(legalize(target, program(network)), bundle)
        except SnncError as error:
            return LavaResult(contender=name, problem=str(error).splitlines()[0])
        np.save(bundle.parent / "codes.npy", images)
        words = [str(python), str(SCRIPT), str(bundle), str(bundle.parent / "codes.npy")]
        words += [str(output), MODES[name], *([] if steps is None else [str(steps)])]
        problem, memory = _run(words, Path(directory), cores)
        if problem:
            return LavaResult(contender=name, problem=problem)
        found = json.loads((output / "times.json").read_text())
        if found["complete"]:
            expected = Dense(network, 8).run(images)
            if not (np.load(output / "logits.npy") == expected).all():
                raise RuntimeError(f"{name} and dense PyTorch have other logits")
    return LavaResult(
        contender=name,
        problem="",
        samples=samples,
        steps=found["steps"],
        seconds=found["seconds"],
        each=found["seconds"] / found["steps"] * setting.steps,
        complete=found["complete"],
        memory=memory,
    )


def _run(words: Sequence[str], directory: Path, cores: Sequence[int]) -> tuple[str, int]:
    """Run a command in a session of its own; return why it failed ("") and its memory."""
    log = directory / "log.txt"
    environ = {
        **Places.here().child_environ(),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    most, end = 0, time.monotonic() + PATIENCE
    with log.open("w") as file:
        process = subprocess.Popen(
            words,
            cwd=directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            while process.poll() is None and time.monotonic() < end:
                most = max(most, _held(process.pid))
                time.sleep(0.5)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)
            status = process.wait(timeout=30)
    if status == 0:
        return "", most
    lines = log.read_text().strip().splitlines() or [f"it ended with {status}"]
    return lines[-1], most


def _held(group: int) -> int:
    """Return the bytes that the processes of a group hold, shared ones in proportion."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getpgid(int(entry.name)) != group:
                continue
            rolled = (entry / "smaps_rollup").read_text()
        except OSError:
            continue  # it ended meanwhile
        total += 1024 * int(rolled.partition("\nPss:")[2].split()[0])
    return total


if __name__ == "__main__":
    from simulators_networks import Shape

    shape, width, name = Shape(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    tried = Setting(shape=shape, width=width, sparsity=0.9, steps=8, samples=3)
    limit = int(sys.argv[4]) if len(sys.argv) > 4 else None
    cores_ = sorted(os.sched_getaffinity(0))
    sys.stdout.write(f"{measure(tried, name, samples=3, steps=limit, cores=cores_)}\n")
