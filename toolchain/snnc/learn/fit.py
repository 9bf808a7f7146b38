"""The training loop: one for dense, pruned and spiking networks, and for mask scores.

Every random draw of a step is a function of the stage's seed, the epoch and the batch, so
a fit that was killed goes on from its last snapshot with the steps it would have taken:
on a CPU it ends with the same bits as one that was not killed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import cos, inf, isfinite, pi
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from snnc.errors import InvalidFile, InvalidSetting, TrainingFailed
from snnc.learn.augment import augment, channel_means
from snnc.learn.curriculum import Curriculum, factor
from snnc.learn.diagnosis import finite, first_not_finite
from snnc.learn.objectives import Objective, Standard, loss, scaled
from snnc.learn.precision import Precision, logits_in_float32
from snnc.learn.settings import Count, NotNegative, Positive, Settings
from snnc.learn.stage import Advance, Context, TrainingData, derived, in_order
from snnc.learn.views import eval_view

SHOW = 10.0  # seconds between two signs of life within an epoch


class Training(Settings):
    """How to minimise an objective: SGD with momentum, a cosine from `rate` down to 0."""

    epochs: Count
    batch: Count  # samples of one step, over all processes
    rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    decay: NotNegative  # weight decay, on every trainable parameter
    validate_every: Count  # epochs between looks at the validation split
    accumulate: Count  # parts of a batch that are run one after the other to save memory
    precision: Precision  # of products; membranes and logits stay float32
    objective: Objective
    curriculum: Curriculum | None = None  # of the objective's epsilon

    @model_validator(mode="after")
    def _curriculum_fits(self) -> Training:
        if self.curriculum is not None:
            if isinstance(self.objective, Standard):
                raise ValueError("a curriculum needs an objective with an epsilon; leave it out")
            if self.curriculum.epochs >= self.epochs:
                raise ValueError(
                    f"the curriculum takes {self.curriculum.epochs} epochs of {self.epochs}, so "
                    "none trains at the whole epsilon; shorten it"
                )
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What a fit may change, and under which rules."""

    network: nn.Module  # changed in place
    parameters: tuple[nn.Parameter, ...]  # what the optimiser moves
    penalty: Callable[[int], Tensor] | None  # epoch, from 0, to what is added to the loss
    after_step: Callable[[], None]  # restores what must hold after every step
    acceptable: Callable[[], bool]  # may the present network be kept as the best?


@dataclass
class _Done:
    """How far a fit is. `batch` steps of epoch `epoch` (from 0) are done."""

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0  # sum over the steps of this epoch
    best_loss: float = inf
    best_epoch: int = 0  # from 1; 0 while there is none
    refused: int = 0  # validated epochs whose network was not acceptable
    best: dict[str, Tensor] = field(default_factory=dict)


def fit(
    subject: Subject, settings: Training, data: TrainingData, context: Context
) -> dict[str, float]:
    """Minimise the objective; leave the best network, in eval mode; return its metrics.

    The best is the network of the lowest loss on the validation split, among the epochs
    that are validated (every `validate_every`-th and the last) and acceptable.

    Raises:
        TrainingFailed: a loss or a gradient is not finite (the text names the batch and the
            layer, the snapshot of the last good step stays), or no epoch was acceptable.
        InvalidFile: the snapshot to go on from is damaged.
        InvalidSetting: a batch norm of single values would see a part of one sample.
    """
    _check_parts(subject.network, settings, len(data.train), context.machine.processes)
    loop = _Loop(subject, settings, data, context)
    image = data.train.rows(torch.zeros(1, dtype=torch.int64)).images
    with (
        torch.random.fork_rng(devices=_gpus(context)),  # dropout draws from torch's own stream
        logits_in_float32(subject.network, image, settings.precision),
    ):
        loop.run()
    subject.network.load_state_dict(loop.done.best)
    subject.network.eval()
    return {"validation_loss": loop.done.best_loss, "epoch": float(loop.done.best_epoch)}


