"""How fast the exact simulator runs VGG-16 on CIFAR-sized images, against dense PyTorch.

    taskset -c 2,3 python tests/benchmarks/fast_simulator.py      all tables
    ... --only sparsity                                            one of them
    ... --width 16 --samples 32                                    a small network, quickly

Both run the same integers on the processors this process may use, in turn, several times;
the best of each counts. They must give the same logits, else there is no table. PyTorch runs
float32 convolutions, channels last, all steps in one batch, in inference mode. `prepare` is
the time to plan a program, once for all runs; the other times are of runs without counts.

An update is one non-zero weight met at one output pixel, step and sample, whether or not its
source spiked (an image counts once, not at every step); an event is one that a spike
delivered. The peak is that of 16-bit multiplications and additions in the first-level cache.
Bit-sliced sums multiply nothing, so more than the whole peak is possible.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numba
import numpy as np
import torch
from fast_simulator_programs import Network, vgg16_program
from snnc.ir.program import INPUT, Program
from snnc.ir.weights import IntArray, nonzeros
from snnc.simulate import fast

__all__ = ["Network", "measured", "updates", "vgg16_program"]

SPARSITIES = (0.0, 0.9, 0.95, 0.99)
PEAK_LANES, PEAK_ROUNDS = 2048, 20_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One program at one batch size, in seconds."""

    label: str
    samples: int
    prepare: float
    run: float
    dense: float  # for as many samples
    updates: int  # of all samples
    events: int

    @property
    def rate(self) -> float:
        """Updates for each second."""
        return self.updates / self.run


def updates(program: Program) -> int:
    """Return the updates of one sample."""
    total = 0
    for population in program.populations:
        pixels = population.size // population.shape[0]
        for bundle in population.synapses:
            steps = 1 if bundle.source == INPUT else program.steps
            total += nonzeros(bundle.weight) * pixels * steps
    return total


def seconds(function: Callable[[], object]) -> float:
    """Return how long a function takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measured(
    label: str, program: Program, network: Network, codes: IntArray, *, dense: int, rounds: int
) -> Row:
    """Measure both engines in turn; PyTorch runs `dense` samples, 0 leaves it out."""
    prepared = fast.prepare(program, len(codes))
    trace = prepared.run(codes, raster=False)
    few = torch.tensor(codes[:dense])
    if dense and not (network(few).numpy() == trace.logits[:dense]).all():
        raise SystemExit(f"{label}: PyTorch and the simulator disagree; see tests/conformance")
    times = np.array(
        [
            (
                seconds(lambda: fast.prepare(program, len(codes))),
                seconds(lambda: prepared.run(codes, raster=False, counts=False)),
                seconds(lambda: network(few)) if dense else np.nan,
            )
            for _ in range(rounds)
        ]
    ).min(axis=0)
    events = sum(int(s.events.sum()) for s in trace.synapses if s.source != INPUT)
    return Row(
        label=label,
        samples=len(codes),
        prepare=times[0],
        run=times[1],
        dense=times[2] / max(dense, 1) * len(codes),
        updates=updates(program) * len(codes),
        events=events,
    )


@numba.njit(nogil=True)
def _multiply_add(rounds, target, a, b, c, d):
    for r in range(rounds):
        w, x, y, z = np.int16(r), np.int16(r + 1), np.int16(r + 2), np.int16(r + 3)
        for i in range(PEAK_LANES):
            total = np.int16(np.int16(w * a[i]) + np.int16(x * b[i]))
            total = np.int16(total + np.int16(np.int16(y * c[i]) + np.int16(z * d[i])))
            target[i] = np.int16(target[i] + total)


def peak(threads: int) -> float:
    """Return the 16-bit multiplications with addition for each second, of all threads."""
    arrays = [[np.ones(PEAK_LANES, np.int16) for _ in range(5)] for _ in range(threads)]
    _multiply_add(1, *arrays[0])
    with ThreadPoolExecutor(threads) as pool:

        def every() -> None:
            list(pool.map(lambda each: _multiply_add(PEAK_ROUNDS, *each), arrays))

        best = min(seconds(every) for _ in range(5))
    return 4 * PEAK_LANES * PEAK_ROUNDS * threads / best


def table(rows: list[Row], machine: float) -> str:
    """Return the rows as text."""
    names = ("", "samples", "prepare ms", "ms/sample", "dense ms", "ratio", "Gupd/s", "Gev/s")
    lines = ["".join(f"{name:>12}" for name in (*names, "of peak"))]
    for row in rows:
        each = 1e3 / row.samples
        values = (
            f"{row.label:>12}{row.samples:>12}{row.prepare * 1e3:>12.0f}{row.run * each:>12.3f}"
            f"{row.dense * each:>12.2f}{row.dense / row.run:>12.1f}{row.rate / 1e9:>12.1f}"
            f"{row.events / row.run / 1e9:>12.2f}{row.rate / machine:>12.0%}"
        )
        lines.append(values)
    return "\n".join(lines)


Case = tuple[str, float, int, int, int]  # label, sparsity, steps, width, samples


def cases(asked: argparse.Namespace) -> Iterator[tuple[str, list[Case]]]:
    """Yield the title and the cases of each table."""
    sparsity, steps, width, samples = 0.9, asked.steps, asked.width, asked.samples
    yield (
        "sparsity",
        [(f"{s:.0%}", s, steps, width, samples) for s in SPARSITIES],
    )
    if not asked.quick:
        yield "batch", [(f"{n}", sparsity, steps, width, n) for n in (1, 8, 32, 64, 128)]
        yield "steps", [(f"T={t}", sparsity, t, width, samples) for t in (1, 4, 8, 16)]
        yield (
            "width",
            [(f"{w}", sparsity, steps, w, samples) for w in (16, 32, 64) if w <= width],
        )


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--dense", type=int, default=16, help="samples for PyTorch, 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("sparsity", "batch", "steps", "width"))
    parser.add_argument("--quick", action="store_true", help="the first table only")
    asked = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    machine = peak(threads)
    out = sys.stdout.write
    out(f"{threads} threads; 16-bit multiply-add peak {machine / 1e9:.0f} G/s\n")
    for title, rows in cases(asked):
        if asked.only not in (None, title):
            continue
        found = []
        for label, sparsity, steps, width, samples in rows:
            program, network, codes = vgg16_program(
                sparsity, steps, asked.seed, width=width, samples=samples
            )
            dense = min(asked.dense, samples)
            found.append(measured(label, program, network, codes, dense=dense, rounds=asked.rounds))
        neurons = sum(prod(layer.shape) for layer in program.layers)
        out(f"\nby {title} ({neurons} neurons in the last)\n{table(found, machine)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
