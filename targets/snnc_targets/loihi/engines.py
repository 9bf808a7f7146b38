"""The two ways to execute a loihi build, and how many workers each gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from snnc.errors import UnknownName
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.simulate.sliced.work import processors
from snnc.simulate.trace import Trace
from snnc.targets.api import Progress
from snnc.targets.outside import Manner, Outside

from snnc_targets.loihi import interpreter
from snnc_targets.loihi.interpreter import Interpreter, Places
from snnc_targets.loihi.runner import STALL, Runner

LAVA, INPROC = "lava", "inproc"
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        LAVA: "Lava's runtime, every process one of the system",
        INPROC: "Lava's own process models in one process: the same integers, sooner",
    }
)
BY_DEFAULT = Manner(engine=LAVA, workers=None, timeout=None)
SHARE = 32  # samples that a worker must get to be worth its start, about a second
CORES_OF_LAVA = 2  # measured on 4: 300, 369, 464 steps/s with 1, 2, 4 workers of a small net


def execute(
    program: Program,
    directory: Path,
    codes: IntArray,
    *,
    manner: Manner,
    raster: bool,
    progress: Progress | None,
) -> tuple[Trace, Outside]:
    """Run a build on Lava, see `snnc.targets.outside.RunsOutside`.

    Raises:
        UnknownName: there is no such engine.
        MissingDependency: no Python that could run it was found.
        InvalidSetting: there is no sample, or a code is none that an image can become.
        TargetFailed: the run broke.
    """
    if manner.engine not in ENGINES:
        raise UnknownName("engine", manner.engine, ENGINES)
    places = Places.here()
    in_process = manner.engine == INPROC
    if in_process:
        python = interpreter.find_for_models(places)
    else:
        python = Interpreter(python=interpreter.find(places), version=interpreter.PYTHON)
    workers = (
        manner.workers if manner.workers is not None else workers_for(manner.engine, len(codes))
    )
    runner = Runner(
        interpreter=python,
        places=places,
        in_process=in_process,
        workers=workers,
        stall=manner.timeout if manner.timeout is not None else STALL,
    )
    trace = runner.run(program, directory, codes, raster=raster, progress=progress)
    return trace, Outside(
        interpreter=str(python), workers=min(workers, runner.jobs(program, len(codes)))
    )


def workers_for(engine: str, samples: int) -> int:
    """Return how many workers to start, each with `SHARE` samples or more.

    One in-process worker keeps one core busy. The processes of one network on Lava's runtime
    share the cores among themselves, and a second network adds less than it costs in memory
    on fewer than `CORES_OF_LAVA` more.
    """
    room = processors() // (1 if engine == INPROC else CORES_OF_LAVA)
    return max(1, min(room, samples // SHARE))
