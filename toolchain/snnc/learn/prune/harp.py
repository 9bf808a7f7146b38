"""HARP: scores and the rate of each layer learned together, under one global budget.

Source: Zhao & Wressnegger, ICLR 2023, and `utils/hw.py` and `train.py` of intellisec/harp;
Schmolli et al., CPAL 2025 ("non-uniform"). Once the budget was met, the published code
keeps any later network as its best; here each network must meet it itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from snnc.errors import unreachable
from snnc.learn.fit import Subject, Training, fit
from snnc.learn.prune.masks import prunable
from snnc.learn.prune.scores import Rate, masked_network, score, trainable
from snnc.learn.settings import Positive, Settings
from snnc.learn.stage import Context, State, TrainingData

if TYPE_CHECKING:
    from snnc.learn.convert import Convert  # which imports this package
    from snnc.learn.prune.events import Meter

Share = Annotated[float, Field(gt=0, lt=1)]
Costs = Callable[[nn.Module], list[int]]  # of a plain network, one for each prunable weight
NEVER = -1


class Harp(Settings):
    """Prune by learned scores, as many weights in each layer as it learns to need.

    The budget counts weights, or the synaptic events that they deliver in the spiking
    network. HARP: least 0.1, start 0.1, gamma 0.01 (0.1 for ImageNet).
    """

    method: Literal["harp"] = "harp"
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    budget: Literal["weights", "events"]
    least: Share  # alpha; a layer keeps at least this share of (1 - sparsity)
    start: Share  # what every layer keeps at first, whatever the sparsity
    gamma: Positive  # weight of the budget in the loss, times the number of the epoch
    scores: Training
    finetune: Training | None = None

    @property
    def least_rate(self) -> float:
        """k_min = alpha k, below which no rate falls."""
        return self.least * (1 - self.sparsity)


def harp(
    state: State, settings: Harp, data: TrainingData, context: Context, convert: Convert
) -> State:
    """Return the network under the mask of its best scores and rates within the budget.

    Weights keep their values; batch norm learns along. Metrics are those of the fit, as
    `scores.*`, and, for a budget of events, what `Meter.metrics` says.

    Raises:
        Refusal: a layer's weights are all zero; or events are counted, and a layer is
            driven by something else than pixels and spikes.
        TrainingFailed: a loss is not finite, or no epoch ended within the budget.
    """
    meter = _meter(state.network, settings, data, context, convert)
    costs = _weights if meter is None else meter.dense_events
    budgeted = Budgeted(state.network, settings, costs)
    metrics = fit(budgeted.subject(), settings.scores, data, context)
    pruned = masked_network(budgeted.network, like=state.network)
    scores = {f"scores.{name}": value for name, value in metrics.items()}
    events = {} if meter is None else meter.metrics(pruned)
    return State(network=pruned, metrics={**scores, **events})


class Budgeted(nn.Module):
    """A copy of a network with scores and rates, and what its budget remembers.

    With c_l what all connections of layer l cost (its weights, or its events) and k the
    share that may stay, the penalty of epoch t, from 0, is

        gamma_t L,    L = max(sum r_l c_l / (k sum c_l) - 1, 0),    gamma_t = (t + 1) gamma

    gamma_t stops growing once an epoch ended with an L that rounds to 0.0000. Costs are
    found at the start of each epoch and whenever a network may become the best; all of it is
    in the state dict (as integers, which no one averages), so a fit may stop and go on.
    """

    costs: Tensor  # (layers,) int64
    epoch: Tensor  # () int64, of the penalty
    held: Tensor  # () int64, the epoch whose gamma holds from then on, or NEVER

    def __init__(self, network: nn.Module, settings: Harp, costs: Costs) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.settings = settings
        weights = prunable(self.network)
        self.rates = {
            name: Rate(least=settings.least_rate, start=settings.start, like=weight)
            for name, weight in weights.items()
        }  # no ModuleDict: each is registered with its scores
        score(self.network, self.rates)
        device = next(iter(weights.values())).device
        self.register_buffer("costs", torch.zeros(len(weights), dtype=torch.int64, device=device))
        self.register_buffer("epoch", torch.tensor(NEVER, device=device))
        self.register_buffer("held", torch.tensor(NEVER, device=device))
        self._find_costs: Callable[[], list[int]] = lambda: costs(
            masked_network(self.network, like=network)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the masked network."""
        logits: Tensor = self.network(images)
        return logits

    def subject(self) -> Subject:
        """Return what the fit moves: scores, rates and batch norm."""
        return Subject(
            network=self,
            parameters=trainable(self),
            penalty=self.penalty,
            after_step=lambda: None,  # weights are frozen, masks are functions of the scores
            acceptable=self.within_budget,
        )

    def penalty(self, epoch: int) -> Tensor:
        """Return gamma_t L, differentiable in the rates."""
        if epoch != int(self.epoch):
            self._measure()
            if self.held == NEVER and epoch > 0 and self._met():
                self.held.fill_(epoch - 1)
            self.epoch.fill_(epoch)
        strength = epoch if self.held == NEVER else int(self.held)
        return (strength + 1) * self.settings.gamma * self.excess()

    def excess(self) -> Tensor:
        """Return L, differentiable in the rates, under the costs that were found last."""
        shares = self.costs.double() / self.costs.sum()
        rates: list[Tensor] = [rate() for rate in self.rates.values()]
        spent = (torch.stack(rates) * shares.float()).sum()
        return (spent / (1 - self.settings.sparsity) - 1).clamp(min=0)

    def within_budget(self) -> bool:
        """Find the costs anew, and say whether L rounds to 0.0000."""
        self._measure()
        return self._met()

    def _met(self) -> bool:
        return round(float(self.excess().detach()), 4) == 0

    def _measure(self) -> None:
        self.costs.copy_(torch.tensor(self._find_costs()))


def _meter(
    network: nn.Module, settings: Harp, data: TrainingData, context: Context, convert: Convert
) -> Meter | None:
    """Return what counts events, if the budget counts them."""
    match settings.budget:
        case "weights":
            return None
        case "events":
            from snnc.learn.prune.events import Meter

            return Meter(network, convert, data, context, batch=settings.scores.batch)
        case _:
            unreachable(settings.budget)


def _weights(network: nn.Module) -> list[int]:
    return [weight.numel() for weight in prunable(network).values()]
