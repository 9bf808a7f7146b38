"""How fast each engine runs the same integers: a sparse convolutional network of the demo's size.

    python tests/benchmarks/engines.py                          the table of ratios
    python tests/benchmarks/engines.py --samples 1000 --lava-samples 0
    pytest tests/benchmarks --benchmark-enable                  the same with its statistics

Weights and images are drawn from a seed; all engines must give the same logits, else there
is no table. Nothing here asserts on time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from snnc import twin
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    AvgPool2d,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Reset,
)
from snnc.ir.program import Program
from snnc.ir.weights import IntArray, floats, pack
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers
from snnc.semantics.encode import encode
from snnc.simulate import fast, reference
from snnc.simulate.trace import Trace
from snnc.targets.api import legalize
from snnc_targets.loihi.target import TARGET as LOIHI

SPARSITY = 0.91
STEPS = 8
SHAPE = (1, 8, 8)
THRESHOLD = 0.5  # a tenth of the neurons spikes at each step

Engine = Callable[[Program, IntArray], Trace]


def program() -> Program:
    """Return three sparse convolutions (32, 64, 64 channels), two 2x2 poolings, one matrix."""
    rng = np.random.default_rng(0)
    ops = (
        ("conv1", _conv(rng, 32, 1)),
        ("fire1", _fire()),
        ("pool1", AvgPool2d(kernel=(2, 2), stride=(2, 2))),
        ("conv2", _conv(rng, 64, 32)),
        ("fire2", _fire()),
        ("conv3", _conv(rng, 64, 64)),
        ("fire3", _fire()),
        ("pool3", AvgPool2d(kernel=(2, 2), stride=(2, 2))),
        ("flatten", Flatten()),
        ("readout", Linear(weight=_weights(rng, (10, 256)), bias=floats(np.zeros(10)))),
        ("out", Readout(decision=Decision.MEMBRANE)),
    )
    nodes = [Node("input", Input(shape=SHAPE), ())]
    for name, op in ops:
        nodes.append(Node(name, op, (nodes[-1].name,)))
    return compile_graph(check_graph(Graph(nodes=tuple(nodes), steps=STEPS)), Numbers())


def codes(samples: int) -> IntArray:
    """Return encoded images, a third of whose pixels are not black."""
    rng = np.random.default_rng(1)
    shape = (samples, *SHAPE)
    return encode(program().input, rng.random(shape) * (rng.random(shape) < 0.33))


def run_fast(program: Program, codes: IntArray) -> Trace:
    """Run the numba simulator."""
    return fast.run(program, codes, raster=False)


def run_numpy(program: Program, codes: IntArray) -> Trace:
    """Run the numpy reference."""
    return reference.run(program, codes, raster=False)


def run_torch(program: Program, codes: IntArray) -> Trace:
    """Run the torch twin."""
    return twin.run(program, codes, raster=False)


def run_lava(program: Program, codes: IntArray) -> Trace:
    """Run the generated Lava program, the start of its processes included."""
    with TemporaryDirectory() as directory:
        LOIHI.emit(legalize(LOIHI, program), Path(directory))
        return LOIHI.execute(program, Path(directory), codes, raster=False)


HOST: dict[str, Engine] = {"fast": run_fast, "numpy": run_numpy, "torch twin": run_torch}


@dataclass(frozen=True, kw_only=True)
class Row:
    """How fast one engine was."""

    engine: str
    samples: int
    seconds: float
    trace: Trace

    @property
    def rate(self) -> float:
        """Samples for each second."""
        return self.samples / self.seconds


def measured(name: str, engine: Engine, program: Program, codes: IntArray, rounds: int) -> Row:
    """Run an engine once to warm it up, then time it; the best of some rounds counts."""
    if rounds > 1:
        engine(program, codes[:1])
    best, trace = float("inf"), None
    for _ in range(rounds):
        start = time.perf_counter()
        trace = engine(program, codes)
        best = min(best, time.perf_counter() - start)
    assert trace is not None
    return Row(engine=name, samples=len(codes), seconds=best, trace=trace)


def table(rows: list[Row]) -> str:
    """Return samples per second of each engine, and the ratio to the numpy reference."""
    yardstick = next(row.rate for row in rows if row.engine == "numpy")
    lines = [f"{'engine':12}{'samples':>9}{'seconds':>10}{'samples/s':>12}{'ratio':>10}"]
    lines += [
        f"{row.engine:12}{row.samples:9}{row.seconds:10.3f}{row.rate:12.2f}"
        f"{row.rate / yardstick:10.3g}"
        for row in rows
    ]
    names = " : ".join(row.engine for row in rows)
    ratios = " : ".join(f"{row.rate / yardstick:.3g}" for row in rows)
    return "\n".join([*lines, f"{names} = {ratios}"])


def main() -> int:
    """Measure every engine and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=360, help="for the engines on this host")
    parser.add_argument("--lava-samples", type=int, default=8, help="0 leaves Lava out")
    arguments = parser.parse_args()
    network, images = program(), codes(max(arguments.samples, arguments.lava_samples))
    rows = [
        measured(name, engine, network, images[: arguments.samples], rounds=3)
        for name, engine in HOST.items()
    ]
    if arguments.lava_samples:
        few = images[: arguments.lava_samples]
        rows.append(measured("Lava", run_lava, network, few, rounds=1))
    for row in rows[1:]:
        shared = min(row.samples, rows[0].samples)
        if not (row.trace.logits[:shared] == rows[0].trace.logits[:shared]).all():
            raise SystemExit(f"{row.engine} and {rows[0].engine} disagree; see tests/conformance")
    sys.stdout.write(table(rows) + "\n")
    return 0


def _conv(rng: np.random.Generator, out: int, into: int) -> Conv2d:
    return Conv2d(
        weight=_weights(rng, (out, into, 3, 3)),
        bias=floats(rng.normal(size=out) / 20),
        stride=(1, 1),
        padding=(1, 1),
        groups=1,
    )


def _weights(rng: np.random.Generator, shape: tuple[int, ...]):
    kept = rng.random(shape) >= SPARSITY
    fan_in = np.prod(shape[1:]) * (1 - SPARSITY)
    return pack(rng.normal(size=shape) * kept * np.sqrt(2 / fan_in))


def _fire() -> Fire:
    return Fire(
        threshold=floats(THRESHOLD), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0
    )


if __name__ == "__main__":
    sys.exit(main())
