"""The target `loihi`: Intel's Loihi 2 as lava-nc simulates it, bit for bit.

It emits a self-contained Lava program and runs it out of process. No hardware is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

from snnc.errors import Issue
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.passes.numbers import Numbers
from snnc.simulate.trace import Trace
from snnc.targets.api import Progress, Target
from snnc.targets.setup import Check, NeedsSetup

from snnc_targets.loihi import emit, environment, interpreter, limits, mapping
from snnc_targets.loihi.interpreter import Places
from snnc_targets.loihi.runner import Runner


@final
class LoihiTarget(Target, NeedsSetup):
    """Runs programs on Lava's fixed-point models, spike for spike as the specification says."""

    name = "loihi"
    summary = "Intel Loihi 2, simulated by lava-nc 0.10 under Python 3.10: integers, bit for bit"
    numbers = Numbers()

    def issues(self, program: Program) -> Sequence[Issue]:
        """Return every limit of Loihi's formats that the program breaks."""
        return limits.issues(program)

    def emit(self, program: Program, directory: Path) -> Mapping[str, object]:
        """Write the generated Lava program; report what each layer became."""
        emit.emit(program, directory)
        return mapping.report(program)

    def execute(
        self,
        program: Program,
        directory: Path,
        codes: IntArray,
        *,
        raster: bool,
        progress: Progress | None = None,
    ) -> Trace:
        """Run the generated program; the pipeline delay is removed.

        Raises:
            MissingDependency: no Python 3.10 with lava-nc 0.10.0 was found.
            InvalidSetting: there is no sample, or a code is none that an image can become.
            TargetFailed: the run broke.
        """
        places = Places.here()
        runner = Runner(python=interpreter.find(places), places=places)
        return runner.run(program, directory, codes, raster=raster, progress=progress)

    def doctor(self) -> Sequence[Check]:
        """Ask every Python that could run Lava; look at the shared memory that Lava needs."""
        places = Places.here()
        answers = list(interpreter.answers(places))
        ready = next((answer for answer in answers if not answer.problem), None)
        found = Check(
            name="Lava",
            ok=ready is not None,
            detail=str(ready) if ready else "no Python 3.10 with lava-nc 0.10.0",
            remedy="" if ready else _remedy(places),
        )
        tried = [
            Check(
                name=answer.place,
                ok=not answer.problem,
                detail=str(answer),
                remedy="",  # any one that works is enough
            )
            for answer in answers
        ]
        return [found, _shared_memory(), *tried]

    def setup(self, progress: Callable[[str], None]) -> str:
        """Make the managed environment, see `environment.setup`."""
        python = environment.setup(Places.here(), progress)
        return f"Lava runs with {python}"


def _remedy(places: Places) -> str:
    if interpreter.VARIABLE in places.environ:
        return f"unset ${interpreter.VARIABLE}, or let it name a Python 3.10 with lava-nc 0.10.0"
    return "snnc lava setup"


def _shared_memory() -> Check:
    """Check /dev/shm, through which Lava's processes talk."""
    place = Path("/dev/shm")
    ok = not place.exists() or os.access(place, os.W_OK)  # macOS has shared memory without it
    return Check(
        name="shared memory",
        ok=ok,
        detail=f"{place} can{'' if ok else 'not'} be written",
        remedy="" if ok else "give the container or the user a writable /dev/shm",
    )


TARGET = LoihiTarget()