class _Loop:
    """One fit at work: the optimiser, and how far it is."""

    def __init__(
        self, subject: Subject, settings: Training, data: TrainingData, context: Context
    ) -> None:
        self.subject = subject
        self.settings = settings
        self.data = data
        self.context = context
        self.machine = context.machine
        self.steps = -(-len(data.train) // settings.batch)  # of an epoch
        self.means = channel_means(data.train.pixels, data.train.white) if data.augment else None
        self.optimizer = torch.optim.SGD(
            subject.parameters,
            lr=settings.rate,
            momentum=settings.momentum,
            weight_decay=settings.decay,
        )
        self.done = _Done()
        self._restore()
        self.started = self.shown = self.kept = time.monotonic()
        self.first = self._taken()

    def run(self) -> None:
        """Train all epochs that are left."""
        while self.done.epoch < self.settings.epochs:
            self._epoch()
        if not self.done.best:
            why = (
                "the budget was never met; train the scores for more epochs or raise gamma"
                if self.done.refused
                else "the validation loss or the network was never finite; lower the rate"
            )
            raise TrainingFailed(f"no epoch ended with a network to keep: {why}")

    def _epoch(self) -> None:
        epoch = self.done.epoch
        order = self.context.order(len(self.data.train), "order", epoch)
        parts = torch.split(order, self.settings.batch)
        self.subject.network.train()
        while self.done.batch < self.steps:
            self.done.loss += self._step(parts[self.done.batch])
            self.done.batch += 1
            self._show_and_keep()
        mean = self.done.loss / self.steps
        self.done.epoch, self.done.batch, self.done.loss = epoch + 1, 0, 0.0
        if self.done.epoch % self.settings.validate_every == 0 or self._ended():
            self._validate()
        self._show(mean)

    def _ended(self) -> bool:
        return self.done.epoch == self.settings.epochs

    def _step(self, rows: Tensor) -> float:
        """Take one step in place and return the loss before it.

        Raises:
            TrainingFailed: loss or gradient is not finite; the weights are not changed.
        """
        done, settings, network = self.done, self.settings, self.subject.network
        progress = (done.epoch + done.batch / self.steps) / settings.epochs
        self.optimizer.param_groups[0]["lr"] = settings.rate * (1 + cos(pi * progress)) / 2
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.machine.device)
        mine = self.machine.share(rows)
        for number, part in enumerate(torch.tensor_split(mine, settings.accumulate)):
            if len(part):
                value = self._loss(part, number) * (len(part) / len(rows))
                torch.autograd.backward(value)
                total += value.detach()
        if self.subject.penalty is not None:
            penalty = self.subject.penalty(done.epoch) / self.machine.processes
            torch.autograd.backward(penalty)
            total += penalty.detach()
        total = self.machine.sum_gradients(self.subject.parameters, total)
        gradients = [p.grad for p in self.subject.parameters if p.grad is not None]
        seen, size = (float(x) for x in torch.stack([total, get_total_norm(gradients)]))
        if not (isfinite(seen) and isfinite(size)):
            raise TrainingFailed(
                f"epoch {done.epoch + 1}, batch {done.batch + 1}: the loss is {seen:g}, the "
                f"gradient's norm {size:g}; "
                f"{first_not_finite(network, self.data.train.rows(mine).images)}; lower the rate"
            )
        self.optimizer.step()
        self.machine.average_statistics(network)
        self.subject.after_step()
        return seen

    def _loss(self, rows: Tensor, part: int) -> Tensor:
        """Return the objective's mean over some training samples."""
        key = (self.done.epoch, self.done.batch, self.machine.rank, part)
        torch.manual_seed(derived(self.context.seed, "dropout", *key))
        batch = self.data.train.rows(rows)
        images = batch.images
        if self.means is not None:
            stream = self.context.generator("augment", *key)
            images = augment(images, self.data.augment, self.means, stream)
        objective = self.settings.objective
        if self.settings.curriculum is not None:
            objective = scaled(objective, factor(self.settings.curriculum, self.done.epoch))
        stream = self.context.generator("attack", *key)
        with self._autocast():
            return loss(objective, self.subject.network, images, batch.labels, stream)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.machine.device.type,
            dtype=torch.bfloat16,
            enabled=self.settings.precision == "bfloat16",
        )

    def _validate(self) -> None:
        """Keep the present network if it is the best so far."""
        network, seen = self.subject.network, self._validation_loss()
        acceptable = self.machine.from_leader(self.subject.acceptable())
        self.done.refused += not acceptable
        if acceptable and isfinite(seen) and seen <= self.done.best_loss and finite(network):
            self.done.best_loss, self.done.best_epoch = seen, self.done.epoch
            self.done.best = copy.deepcopy(network.state_dict())

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Return the objective's mean over the validation split, in eval mode, at full epsilon.

        The adversary's draws are the same at every call, so epochs compare fairly.
        """
        frozen = eval_view(self.subject.network)
        total = torch.zeros((), dtype=torch.float64, device=self.machine.device)
        for number, part in enumerate(in_order(self.data.validation, self.settings.batch)):
            if number % self.machine.processes == self.machine.rank:
                stream = self.context.generator("validation", number)
                with self._autocast():
                    value = loss(self.settings.objective, frozen, part.images, part.labels, stream)
                total += value.double() * len(part)
        return float(self.machine.sum(total)) / len(self.data.validation)

    def _taken(self) -> int:
        return self.done.epoch * self.steps + self.done.batch

    def _show_and_keep(self) -> None:
        """Within an epoch: show a sign of life, take a snapshot, whichever is due."""
        now = time.monotonic()
        if now - self.shown >= SHOW and self.done.batch < self.steps:
            self._show(self.done.loss / self.done.batch)
        snapshots = self.context.snapshots
        if self.machine.leads and now - self.kept >= snapshots.every:
            snapshots.save(
                {
                    **asdict(self.done),
                    "network": self.subject.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                }
            )
            self.kept = now

    def _show(self, mean: float) -> None:
        now = time.monotonic()
        self.shown = now
        total = self.settings.epochs * self.steps
        taken = self._taken() - self.first
        left = (now - self.started) / max(taken, 1) * (total - self._taken())
        if self.done.batch:  # within an epoch
            shown = Advance(work="steps", done=self._taken(), total=total, loss=mean, left=left)
        else:
            shown = Advance(
                work="epochs",
                done=self.done.epoch,
                total=self.settings.epochs,
                loss=mean,
                left=None if self._ended() else left,
            )
        self.context.progress(shown)

    def _restore(self) -> None:
        """Go on from the last snapshot, if there is one; else all start from the leader's."""
        found = self.context.snapshots.load() if self.machine.leads else None
        found = self.machine.from_leader(found)
        if found is not None:
            content = dict(found)
            try:
                self.subject.network.load_state_dict(content.pop("network"))
                self.optimizer.load_state_dict(content.pop("optimizer"))
                self.done = _Done(**content)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise InvalidFile(
                    f"{self.context.snapshots.path} is not a snapshot of this stage; delete it to "
                    "repeat the stage from its start"
                ) from error
        self.machine.synchronise(self.subject.network)


def _check_parts(network: nn.Module, settings: Training, count: int, processes: int) -> None:
    """Refuse parts of a batch whose variance does not exist."""
    last = (count - 1) % settings.batch + 1
    parts = [size // processes // settings.accumulate for size in (settings.batch, last)]
    smallest = max(min(parts), 1)  # an empty part is left out
    norms = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm1d)]
    if smallest == 1 and norms:
        raise InvalidSetting(
            f"{count} samples in batches of {settings.batch}, {settings.accumulate} parts and "
            f"{processes} processes leave a part of one sample, of which {norms[0]} has no "
            "variance; choose another batch"
        )


def _gpus(context: Context) -> list[torch.device]:
    device = context.machine.device
    return [device] if device.type == "cuda" else []
