"""How long one step of adversarial finetuning takes, and how much memory, against a baseline.

    python tests/benchmarks/finetune_step.py                              VGG-16, 8 images
    taskset -c 0,1 python tests/benchmarks/finetune_step.py --batch 64 --threads 2
    python tests/benchmarks/finetune_step.py --network small --markdown

The step is that of the papers: RFGSM on the frozen network, then clean cross entropy plus
beta times the divergence, one backward pass through both, SGD with momentum on everything,
mask, threshold floor. The baseline does the arithmetic of the published code (Ozdenizci and
Legenstein, TMLR 2024) in its order: the image copied for every step, a loop over the steps
in every layer of neurons with an autograd function for each spike, thresholds clamped in
every forward pass, tensors in NCHW, and no other library than torch. Both start from the
same weights and draw the same noise, so they must take the same step, or there is no table.

Times are medians of steps taken in turn: baseline, ours, baseline, ours. Memory is the
largest resident set of a process of its own during its second step, less what it held
before it, for each image of the batch. Nothing here asserts on time.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import THRESHOLD_FLOOR, raise_to_floor
from snnc.learn.objectives import Rfgsm, loss
from snnc.learn.prune.masks import apply_masks, nonzero_masks
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from torch import Tensor, nn

STEPS = 8
EPSILON, BETA = 2 / 255, 2.0
RATE, MOMENTUM, DECAY = 1e-3, 0.9, 1e-4
SPARSITY = 0.9
THRESHOLD = 0.3  # with batch norm's currents of unit variance, a seventh of the neurons fires
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0: pool
SMALL = (32, 64, 64, 0)
CLASSES = 10


def vgg16() -> nn.Sequential:
    """Return the VGG-16 of HYDRA: 15,302,848 weights, 276,992 neurons at 32x32."""
    return _network(3, VGG16, (2048, 256, 256))


def small() -> nn.Sequential:
    """Return a network of the demo's size, for images of 8x8 pixels."""
    return _network(1, SMALL, (64 * 16,))


def _network(channels: int, plan: tuple[int, ...], widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in plan:
        if width == 0:
            layers.append(nn.AvgPool2d(2))
            continue
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    layers.append(nn.Flatten())
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES, bias=False))


def sparse(network: nn.Sequential, seed: int) -> nn.Sequential:
    """Draw all weights anew; nine tenths of them are zero. Bounds the gain of each layer."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            weight.normal_(0, (2 / weight[0].numel() / (1 - SPARSITY)) ** 0.5, generator=generator)
            weight[torch.rand(weight.shape, generator=generator) < SPARSITY] = 0
    return network


class SpikePublished(torch.autograd.Function):
    """The published spike: a step forward, a triangle of width gamma backward."""

    @staticmethod
    def forward(ctx, u, gamma):
        spikes = (u >= 0).float().to(u.dtype)
        ctx.save_for_backward(u, spikes)
        ctx.gamma = gamma
        return spikes

    @staticmethod
    def backward(ctx, arriving):
        u, _ = ctx.saved_tensors
        slope = (1 / ctx.gamma) ** 2 * (ctx.gamma - u.abs()).clamp(min=0)
        return arriving * slope, None


class NeuronsPublished(nn.Module):
    """The published layer of neurons: a loop over the steps, tau = 1, hard reset."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full_like(like, THRESHOLD))
        self.tau = 1.0

    def forward(self, merged: Tensor) -> Tensor:
        """Return spikes (T * N, ...)."""
        self.threshold.data.clamp_(min=THRESHOLD_FLOOR)
        currents = merged.view(STEPS, -1, *merged.shape[1:])
        membrane, train = 0, []
        for t in range(STEPS):
            membrane = membrane * self.tau + currents[t]
            spikes = SpikePublished.apply(membrane - self.threshold, 1.0)
            membrane = (1 - spikes) * membrane
            train.append(spikes)
        return torch.stack(train).flatten(0, 1)


class Published(nn.Module):
    """The published network around the layers of a ReLU network."""

    def __init__(self, ann: nn.Sequential) -> None:
        super().__init__()
        like = next(ann.parameters())
        layers = copy.deepcopy(ann)
        for place, layer in enumerate(layers):
            if isinstance(layer, nn.ReLU):
                layers[place] = NeuronsPublished(like.new_zeros(()))
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        copies = images.unsqueeze(0).repeat(STEPS, *(1,) * images.dim())
        merged = self.layers(copies.flatten(0, 1))
        return merged.view(STEPS, -1, CLASSES).mean(0)


Step = Callable[[Tensor, Tensor, torch.Generator], float]


def published_step(ann: nn.Sequential) -> tuple[nn.Module, Step]:
    """Return the baseline's network and its training step."""
    network = Published(ann)
    optimizer = _sgd(network)
    masks = [(w, (w != 0).to(w.dtype)) for w in _weights(network)]

    def step(images: Tensor, labels: Tensor, generator: torch.Generator) -> float:
        network.eval()
        alpha = EPSILON / 2
        with torch.no_grad():
            target = F.softmax(network(images), dim=1)
        noise = torch.empty_like(images).normal_(generator=generator)
        start = (images + alpha * noise.sign()).clamp(0, 1).requires_grad_()
        divergence = F.kl_div(F.log_softmax(network(start), dim=1), target, reduction="sum")
        (gradient,) = torch.autograd.grad(divergence, start)
        moved = start.detach() + (EPSILON - alpha) * gradient.sign()
        delta = (moved - images).clamp(-EPSILON, EPSILON)
        adversarial = (images + delta).clamp(0, 1)
        network.train()
        optimizer.zero_grad()
        clean = network(images)
        attacked = network(adversarial)
        value = F.cross_entropy(clean, labels) + BETA * F.kl_div(
            F.log_softmax(attacked, dim=1), F.softmax(clean, dim=1), reduction="batchmean"
        )
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for weight, mask in masks:
                weight.mul_(mask)
        return value.item()

    return network, step


