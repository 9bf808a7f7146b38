"""The target `reference`: this computer, running the numpy simulator.

It is what other targets are compared with. Nothing is emitted beside the program file: the
program is what runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from snnc.errors import Issue
from snnc.ir.program import SEMANTICS, Program
from snnc.ir.weights import IntArray
from snnc.passes.numbers import Numbers
from snnc.simulate import reference
from snnc.simulate.trace import Trace
from snnc.targets.api import Progress, Target

from snnc_targets.batches import batch_size, in_batches


@final
class ReferenceTarget(Target):
    """Runs every valid program, exactly as `snnc.semantics` defines it."""

    name = "reference"
    summary = "this computer, numpy: exact integers, the yardstick for every other target"

    @property
    def numbers(self) -> Numbers:
        """The formats of Loihi's LIF neuron."""
        return Numbers()

    def issues(self, program: Program) -> Sequence[Issue]:
        """Return nothing: every valid program runs."""
        return ()

    def emit(self, program: Program, directory: Path) -> Mapping[str, object]:
        """Write nothing; report what runs the program."""
        return {
            "runs": "snnc.simulate.reference on this computer",
            "semantics": SEMANTICS,
            "layers": [
                {"name": population.name, "neurons": population.size}
                for population in program.populations
            ],
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
        """Run the program in numpy.

        Raises:
            InvalidSetting: there is no sample.
        """
        return in_batches(
            lambda batch, _: reference.run(program, batch, raster=raster),
            codes,
            batch_size(program),
            progress,
        )


TARGET = ReferenceTarget()
