"""What stages of training hand to each other.

A stage is a function `stage(state, settings, data, generator, progress) -> state`. It
never changes the state it is given, draws only from its generator, and sees only the
training and the validation split: nothing is ever chosen by looking at the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snnc.data import Dataset, Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Labelled images as tensors."""

    images: Tensor  # (N, C, H, W), values in [0, 1]
    labels: Tensor  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: Tensor) -> Samples:
        """Return some of the samples, by their indices."""
        return Samples(images=self.images[chosen], labels=self.labels[chosen])


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """What a stage may see."""

    train: Samples
    validation: Samples


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

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        return f"{self.work} {self.done}/{self.total}{loss}"


Progress = Callable[[Advance], None]


def silent(_: Advance) -> None:
    """Show no progress."""


def samples(split: Split) -> Samples:
    """Return a split as tensors."""
    return Samples(images=torch.from_numpy(split.images), labels=torch.from_numpy(split.labels))


def training_data(dataset: Dataset) -> TrainingData:
    """Return the two splits of a data set that training may see."""
    return TrainingData(train=samples(dataset.train), validation=samples(dataset.validation))


def batches(data: Samples, size: int, generator: torch.Generator) -> Iterator[Samples]:
    """Yield all samples once in random order, `size` at a time; the last may be smaller."""
    for rows in torch.split(torch.randperm(len(data), generator=generator), size):
        yield data.rows(rows)


def in_order(data: Samples, size: int) -> Iterator[Samples]:
    """Yield all samples once in their order, `size` at a time; the last may be smaller."""
    for rows in torch.split(torch.arange(len(data)), size):
        yield data.rows(rows)


@torch.no_grad()
def accuracy(network: nn.Module, data: Samples, *, batch: int = 256) -> float:
    """Return the share of samples whose largest logit is the label, in the current mode."""
    correct = 0
    for part in in_order(data, batch):
        correct += int((network(part.images).argmax(1) == part.labels).sum())
    return correct / len(data)
