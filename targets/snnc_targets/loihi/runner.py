"""Run an emitted program on images: under which Python, how many at once, and its trace.

    engine    what runs                                             under
    lava      Lava's runtime: every process one of the system       Python 3.10
    inproc    Lava's models, all in one process (`template/inproc.py`)
                                                                    Python 3.10, or this one if it
                                                                    has lava-nc (`newer_python.py`)

Samples are independent, so a run is cut into chunks that a pool runs side by side; the number of
workers changes no result. What a crash or a kill leaves behind is told in `pool`: nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from snnc.errors import InvalidSetting
from snnc.ir.program import Layer, Program
from snnc.ir.weights import IntArray
from snnc.semantics.encode import check_codes
from snnc.simulate.activity import trace_from_rasters
from snnc.simulate.trace import Counts, Spikes, Trace, concatenate
from snnc.targets.api import Progress

from snnc_targets.batches import batch_size
from snnc_targets.loihi.interpreter import Interpreter, Places
from snnc_targets.loihi.pool import Job, Pool

CHUNK_BYTES = 1 << 28  # of files in the temporary directory, all workers': bounds the disk
STALL = 600.0  # seconds without one more finished sample: no network we know needs a tenth
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """How to run emitted programs: with which Python, how many at once, how long to wait."""

    interpreter: Interpreter
    places: Places
    in_process: bool
    workers: int
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
        if not len(codes):
            raise InvalidSetting("there is no sample to run; pass at least one image")
        check_codes(program.input, codes)
        size = self._size(program, len(codes))
        jobs = [
            self._job(program, directory, codes, slice(first, first + size), raster)
            for first in range(0, len(codes), size)
        ]
        pool = Pool(workers=self.workers, environ=self._environ(), stall=self.stall)
        report = progress if progress is not None else _ignore
        return concatenate(pool.run(jobs, lambda done: report(done, len(codes))))

    def jobs(self, program: Program, samples: int) -> int:
        """Return into how many programs a run of so many samples is cut."""
        return -(-samples // self._size(program, samples))

    def _size(self, program: Program, samples: int) -> int:
        """Return how many samples one program runs: an equal share, if the disk allows."""
        return min(max(1, chunk_size(program) // self.workers), -(-samples // self.workers))

    def _job(
        self, program: Program, directory: Path, codes: IntArray, part: slice, raster: bool
    ) -> Job[Trace]:
        batch = codes[part]
        last = part.start + len(batch) - 1

        def prepare(work: Path) -> list[str]:
            np.save(work / "codes.npy", batch)
            return self._command(directory, work)

        return Job(
            name=f"samples {part.start} to {last}" if len(batch) < len(codes) else "",
            samples=len(batch),
            prepare=prepare,
            read=lambda work: read_trace(program, directory, work, batch, raster=raster),
        )

    def _command(self, directory: Path, work: Path) -> list[str]:
        return [
            *self.interpreter.command,
            str(directory.resolve() / "network.py"),
            *("--input", str(work / "codes.npy")),
            *("--output", str(work)),
            *("--stop-with", str(os.getpid())),
            *(["--in-process"] if self.in_process else []),
        ]

    def _environ(self) -> Mapping[str, str]:
        alone = dict.fromkeys(_THREADS, "1")  # the models' products are small: threads only wait
        return self.places.child_environ() | alone | {"PYTHONUNBUFFERED": "1"}


def chunk_size(program: Program) -> int:
    """Return how many samples one run of Lava takes."""
    spikes = program.steps * sum(layer.size for layer in program.layers) // 8
    currents = 4 * sum(population.size for population in program.populations)
    return max(1, CHUNK_BYTES // (spikes + currents))


def read_trace(
    program: Program, directory: Path, work: Path, codes: IntArray, *, raster: bool
) -> Trace:
    """Return the trace of what a run of the files in `directory` left in `work`.

    It reads a batch of samples at a time.
    """
    network = json.loads((directory / "network.json").read_text(encoding="utf-8"))
    files = {
        layer["name"]: np.load(work / f"{layer['file']}.npy", mmap_mode="r")
        for layer in network["layers"]
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


def _ignore(done: int, total: int) -> None:
    pass
