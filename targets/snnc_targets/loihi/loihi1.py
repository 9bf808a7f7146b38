"""The target `loihi1`: whether a program would fit on Intel's first Loihi, and how.

Nothing public compiles for that chip any more: Intel withdrew NxSDK, and Lava has no backend for
it. So the target checks a program's formats and cuts it into cores; what runs is the exact
simulator of this computer, and every report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import final

import numpy as np
from snnc.energy.count import Routing
from snnc.energy.routing import KnowsRouting
from snnc.errors import Issue
from snnc.ir.program import INPUT, Program
from snnc.ir.weights import FloatArray, IntArray
from snnc.passes.numbers import Numbers
from snnc.semantics.neuron import ALIGN
from snnc.simulate import reference
from snnc.simulate.sliced.emitted import step_bytes
from snnc.simulate.sliced.work import processors
from snnc.simulate.trace import Trace
from snnc.targets.api import Progress, Target
from snnc.targets.cores import MapsCores

from snnc_targets.batches import batch_size, in_batches
from snnc_targets.loihi import bounds, limits
from snnc_targets.loihi.cores import chip, placement
from snnc_targets.loihi.cores import report as partition_report
from snnc_targets.loihi.cores.partition import Partition, partition, too_many_chips
from snnc_targets.loihi.cores.picture import picture
from snnc_targets.loihi.lowering import USUAL_ON_CHIP, Image
from snnc_targets.loihi.mapping import PICTURE
from snnc_targets.loihi.once import OncePerProgram

RUNS = (
    "the exact simulator of this computer, numba's where it is installed, else numpy's; no public "
    "toolchain runs Loihi 1"
)
CURRENT_MAX = (1 << 21) // (1 << ALIGN) - 1  # a dendrite adds up 21 bits: nengo-loihi, Q_BITS


Simulator = Callable[[IntArray], Trace]


@final
class Loihi1Target(Target, KnowsRouting, MapsCores):
    """Checks and maps programs for Loihi 1, and simulates them here."""

    name = "loihi1"
    summary = "Intel Loihi 1, checked and mapped only: this computer simulates it, bit for bit"

    @property
    def numbers(self) -> Numbers:
        """The formats of its neuron; the whole current of an image is a bias mantissa."""
        return Numbers(
            input_bias_max=limits.BIAS_MAX,
            image_current_max=limits.BIAS_MAX,
            current_max=CURRENT_MAX,
        )

    def issues(self, program: Program) -> Sequence[Issue]:
        """Return every limit of its formats and of its cores that the program breaks."""
        formats = limits.issues(program, USUAL_ON_CHIP, delay_max=limits.CHIP_DELAY_MAX)
        return (*formats, *_dendrites(program), *on_cores(program).issues)

    def emit(self, program: Program, directory: Path) -> Mapping[str, object]:
        """Write the picture of the cores; report them."""
        found = on_cores(program)
        (directory / PICTURE).write_text(picture(found), encoding="utf-8")
        return {
            "runs": RUNS,
            "steps": program.steps,
            "layers": [{"name": each.name, "neurons": each.size} for each in program.populations],
            "partition": partition_report.report(found),
            "hardware": {
                "deployable": False,
                "obstacles": ["no public toolchain compiles for Loihi 1"],
                "notes": ["the host writes what an image adds as the bias of the neurons"],
            },
        }

    def execute(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        raster: bool,
        progress: Progress | None = None,
    ) -> Trace:
        """Simulate the program here, exactly.

        Raises:
            InvalidSetting: there is no sample.
        """
        simulate, size = _simulator(program, len(codes), raster)
        return in_batches(lambda batch, _: simulate(batch), codes, size, progress)

    def picture(self, program: Program) -> str:
        """Draw the cores."""
        return picture(on_cores(program))

    def too_many_chips(self, program: Program, chips: int) -> Sequence[Issue]:
        """Return an issue if the program needs more than so many chips."""
        return too_many_chips(on_cores(program), chips)

    def routing(self, program: Program, spikes: Mapping[str, FloatArray]) -> Routing:
        """Return the hops of one inference; which core lies where is a model."""
        return placement.routing(on_cores(program), spikes)


def on_cores(program: Program) -> Partition:
    """Return the partition onto Loihi 1."""
    return _partitions(program, Image.BIAS)


def _partition(program: Program, image: Image) -> Partition:
    return partition(program, chip.load("loihi1"), image=image)


_partitions: OncePerProgram[Image, Partition] = OncePerProgram(_partition)


def _simulator(program: Program, samples: int, raster: bool) -> tuple[Simulator, int]:
    """Return what simulates a batch, and how many samples it takes at once."""
    if find_spec("numba") is None:
        run = partial(reference.run, program, raster=raster)
        return run, batch_size(program)
    from snnc.simulate import fast

    chunk = 8 * step_bytes(samples)  # numba's simulator keeps 8 samples to a byte
    if samples <= chunk:
        return partial(fast.run, program, raster=raster), chunk
    prepared = fast.prepare(program, samples)
    return partial(prepared.run, raster=raster), chunk * processors()


def _dendrites(program: Program) -> Iterator[Issue]:
    """Check what synapses can add up in one step; a bias comes later."""
    for population in program.populations:
        spiking = tuple(each for each in population.synapses if each.source != INPUT)
        silent = replace(population, synapses=spiking, bias=np.zeros_like(population.bias))
        largest = int(bounds.current_bounds(program, silent).max())
        if largest > CURRENT_MAX:
            yield Issue(
                population.name,
                f"its synapses can add {largest} in one step, a dendrite holds {CURRENT_MAX}",
                "quantize for loihi1 (it lowers the scale), or prune the layer",
                "dendrite-range",
                need=largest,
                limit=CURRENT_MAX,
            )


TARGET = Loihi1Target()
