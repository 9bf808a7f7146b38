"""Whether two runs of one program are the same, spike for spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnc.errors import InvalidSetting
from snnc.simulate.trace import Spikes, Trace


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first spike that differs: earliest layer, then sample, step and neuron."""

    layer: str
    sample: int
    step: int
    neuron: int  # in (C, H, W) order
    expected: bool  # whether the reference spikes

    def __str__(self) -> str:
        first, second = ("spikes", "does not") if self.expected else ("is silent", "spikes")
        return (
            f"{self.layer}: sample {self.sample}, step {self.step}, neuron {self.neuron}: "
            f"the reference {first}, the other {second}"
        )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a run agrees with the reference; every share is 1.0 for an exact target."""

    samples: int
    layers: Mapping[str, float]  # share of equal (sample, step, neuron) bits
    predictions: float  # share of samples named alike
    logits: float  # share of samples with all logits equal
    first: Difference | None

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return self.first is None and self.logits == 1.0 and self.predictions == 1.0

    def to_json(self) -> dict[str, object]:
        """Return one entry of "agreement" in metrics.json, schema 1."""
        return {
            "samples": self.samples,
            "layers": dict(self.layers),
            "predictions": self.predictions,
        }


def agreement(reference: Trace, other: Trace) -> Agreement:
    """Compare a run with the reference's run on the same samples; both kept their rasters.

    Raises:
        InvalidSetting: the runs are not comparable, and why.
    """
    if reference.samples == 0 or reference.logits.shape != other.logits.shape:
        raise InvalidSetting(
            f"logits of shapes {reference.logits.shape} and {other.logits.shape} do not compare; "
            "run the same program on the same samples, at least one"
        )
    expected, found = _rasters(reference), _rasters(other)
    if {name: r.shape for name, r in expected.items()} != {n: r.shape for n, r in found.items()}:
        raise InvalidSetting(
            f"layers {list(expected)} and {list(found)} do not compare, or differ in shape; "
            "run the same program on both"
        )
    return Agreement(
        samples=reference.samples,
        layers={name: float((raster == found[name]).mean()) for name, raster in expected.items()},
        predictions=float((reference.predictions == other.predictions).mean()),
        logits=float((reference.logits == other.logits).all(axis=1).mean()),
        first=_first(expected, found),
    )


def _rasters(trace: Trace) -> dict[str, Spikes]:
    """Map each layer to its spikes (samples, steps, neurons)."""
    rasters = {}
    for layer in trace.layers:
        if layer.raster is None:
            raise InvalidSetting(f"{layer.name}: the run kept no raster; run it with raster=True")
        rasters[layer.name] = layer.raster.reshape(*layer.raster.shape[:2], -1)
    return rasters


def _first(expected: Mapping[str, Spikes], found: Mapping[str, Spikes]) -> Difference | None:
    for layer, raster in expected.items():
        differs = np.argwhere(raster != found[layer])
        if len(differs):
            sample, step, neuron = (int(i) for i in differs[0])
            return Difference(
                layer=layer,
                sample=sample,
                step=step,
                neuron=neuron,
                expected=bool(raster[sample, step, neuron]),
            )
    return None
