"""What a conversion did to each layer, and what the number of steps does to the accuracy.

With reset to zero a rate is not proportional to the current (a constant current x gives
the rate 1 / ceil(threshold / x)), and after the first layer currents are sums of spikes and
not of activations. So no rate is compared with an activation in its own unit. Of each
layer, over all samples and neurons, with the ReLU network's activation a and the spiking
network's rate r (spikes per step, 0 to 1):

    measure       definition                                    perfect   useless
    correlation   Pearson correlation of a and r                      1         0
    error         min over s >= 0 of |a - s r| / |a|                  0         1
    unevenness    mean of |r - c|, where c is the rate of the         0         1
                  same neuron if its current were its own mean
                  over time at every step

Error asks whether some scale of the layer turns rates into activations, which is what the
next layer's weights would have to do; correlation allows an offset too. Unevenness is what
the timing of the spikes costs (the unevenness error of Bu et al., ICLR 2022), free of what
threshold and reset do to a constant current.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnc.errors import InvalidSetting
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import THRESHOLD_FLOOR, Fire, expand
from snnc.learn.relu_form import relu_form
from snnc.learn.spiking import SpikingNetwork, to_spiking
from snnc.learn.stage import Samples, accuracy, in_order
from snnc.learn.surrogates import TRIANGLE
from snnc.learn.views import eval_view

BATCH = 64  # samples that run at one time


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What happened in one spiking layer; the module's docstring defines the measures."""

    layer: str
    neurons: int
    threshold_least: float
    threshold_mean: float
    threshold_most: float
    rate: float  # spikes of a neuron in one step
    silent: float  # share of the neurons that no sample made spike
    correlation: float | None  # None if the activations or the rates are all equal
    error: float | None  # None if all activations are 0
    unevenness: float


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion did. Accuracies are shares of the samples."""

    samples: int
    steps: int  # at which the layers were looked at: the network's own
    ann: float  # accuracy of the ReLU network that was converted
    relu: float  # of the ReLU form of the spiking network, T = 0
    sweep: tuple[tuple[int, float], ...]  # T, and accuracy of the same network run with it
    layers: tuple[LayerReport, ...]

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON."""
        return {
            "samples": self.samples,
            "steps": self.steps,
            "accuracy": {
                "ann": self.ann,
                "relu_form": self.relu,
                "by_steps": {str(steps): value for steps, value in self.sweep},
            },
            "layers": [asdict(layer) for layer in self.layers],
        }

    def to_text(self) -> str:
        """Return the report as two tables."""
        head = ("layer", "neurons", "threshold", "rate", "silent", "correlation", "error", "uneven")
        layers = [
            (
                layer.layer,
                str(layer.neurons),
                _span(layer.threshold_least, layer.threshold_mean, layer.threshold_most),
                f"{layer.rate:.3f}",
                f"{layer.silent:.1%}",
                _number(layer.correlation),
                _number(layer.error),
                _number(layer.unevenness),
            )
            for layer in self.layers
        ]
        runs = [("ReLU network", self.ann), ("T = 0 (ReLU form)", self.relu)]
        runs += [(f"T = {steps}", value) for steps, value in self.sweep]
        accuracies = [(name, f"{value:.1%}") for name, value in runs]
        return "\n".join(
            [
                f"{self.samples} samples; layers at T = {self.steps}",
                "",
                *_lines([head, *layers]),
                "",
                *_lines([("network", "accuracy"), *accuracies]),
            ]
        )


def conversion_report(
    ann: nn.Module, spiking: SpikingNetwork, samples: Samples, *, steps: tuple[int, ...]
) -> ConversionReport:
    """Return what converting `ann` into `spiking` did, measured on samples, in eval mode.

    Layers are looked at with the steps that the network has; `steps` are further numbers of
    steps at which the same network, thresholds and batch statistics unchanged, classifies.
    Both networks stay as they are.

    Raises:
        InvalidSetting: no samples, a number of steps below 1, or `spiking` has other layers
            than a conversion of `ann` has.
        Unsupported: `ann` cannot be converted.
    """
    if not len(samples) or min(steps, default=1) < 1:
        raise InvalidSetting(
            f"a conversion report of {len(samples)} samples at T = {list(steps)}; "
            "give at least one sample, and steps from 1 (T = 0 is always measured)"
        )
    source = relu_form(_converted(ann, spiking))
    return ConversionReport(
        samples=len(samples),
        steps=spiking.steps,
        ann=accuracy(source, samples, batch=BATCH),
        relu=accuracy(relu_form(spiking), samples, batch=BATCH),
        sweep=tuple((t, accuracy(at_steps(spiking, t), samples, batch=BATCH)) for t in steps),
        layers=_layers(source, spiking, samples),
    )


