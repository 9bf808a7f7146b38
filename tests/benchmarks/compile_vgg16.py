"""How long `snnc compile` takes for the VGG-16 of HYDRA, and how much memory.

    python tests/benchmarks/compile_vgg16.py
    python tests/benchmarks/compile_vgg16.py --sparsity 0 --target loihi

The network is untrained, with weights pruned at random and thresholds at which it spikes: the
compiler does the same to a trained one. It is written to a graph file, which the command
compiles in a process of its own; time is the wall's, from start to end of that process, and
memory its largest resident set. Nothing here asserts on either.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Granularity, Reset
from snnc.ir.store import save_graph
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc_models.vgg import vgg16_hydra
from torch import nn

SHAPE = (3, 32, 32)
STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took."""

    seconds: float
    bytes: int  # the largest resident set


def write_network(path: Path, *, sparsity: float, width: int) -> None:
    """Write the graph of a spiking VGG-16 whose weights are zero in that share."""
    torch.manual_seed(0)
    network = vgg16_hydra(classes=10, mean=[0.5] * 3, std=[0.25] * 3, width=width)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight[torch.rand_like(layer.weight) < sparsity] = 0.0
    spiking = to_spiking(
        network,
        input_shape=SHAPE,
        steps=STEPS,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    ).eval()
    save_graph(path, from_torch(spiking, input_shape=SHAPE), force=False)


# small itself: what a process held before it became another one counts as that one's memory
WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def measure(words: Sequence[str]) -> Cost:
    """Run a command and return what it took.

    Raises:
        RuntimeError: it failed.
    """
    watched = [sys.executable, "-c", WATCH, *words]
    done = subprocess.run(watched, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}")
    seconds, resident = done.stdout.split()
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds=float(seconds), bytes=int(resident) * unit)


def main(words: Sequence[str] | None = None) -> None:
    """Print the cost of each sparsity."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.0, 0.9, 0.99])
    parser.add_argument("--target", nargs="+", default=["reference", "loihi"])
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer")
    chosen = parser.parse_args(words)
    click.echo("| zero weights | target | seconds | GB |\n| ---: | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place:
        for sparsity in chosen.sparsity:
            graph = Path(place) / f"vgg16-{sparsity:g}.snn"
            write_network(graph, sparsity=sparsity, width=chosen.width)
            for target in chosen.target:
                build = Path(place) / f"{graph.stem}-{target}"
                command = [sys.executable, "-m", "snnc", "compile", str(graph)]
                cost = measure([*command, "--target", target, "-o", str(build)])
                row = f"{100 * sparsity:g} %", target, f"{cost.seconds:.1f}"
                click.echo(f"| {' | '.join(row)} | {cost.bytes / 1e9:.2f} |")


if __name__ == "__main__":
    main()
