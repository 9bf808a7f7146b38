"""How long balancing the thresholds of VGG-16 takes, and how much memory.

    python tests/benchmarks/balance.py                     the papers' settings: minutes
    python tests/benchmarks/balance.py --batches 1 --steps 20
    python tests/benchmarks/balance.py --device cuda

The network is the VGG-16 of HYDRA (13 convolutions, 4 poolings, 15,302,848 weights,
276,992 neurons at 32x32) with drawn weights; images are drawn too. The papers take 100
steps and 10 batches of 64, so that the currents of a first layer alone are 1.7 GB for each
batch. Peak memory is that of the whole process. Nothing here asserts on time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from snnc.ir.graph import Granularity, Reset
from snnc.learn.balance import Balance
from snnc.learn.calibration import Calibration
from snnc.learn.percentile import from_top
from snnc.learn.spiking import SpikingNetwork, to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc_models.vgg import vgg16_hydra
from torch import Tensor

SHAPE = (3, 32, 32)
PAPERS = Balance(steps=100, percentile=99.7, scale=0.3, batches=10, batch=64)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a calibration took."""

    seconds: float
    peak: int  # bytes: of the device, or resident in the whole process
    before: int  # bytes, before the calibration began
    spikes: int  # bytes of spikes kept at one time
    error: float  # relative error of the percentiles
    thresholds: dict[str, float]  # mean of each layer


def network(width: int, granularity: Granularity) -> SpikingNetwork:
    """Return a spiking VGG-16 with drawn weights, thresholds 1."""
    torch.manual_seed(0)
    ann = vgg16_hydra(classes=10, mean=(0.5,) * 3, std=(0.25,) * 3, width=width)
    return to_spiking(
        ann.eval(),
        input_shape=SHAPE,
        steps=8,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=granularity,
        surrogate=TRIANGLE,
    )


def images(settings: Balance, device: torch.device) -> list[Tensor]:
    """Return batches of drawn images."""
    draw = torch.Generator().manual_seed(1)
    sizes = range(settings.batches)
    return [torch.rand(settings.batch, *SHAPE, generator=draw).to(device) for _ in sizes]


def measure(
    settings: Balance,
    width: int,
    granularity: Granularity,
    device: torch.device,
    show: Callable[[str], object],
) -> Cost:
    """Calibrate every layer once and return what it took; show each layer as it is done."""
    spiking = network(width, granularity).to(device)
    batches = images(settings, device)
    before = peak_bytes(device)
    began = time.perf_counter()
    calibration = Calibration(spiking, batches, steps=settings.steps)
    for name, fire in spiking.fires.items():
        started = time.perf_counter()
        fire.threshold.data.copy_(calibration.percentiles(name, settings.percentile))
        calibration.pass_on(name)
        seconds = time.perf_counter() - started
        show(f"layer {name}: {seconds:.1f} s, peak {peak_bytes(device) / 1e9:.2f} GB\n")
    return Cost(
        seconds=time.perf_counter() - began,
        peak=peak_bytes(device),
        before=before,
        spikes=calibration.peak_spikes,
        error=calibration.error,
        thresholds={n: float(f.threshold.detach().mean()) for n, f in spiking.fires.items()},
    )


def peak_bytes(device: torch.device) -> int:
    """Return the most memory used so far: of the CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def text(settings: Balance, width: int, cost: Cost) -> str:
    """Return the result in lines."""
    samples = settings.batches * settings.batch
    currents = settings.steps * settings.batch * width * 32 * 32
    return "\n".join(
        [
            f"VGG-16 of width {width}, {settings.batches} batches of {settings.batch}, "
            f"T_c = {settings.steps}, {torch.get_num_threads()} threads",
            f"seconds             {cost.seconds:.0f}, {cost.seconds / samples:.3f} for a sample",
            f"peak memory         {cost.peak / 1e9:.2f} GB ({cost.before / 1e9:.2f} GB before)",
            f"kept spikes         {cost.spikes / 1e9:.3f} GB, {cost.spikes // samples} bytes for "
            "a sample",
            f"largest percentile  of {currents:,} currents, from the upper "
            f"{from_top(currents, settings.percentile):,}; relative error {cost.error:g}",
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, default=PAPERS.batches)
    parser.add_argument("--batch", type=int, default=PAPERS.batch)
    parser.add_argument("--steps", type=int, default=PAPERS.steps)
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer")
    parser.add_argument("--granularity", choices=[g.value for g in Granularity], default="layer")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    settings = PAPERS.model_copy(
        update={"batches": asked.batches, "batch": asked.batch, "steps": asked.steps}
    )
    cost = measure(
        settings,
        asked.width,
        Granularity(asked.granularity),
        torch.device(asked.device),
        sys.stderr.write,
    )
    sys.stdout.write(text(settings, asked.width, cost) + "\n")


if __name__ == "__main__":
    main()