def at_steps(network: SpikingNetwork, steps: int) -> SpikingNetwork:
    """Return a view of the network, in eval mode, that runs for another number of steps."""
    copied = eval_view(network)
    copied.steps = steps
    for fire in copied.fires.values():
        fire.steps = steps
    return copied


def _converted(ann: nn.Module, spiking: SpikingNetwork) -> SpikingNetwork:
    """Return the network as `to_spiking` made it of `ann`, whose layers have the same names."""
    fresh = to_spiking(
        ann,
        input_shape=spiking.input_shape,
        steps=1,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    )
    if list(fresh.fires) != list(spiking.fires):
        raise InvalidSetting(
            f"the spiking network has the layers {', '.join(spiking.fires)}, and a conversion of "
            f"{type(ann).__name__} has {', '.join(fresh.fires)}; give the network that it was "
            "converted from"
        )
    return fresh


class _Measured:
    """Sums over the samples of one layer, in float64."""

    def __init__(self, fire: Fire) -> None:
        self.fire = fire
        self.count = 0
        self.neurons = 0
        self.sums = torch.zeros(6, dtype=torch.float64)  # a, r, aa, rr, ar, |r - c|
        self.spiked = torch.zeros((), dtype=torch.bool)

    def add(self, activation: Tensor, current: Tensor, spikes: Tensor) -> None:
        """Take activations (N, ...), and currents and spikes (T * N, ...)."""
        steps = self.fire.steps
        rate = expand(spikes, steps).mean(0)
        mean = expand(current, steps).mean(0)
        constant = expand(self.fire(mean.repeat(steps, *(1,) * (mean.dim() - 1))), steps).mean(0)
        a, r = activation.double(), rate.double()
        uneven = (rate - constant).abs().double()
        parts = [x.sum() for x in (a, r, a * a, r * r, a * r, uneven)]
        self.sums += torch.stack(parts).cpu()
        self.spiked = self.spiked.to(rate.device) | (rate > 0).any(0)
        self.count += rate.numel()
        self.neurons = rate[0].numel()

    def report(self, name: str) -> LayerReport:
        """Return the measures of everything added."""
        a, r, aa, rr, ar, uneven = (self.sums / self.count).tolist()
        spread = (aa - a * a) * (rr - r * r)
        thresholds = self.fire.threshold.detach().clamp(min=THRESHOLD_FLOOR).double()
        similar = max(ar, 0.0) ** 2 / (aa * rr) if aa * rr > 0 else 0.0
        return LayerReport(
            layer=name,
            neurons=self.neurons,
            threshold_least=float(thresholds.min()),
            threshold_mean=float(thresholds.mean()),
            threshold_most=float(thresholds.max()),
            rate=r,
            silent=1 - float(self.spiked.double().mean()),
            correlation=(ar - a * r) / sqrt(spread) if spread > 0 else None,
            error=sqrt(max(1 - similar, 0.0)) if aa > 0 else None,
            unevenness=uneven,
        )


class _Watch(fx.Interpreter):
    """Runs a network and shows the input and output of chosen modules."""

    def __init__(
        self,
        body: fx.GraphModule,
        names: Sequence[str],
        show: Callable[[str, Tensor, Tensor], None],
    ) -> None:
        super().__init__(body)
        self._names = frozenset(names)
        self._show = show

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - fx's
        result = super().call_module(target, args, kwargs)
        if target in self._names:
            self._show(target, args[0], result)
        return result


@torch.no_grad()
def _layers(
    source: SpikingNetwork, spiking: SpikingNetwork, samples: Samples
) -> tuple[LayerReport, ...]:
    watched = at_steps(spiking, spiking.steps)
    measured = {name: _Measured(fire) for name, fire in watched.fires.items()}
    activations: dict[str, Tensor] = {}

    def keep(name: str, _: Tensor, activation: Tensor) -> None:
        activations[name] = activation

    def compare(name: str, current: Tensor, spikes: Tensor) -> None:
        measured[name].add(activations.pop(name), current, spikes)

    for batch in in_order(samples, BATCH):
        images = batch.images
        _Watch(source.body, list(measured), keep).run(images)
        merged = images.repeat(watched.steps, *(1,) * (images.dim() - 1))
        _Watch(watched.body, list(measured), compare).run(merged)
    return tuple(layer.report(name) for name, layer in measured.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(least: float, mean: float, most: float) -> str:
    return f"{mean:.3f}" if least == most else f"{mean:.3f} ({least:.3f} to {most:.3f})"


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned lines: the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