def our_step(ann: nn.Sequential, *, half: bool = False) -> tuple[nn.Module, Step]:
    """Return this package's network and training step; `half` computes sums in bfloat16."""
    shape = (ann[0].in_channels, 32, 32) if ann[0].in_channels == 3 else (1, 8, 8)
    network = to_spiking(
        ann,
        input_shape=shape,
        steps=STEPS,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    ).train()
    for fire in network.fires.values():
        fire.threshold.data.fill_(THRESHOLD)
    optimizer, masks = _sgd(network), nonzero_masks(network)
    objective = Rfgsm(epsilon=EPSILON, beta=BETA)

    def step(images: Tensor, labels: Tensor, generator: torch.Generator) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(objective, network, images, labels, generator)
        value.backward()
        optimizer.step()
        apply_masks(network, masks)
        raise_to_floor(network)
        return value.item()

    return network, step


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)


def _weights(network: nn.Module) -> list[Tensor]:
    return [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


NETWORKS = {"vgg16": (vgg16, (3, 32, 32)), "small": (small, (1, 8, 8))}
VARIANTS = {
    "published": published_step,
    "snnc": our_step,
    "snnc, bfloat16": lambda ann: our_step(ann, half=True),
}


def batch(name: str, size: int) -> tuple[Tensor, Tensor]:
    """Return random images and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, *NETWORKS[name][1], generator=generator)
    return images, torch.randint(CLASSES, (size,), generator=generator)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one variant took."""

    variant: str
    seconds: float  # median of the steps
    first_loss: float
    megabytes: float  # for each image


def measured(name: str, size: int, variants: list[str], rounds: int) -> list[Row]:
    """Time the variants' steps in turn, after one step of each to warm up."""
    images, labels = batch(name, size)
    steps, losses, generators = {}, {}, {}
    for variant in variants:
        _, steps[variant] = VARIANTS[variant](sparse(NETWORKS[name][0](), seed=0))
        generators[variant] = torch.Generator().manual_seed(2)
        losses[variant] = steps[variant](images, labels, generators[variant])
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            start = time.perf_counter()
            steps[variant](images, labels, generators[variant])
            times[variant].append(time.perf_counter() - start)
    return [
        Row(
            variant=variant,
            seconds=statistics.median(times[variant]),
            first_loss=losses[variant],
            megabytes=_memory_in_a_process(name, size, variant),
        )
        for variant in variants
    ]


def memory(name: str, size: int, variant: str) -> float:
    """Return the bytes that the second step needs at its peak, above what was held before."""
    images, labels = batch(name, size)
    _, step = VARIANTS[variant](sparse(NETWORKS[name][0](), seed=0))
    generator = torch.Generator().manual_seed(2)
    step(images, labels, generator)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the first step freed goes back to the system
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    step(images, labels, generator)
    return 1024.0 * (_kilobytes("VmHWM") - before)


def _kilobytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def _memory_in_a_process(name: str, size: int, variant: str) -> float:
    """Return megabytes for each image; not a number where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    command = [sys.executable, __file__, "--network", name, "--batch", str(size)]
    command += ["--threads", str(torch.get_num_threads()), "--memory-of", variant]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout) / size / 1e6


def agreed(name: str) -> bool:
    """Say whether baseline and ours have the same losses before and after one step.

    In double precision: in single precision a rounding may turn a spike that is within it
    of its threshold, and in a deep network with random weights that turns many others.
    """
    images, labels = batch(name, 2)
    losses = []
    for variant in (published_step, our_step):
        _, step = variant(sparse(NETWORKS[name][0](), seed=0).double())
        generator = torch.Generator().manual_seed(2)
        losses.append([step(images.double(), labels, generator) for _ in range(2)])
    return torch.allclose(*map(torch.tensor, losses), rtol=1e-6, atol=0)


def table(rows: list[Row], *, markdown: bool) -> str:
    """Return seconds, their ratio to the baseline's, and memory of each variant."""
    head = ("step", "seconds", "faster", "MB for each image", "loss of the first step")
    lines = [
        (
            row.variant,
            f"{row.seconds:.3f}",
            f"{rows[0].seconds / row.seconds:.2f} x",
            f"{row.megabytes:.1f}",
            f"{row.first_loss:.5f}",
        )
        for row in rows
    ]
    if markdown:
        cells = [head, ("---", "---:", "---:", "---:", "---:"), *lines]
        return "\n".join("| " + " | ".join(line) + " |" for line in cells)
    return "\n".join("".join(f"{cell:24}" for cell in line).rstrip() for line in (head, *lines))


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=list(NETWORKS), default="vgg16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--half", action="store_true", help="also with sums in bfloat16")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--memory-of", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        sys.stdout.write(f"{memory(arguments.network, arguments.batch, arguments.memory_of)}\n")
        return 0
    variants = list(VARIANTS)[: 3 if arguments.half else 2]
    if not agreed(arguments.network):
        raise SystemExit("baseline and ours do not take the same step")
    rows = measured(arguments.network, arguments.batch, variants, arguments.rounds)
    sys.stdout.write(table(rows, markdown=arguments.markdown) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
