"""The account of a quantization: what became of each layer, for people and for tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.errors import InvalidFile
from snnc.ir.graph import Graph
from snnc.ir.program import Accumulator, Layer, Program
from snnc.ir.weights import nonzeros, stored, unpack
from snnc.passes.image import image_coding
from snnc.passes.numbers import Bits, Numbers, width
from snnc.passes.populations import FloatPopulation, populations
from snnc.passes.scale import formats

KEY = "quantization"  # of the account in the provenance of a program


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How one population behaves on the calibration images.

    Errors are rate errors (spikes / neuron / step) of a layer; of a readout that does not
    spike, logit errors (see `trial.Trial.errors`).
    """

    before: float  # without a search
    after: float
    shifted: bool  # the search moved its bias
    sensitivity: float  # see `sensitivity`


@dataclass(frozen=True, kw_only=True)
class LayerAccount:
    """One population and its integers."""

    name: str
    spikes: bool
    bits: int  # of the format, sign included
    scale: float
    weights: int  # that are not zero as floats
    saturated: int  # whose nearest integer lies outside the format
    zeroed: int  # whose nearest integer is 0
    threshold: int | None  # in units of the membrane, 1/64 of a weight's; None for a readout
    measured: Measured | None  # None without calibration images

    def to_json(self) -> dict[str, object]:
        """Return the account for a file."""
        found: dict[str, object] = {
            "name": self.name,
            "bits": self.bits,
            "scale": self.scale,
            "weights": self.weights,
            "saturated": self.saturated,
            "zeroed": self.zeroed,
            "threshold": self.threshold,
        }
        if self.measured is not None:
            error = "rate_error" if self.spikes else "logit_error"
            found |= {
                f"{error}_before": self.measured.before,
                error: self.measured.after,
                "bias_shifted": self.measured.shifted,
                "sensitivity": self.measured.sensitivity,
            }
        return found


@dataclass(frozen=True, kw_only=True)
class Account:
    """All populations in the order of the program."""

    layers: tuple[LayerAccount, ...]
    images: int  # of the calibration; 0 without one

    @property
    def worst(self) -> str | None:
        """The population whose integers alone move the logits most; None if not measured."""
        found = {e.name: e.measured.sensitivity for e in self.layers if e.measured is not None}
        return max(found, key=lambda name: found[name]) if found else None

    def to_json(self) -> dict[str, object]:
        """Return the account for a file."""
        return {
            "images": self.images,
            "worst": self.worst,
            "layers": [layer.to_json() for layer in self.layers],
        }

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """Return columns and rows of a table for people."""
        columns = ["layer", "bits", "scale", "weights", "saturated", "to zero", "threshold"]
        rows = [_row(layer) for layer in self.layers]
        if any(layer.measured is not None for layer in self.layers):
            columns += ["error, no search", "error", "bias", "alone"]
        return columns, rows


def account_of(program: Program) -> Account | None:
    """Return the account that a program carries, or None where it carries none.

    Raises:
        InvalidFile: it is damaged.
    """
    found = program.provenance.get(KEY)
    if found is None:
        return None
    try:
        if not isinstance(found, Mapping):
            raise TypeError(f"{type(found).__name__} instead of a table")
        return _read(found)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFile(
            f"the account of quantization in the program is damaged ({error}); compile again"
        ) from error


def _read(found: Mapping[str, Any]) -> Account:
    return Account(
        layers=tuple(_read_layer(each) for each in found["layers"]), images=int(found["images"])
    )


def _read_layer(found: Mapping[str, Any]) -> LayerAccount:
    spikes = found["threshold"] is not None
    error = "rate_error" if spikes else "logit_error"
    return LayerAccount(
        name=str(found["name"]),
        spikes=spikes,
        bits=int(found["bits"]),
        scale=float(found["scale"]),
        weights=int(found["weights"]),
        saturated=int(found["saturated"]),
        zeroed=int(found["zeroed"]),
        threshold=int(found["threshold"]) if spikes else None,
        measured=Measured(
            before=float(found[f"{error}_before"]),
            after=float(found[error]),
            shifted=bool(found["bias_shifted"]),
            sensitivity=float(found["sensitivity"]),
        )
        if error in found
        else None,
    )


def account(
    prepared: Graph,
    numbers: Numbers,
    program: Program,
    *,
    bits: Bits | None,
    measured: dict[str, Measured] | None = None,
    images: int = 0,
) -> Account:
    """Compare a prepared graph with the program that `quantize` made of it."""
    found = populations(prepared, image_coding(prepared, program.input.levels))
    return Account(
        layers=tuple(
            _layer(population, integers, numbers, bits, prepared.steps, measured or {})
            for population, integers in zip(found, program.populations, strict=True)
        ),
        images=images,
    )


def _layer(
    population: FloatPopulation,
    integers: Layer | Accumulator,
    numbers: Numbers,
    bits: Bits | None,
    steps: int,
    measured: dict[str, Measured],
) -> LayerAccount:
    asked = None if bits is None else bits.of(population.name)
    most = formats(population, numbers, bits=asked, steps=steps).weight_max
    saturated = sum(
        int((np.abs(np.rint(stored(bundle.weight) * integers.scale)) > most).sum())
        for bundle in population.bundles
    )
    weights = sum(nonzeros(bundle.weight) for bundle in population.bundles)
    kept = sum(int(np.count_nonzero(unpack(bundle.weight))) for bundle in integers.synapses)
    return LayerAccount(
        name=population.name,
        spikes=population.fire is not None,
        bits=width(most),
        scale=integers.scale,
        weights=weights,
        saturated=saturated,
        zeroed=weights - kept,
        threshold=integers.threshold if isinstance(integers, Layer) else None,
        measured=measured.get(population.name),
    )


def _row(layer: LayerAccount) -> list[object]:
    row: list[object] = [
        layer.name,
        layer.bits,
        f"{layer.scale:.4g}",
        layer.weights,
        layer.saturated,
        layer.zeroed,
        "" if layer.threshold is None else str(layer.threshold),
    ]
    if layer.measured is not None:
        unit = "" if layer.spikes else " of logits"
        row += [
            f"{layer.measured.before:.4f}{unit}",
            f"{layer.measured.after:.4f}{unit}",
            "shifted" if layer.measured.shifted else "",
            f"{layer.measured.sensitivity:.4f}",
        ]
    return row
