"""The toolchain in a few words, for scripts and notebooks.

    import snnc

    graph = snnc.load("model.pt")
    program = snnc.compile(graph, target="loihi")
    trace = snnc.run(program, images)
    counts = snnc.count(program, trace)

Each does what the command of that name does; `run` and `count` need no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from snnc.energy.ann import ann_counts_of_program
from snnc.energy.count import Counts
from snnc.energy.count import count as count_operations
from snnc.errors import InvalidFile, InvalidSetting, UnknownName
from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.ir.store import load_graph
from snnc.ir.weights import IntArray
from snnc.passes.numbers import Bits
from snnc.passes.quantize import PIXEL_LEVELS
from snnc.quantization.calibrate import compile_accounted
from snnc.semantics.encode import encode
from snnc.simulate.trace import Trace
from snnc.targets import registry
from snnc.targets.api import legalize
from snnc.targets.build import Build, load_build, write_build
from snnc.targets.outside import Manner, RunsOutside
from snnc.targets.registry import NOTHING

if TYPE_CHECKING:
    from torch import nn

Engine = Callable[..., Trace]  # (program, codes, *, raster: bool) -> Trace


def load(path: str | Path, *, trust: bool = False) -> Graph:
    """Read a network from a checkpoint (`*.pt`) or a graph file (`*.snn`).

    A checkpoint that names its architecture as `module:callable` imports that module, which
    runs its code: only with `trust`.

    Raises:
        InvalidFile: the file is neither, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidFile(f"{path} is a directory; pass a checkpoint (.pt) or a graph (.snn)")
    if path.suffix == ".snn":
        return load_graph(path)
    if path.suffix == ".snnx":
        raise InvalidFile(
            f"{path} is a compiled program; pass the network it came from, a checkpoint (.pt) or "
            "a graph (.snn)"
        )
    from snnc.frontend.checkpoint import load_checkpoint, to_module
    from snnc.frontend.torch_module import from_torch
    from snnc.learn.spiking import SpikingNetwork

    checkpoint = load_checkpoint(path)
    network = to_module(checkpoint, trust=trust)
    return from_torch(
        network,
        input_shape=checkpoint.input_shape,
        steps=network.steps if isinstance(network, SpikingNetwork) else 1,
        class_names=checkpoint.class_names,
        provenance=checkpoint.provenance,
    )


def compile(
    network: Graph | nn.Module,
    *,
    target: str,
    directory: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    levels: int = PIXEL_LEVELS,
    bits: int | Bits | None = None,
    calibration: npt.NDArray[np.floating] | None = None,
    options: Mapping[str, str] = NOTHING,
    force: bool = False,
) -> Program:
    """Compile a network for a target; write a build if a directory is given.

    Weights are as wide as the target has them, or `bits` wide. With `calibration`, images
    (samples, *shape) in [0, 1], the scale of each layer is the one at which it spikes as in the
    float network; see `snnc.quantization`. `options` are choices that the target offers.

    A torch module must spike: `snnc.learn.spiking.to_spiking` makes a spiking network of an
    ordinary one. A module of your own that holds `snnc.learn.neurons.Fire` layers needs
    `input_shape`, the shape of one image.

    Raises:
        InvalidGraph, Unsupported: the network cannot be compiled; lists the reasons.
        NotLegal: the target cannot run it; lists the reasons.
        UnknownName: there is no such target or layer, or the target offers no such choice.
        InvalidSetting: a number is out of range, or the images do not fit the network.
    """
    chosen = registry.load(target, options)
    graph = network if isinstance(network, Graph) else _trace(network, input_shape)
    widths = Bits(others=bits) if isinstance(bits, int) else bits
    program, _ = compile_accounted(
        graph, chosen.numbers, images=calibration, levels=levels, bits=widths
    )
    program = legalize(chosen, program)
    if directory is not None:
        write_build(Path(directory), chosen, program, graph, force=force)
    return program


def _trace(network: nn.Module, input_shape: tuple[int, ...] | None) -> Graph:
    from snnc.frontend.torch_module import from_torch
    from snnc.learn.spiking import SpikingNetwork

    if isinstance(network, SpikingNetwork):
        return from_torch(network, input_shape=network.input_shape, steps=network.steps)
    if input_shape is None:
        raise InvalidSetting("the shape of one image is not known; pass input_shape=(C, H, W)")
    return from_torch(network, input_shape=input_shape)


def run(
    program: Program | Build,
    images: npt.NDArray[np.floating],
    *,
    engine: str = "fast",
    raster: bool = False,
) -> Trace:
    """Run integers on images (samples, *shape) with values in [0, 1].

    `engine` is one of `ENGINES`: "fast" (numba), "numpy", "torch"; or, for a build, "target",
    what it was made for; or, for a build for Loihi, "lava", Lava's runtime under Python 3.10,
    or "inproc", Lava's process models in one process.

    Raises:
        UnknownName: there is no such engine.
        InvalidSetting: the images do not fit the program, or the engine cannot run it.
        MissingDependency: the engine needs what is not installed.
        TargetFailed: the target broke.
    """
    if engine not in (*ENGINES, *LAVA, TARGET):
        raise UnknownName("engine", engine, [*ENGINES, *LAVA, TARGET])
    if engine in ENGINES:
        integers = program.program if isinstance(program, Build) else program
        return ENGINES[engine](integers, encode(integers.input, images), raster=raster)
    if not isinstance(program, Build):
        raise InvalidSetting(f"engine {engine!r} runs the files of a build; load one and pass it")
    codes = encode(program.program.input, images)
    target = registry.load(program.target, program.options)
    if engine == TARGET:
        return target.execute(program.program, program.directory, codes, raster=raster)
    if not (isinstance(target, RunsOutside) and engine in target.engines):
        raise InvalidSetting(
            f"{program.directory} was made for {program.target!r}; engine {engine!r} runs builds "
            "for loihi"
        )
    manner = Manner(engine=engine, workers=None, timeout=None)
    trace, _ = target.execute_outside(
        program.program, program.directory, codes, manner=manner, raster=raster
    )
    return trace


def count(program: Program, trace: Trace) -> Counts:
    """Count the operations of a run, for `snnc.energy` to price."""
    return count_operations(program, trace, ann=ann_counts_of_program(program))


TARGET = "target"
LAVA = ("lava", "inproc")


def _fast(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    from snnc.simulate import fast

    return fast.run(program, codes, raster=raster)


def _numpy(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    from snnc.simulate import reference

    return reference.run(program, codes, raster=raster)


def _torch(program: Program, codes: IntArray, *, raster: bool) -> Trace:
    from snnc import twin

    return twin.run(program, codes, raster=raster)


ENGINES: Mapping[str, Engine] = {"fast": _fast, "numpy": _numpy, "torch": _torch}

__all__ = ["Build", "compile", "count", "load", "load_build", "run"]
