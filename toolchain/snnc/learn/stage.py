"""What stages of training hand to each other.

A stage is a function `stage(state, settings, data, context) -> state`. It never changes
the state it is given, draws only from generators of its context, and sees only the
training and the validation split: nothing is ever chosen by looking at the test split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from snnc.data import Dataset, Split
from snnc.learn.augment import Augmentation
from snnc.learn.machine import Machine
from snnc.learn.snapshots import Snapshots


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Labelled images as tensors, all on one device."""

    pixels: Tensor  # (N, C, H, W), bytes or floats, 0 to `white`
    white: float  # the pixel value that means 1.0
    labels: Tensor  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All images (N, C, H, W), float32 in [0, 1]."""
        return self.pixels.to(torch.float32) / self.white

    def rows(self, chosen: Tensor) -> Samples:
        """Return some of the samples, by their indices."""
        here = chosen.to(self.labels.device)
        return replace(self, pixels=self.pixels[here], labels=self.labels[here])


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """What a stage may see, and how training images are varied."""

    train: Samples
    validation: Samples
    augment: tuple[Augmentation, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """A network and what the last stage measured of it."""

    network: nn.Module
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Advance:
    """One finished piece of a stage's work, for whoever shows progress."""

    work: str  # what the pieces are, in the plural, such as "epochs"
    done: int  # from 1
    total: int
    loss: float | None  # mean over the batches, where the work minimises one
    left: float | None = None  # seconds until the work is done, estimated

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        left = "" if self.left is None else f", {duration(self.left)} left"
        return f"{self.work} {self.done}/{self.total}{loss}{left}"


Progress = Callable[[Advance], None]


def silent(_: Advance) -> None:
    """Show no progress."""


def duration(seconds: float) -> str:
    """Return a time span as people say it.

    >>> duration(42.2), duration(200), duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """Where a stage runs, and the seed of everything random in it.

    A random draw is a function of the seed and of a key that says what is drawn, such as
    ("attack", epoch, batch); no draw depends on how many came before it. So work that is
    cut off can go on anywhere with the draws that it would have had.
    """

    seed: int
    progress: Progress = silent
    machine: Machine = field(default_factory=Machine)
    snapshots: Snapshots = field(default_factory=Snapshots)

    def generator(self, *key: str | int) -> torch.Generator:
        """Return the random stream of that key, on the machine's device."""
        return torch.Generator(self.machine.device).manual_seed(derived(self.seed, *key))

    def order(self, count: int, *key: str | int) -> Tensor:
        """Return a permutation of 0 to count - 1, on the CPU, the same on every machine."""
        generator = torch.Generator().manual_seed(derived(self.seed, *key))
        return torch.randperm(count, generator=generator)

    def phase(self, name: str) -> Context:
        """Return the context of one part of a stage: its own draws, its own snapshots."""
        return replace(
            self, seed=derived(self.seed, "phase", name), snapshots=self.snapshots.of(name)
        )


def derived(seed: int, *key: str | int) -> int:
    """Return the seed that belongs to a key, from the first 63 bits of a SHA-256."""
    text = ":".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def samples(split: Split, device: torch.device | None = None) -> Samples:
    """Return a split as tensors, whole on the device: no batch waits for a copy."""
    return Samples(
        pixels=torch.from_numpy(split.pixels).to(device),
        white=split.white,
        labels=torch.from_numpy(split.labels).to(device),
    )


def training_data(
    dataset: Dataset,
    augment: tuple[Augmentation, ...] = (),
    device: torch.device | None = None,
) -> TrainingData:
    """Return the two splits of a data set that training may see."""
    return TrainingData(
        train=samples(dataset.train, device),
        validation=samples(dataset.validation, device),
        augment=augment,
    )


def batches(data: Samples, size: int, order: Tensor) -> Iterator[Samples]:
    """Yield the samples in that order, `size` at a time; the last batch may be smaller."""
    for rows in torch.split(order, size):
        yield data.rows(rows)


def in_order(data: Samples, size: int) -> Iterator[Samples]:
    """Yield all samples once in their order, `size` at a time; the last may be smaller."""
    return batches(data, size, torch.arange(len(data)))


@torch.no_grad()
def accuracy(network: nn.Module, data: Samples, *, batch: int = 256) -> float:
    """Return the share of samples whose largest logit is the label, in the current mode."""
    correct = 0
    for part in in_order(data, batch):
        correct += int((network(part.images).argmax(1) == part.labels).sum())
    return correct / len(data)
