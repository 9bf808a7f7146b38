"""Run a build on an engine, and prove that what is no host simulator computes the same.

A target is compared with a host simulator on every spike and every logit; a difference is an
error, never a note. Rasters are compared and dropped a part at a time, so memory is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from snnc.api import ENGINES as SIMULATORS
from snnc.api import LAVA, TARGET
from snnc.errors import InvalidSetting, TargetFailed, UnknownName
from snnc.evaluate.agreement import Agreement, agreement
from snnc.ir.program import Program
from snnc.ir.weights import IntArray
from snnc.simulate.trace import Trace, concatenate
from snnc.targets import registry
from snnc.targets.api import Progress, Target
from snnc.targets.build import Build
from snnc.targets.outside import Manner, Outside, RunsOutside

HOST = tuple(SIMULATORS)
ENGINES = (*HOST, *LAVA, TARGET)
RASTER_BYTES = 1 << 29  # of spikes, a byte each, that are compared at once
REFERENCE_BYTES = 1 << 22  # the same of the numpy simulator, which unrolls its convolutions


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run gave; on a target also how it compares with which reference."""

    trace: Trace
    seconds: float  # of the engine alone
    agreement: dict[str, object] | None = None
    reference: str | None = None
    outside: Outside | None = None


def execution(
    build: Build, engine: str, *, workers: int | None, timeout: float | None
) -> Callable[[IntArray, Progress], Ran]:
    """Return what runs a build on codes (samples, *shape) and tells how far a target is.

    Raises:
        UnknownName: there is no such engine.
        InvalidSetting: the engine cannot run the build, or does not use an option that is given.
        TargetFailedToLoad: the target of the build is not installed.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    given = [
        name
        for name, value in (("--workers", workers), ("--timeout", timeout))
        if value is not None
    ]
    have = "has" if len(given) == 1 else "have"
    unused = f"{' and '.join(given)} {have} no effect on engine {engine!r}"
    if engine in HOST:
        if given:
            raise InvalidSetting(f"{unused}, which runs in this process; leave them out")
        return partial(_run_on_host, build.program, engine)
    target = registry.load(build.target, build.options)
    if not isinstance(target, RunsOutside):
        if engine in LAVA:
            raise InvalidSetting(
                f"{build.directory} was made for {build.target!r}, which does not run on Lava; "
                "compile for a target that does: snnc compile MODEL --target loihi"
            )
        if given:
            raise InvalidSetting(
                f"{unused} of target {build.target!r}, which runs in this process; leave them out"
            )
        return partial(_run_on_target, build, target, None)
    chosen = next(iter(target.engines)) if engine == TARGET else engine
    manner = Manner(engine=chosen, workers=workers, timeout=timeout)
    return partial(_run_on_target, build, target, manner)


def _run_on_host(program: Program, engine: str, codes: IntArray, _: Progress) -> Ran:
    began = time.perf_counter()
    trace = SIMULATORS[engine](program, codes, raster=False)
    return Ran(trace=trace, seconds=time.perf_counter() - began)


def _run_on_target(
    build: Build, target: Target, manner: Manner | None, codes: IntArray, advance: Progress
) -> Ran:
    """Run all samples; compare every spike and logit with the reference's, a part at a time.

    Raises:
        TargetFailed: one differs.
    """
    traces, agreements, outside, seconds = [], [], None, 0.0
    for part in _parts(build.program, len(codes), RASTER_BYTES):

        def within(done: int, _: int, first: int = part.start) -> None:
            advance(first + done, len(codes))

        began = time.perf_counter()
        trace, outside = _on_target(build, target, manner, codes[part], within)
        seconds += time.perf_counter() - began
        compared = agreement(_reference(build.program, codes[part]), trace)
        _check(build, compared)
        agreements.append(compared)
        traces.append(_without_rasters(trace))
    whole = replace(agreements[0], samples=len(codes))  # every part agrees entirely
    return Ran(
        trace=concatenate(traces),
        seconds=seconds,
        agreement=whole.to_json(),
        reference=_reference_name(),
        outside=outside,
    )


def _on_target(
    build: Build, target: Target, manner: Manner | None, codes: IntArray, within: Progress
) -> tuple[Trace, Outside | None]:
    program, directory = build.program, build.directory
    if manner is None or not isinstance(target, RunsOutside):
        return target.execute(program, directory, codes, raster=True, progress=within), None
    return target.execute_outside(
        program, directory, codes, manner=manner, raster=True, progress=within
    )


def _check(build: Build, compared: Agreement) -> None:
    if not compared.exact:
        raise TargetFailed(
            f"{build.target} differs from the reference: {compared.first or 'logits differ'}; "
            "this is a fault of the target or of snnc, please report it with the build"
        )


def _reference_name() -> str:
    return "fast" if find_spec("numba") is not None else "numpy"


def _reference(program: Program, codes: IntArray) -> Trace:
    """Run the reference with its rasters: numba's simulator, or numpy's a few samples at a time."""
    name = _reference_name()
    size = RASTER_BYTES if name == "fast" else REFERENCE_BYTES
    parts = _parts(program, len(codes), size)
    return concatenate([SIMULATORS[name](program, codes[part], raster=True) for part in parts])


def _parts(program: Program, samples: int, size: int) -> Iterator[slice]:
    """Cut the samples so that the spikes of a part, a byte each, fill no more than `size`."""
    each = program.steps * sum(layer.size for layer in program.layers)
    step = max(1, size // max(1, each))  # a program of a readout alone has no spikes
    return (slice(first, first + step) for first in range(0, samples, step))


def _without_rasters(trace: Trace) -> Trace:
    return replace(trace, layers=tuple(replace(layer, raster=None) for layer in trace.layers))
