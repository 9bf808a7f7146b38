"""The account of a quantization: what became of each layer, for people and for tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.errors import InvalidFile, unreachable
from snnc.ir.graph import Graph
from snnc.ir.program import Accumulator, Layer, Program, Synapses
from snnc.ir.weights import nonzeros, stored, unpack
from snnc.passes.image import image_coding
from snnc.passes.numbers import Bits, Numbers, width
from snnc.passes.populations import FloatPopulation, populations
from snnc.passes.scale import Limit, formats, largest_scale, limit_of, units

KEY = "quantization"  # of the account in the provenance of a program
UNUSED = 2  # bits of a format that no weight needs, from which on this is told


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How one population behaves on the calibration images.

    Errors are rate errors (spikes / neuron / step) of a layer; of a readout that does not
    spike, logit errors (see `trial.Trial.errors`).
    """

    before: float | None  # without a search; None if the network has no integers then
    after: float
    shifted: bool  # the search moved its bias
    sensitivity: float  # see `sensitivity`


@dataclass(frozen=True, kw_only=True)
class LayerAccount:
    """One population and its integers."""

    name: str
    spikes: bool
    bits: int  # of the format, sign included
    used: int | None  # bits that its largest integer needs; None where an older file has none
    limit: Limit | None  # of its scale; None where a scale was chosen far below every limit
    scale: float
    weights: int  # that are not zero as floats
    saturated: int  # whose nearest integer lies outside the format
    zeroed: int  # whose nearest integer is 0
    threshold: int | None  # in units of the membrane, 1/64 of a weight's; None for a readout
    measured: Measured | None  # None without calibration images

    @property
    def remark(self) -> str | None:
        """What keeps the weights from using their format, and the way out; None if they use it."""
        if self.used is None or self.used > self.bits - UNUSED:
            return None
        why, remedy = _explained(self.limit, calibrated=self.measured is not None)
        return f"{self.name}: weights use {self.used} of {self.bits} bits, because {why}; {remedy}"

    def to_json(self) -> dict[str, object]:
        """Return the account for a file."""
        found: dict[str, object] = {
            "name": self.name,
            "bits": self.bits,
            "bits_used": self.used,
            "limited_by": None if self.limit is None else self.limit.value,
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

    @property
    def remarks(self) -> tuple[str, ...]:
        """One sentence for each population whose weights leave bits of their format unused."""
        return tuple(each.remark for each in self.layers if each.remark is not None)

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
        used=int(found["bits_used"]) if "bits_used" in found else None,
        limit=None if found.get("limited_by") is None else Limit(found["limited_by"]),
        scale=float(found["scale"]),
        weights=int(found["weights"]),
        saturated=int(found["saturated"]),
        zeroed=int(found["zeroed"]),
        threshold=int(found["threshold"]) if spikes else None,
        measured=Measured(
            before=None if found[f"{error}_before"] is None else float(found[f"{error}_before"]),
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
    limits = formats(population, numbers, bits=asked, steps=steps)
    most, scale = limits.weight_max, integers.scale
    shared = units(integers)
    saturated = sum(
        int((np.abs(np.rint(stored(bundle.weight) * (scale / unit))) > most).sum())
        for bundle, unit in zip(population.bundles, shared, strict=True)
    )
    used = max(
        _largest(bundle) // unit for bundle, unit in zip(integers.synapses, shared, strict=True)
    )
    weights = sum(nonzeros(bundle.weight) for bundle in population.bundles)
    kept = sum(int(np.count_nonzero(unpack(bundle.weight))) for bundle in integers.synapses)
    return LayerAccount(
        name=population.name,
        spikes=population.fire is not None,
        bits=width(most),
        used=width(used),
        limit=limit_of(population, limits)
        if 2 * scale > largest_scale(population, limits)
        else None,
        scale=scale,
        weights=weights,
        saturated=saturated,
        zeroed=weights - kept,
        threshold=integers.threshold if isinstance(integers, Layer) else None,
        measured=measured.get(population.name),
    )


def _largest(synapses: Synapses) -> int:
    return int(np.abs(stored(synapses.weight)).max(initial=0))


def _explained(limit: Limit | None, *, calibrated: bool) -> tuple[str, str]:
    """Return why weights leave bits unused where that limits their scale, and the way out."""
    match limit:
        case Limit.IMAGE_CURRENT:
            remedy = "use fewer --levels, or -O image=graded where the target offers it"
            return (
                "the current that an image can add limits the scale",
                remedy if calibrated else f"{remedy}; --calibrate may make up for a part",
            )
        case Limit.CURRENT:
            return "the sum of all weights limits the scale", "prune it, or use fewer steps"
        case Limit.BIAS:
            return "the bias limits the scale", "retrain with smaller biases"
        case Limit.THRESHOLD:
            return "the threshold limits the scale", "retrain with a smaller threshold"
        case Limit.WEIGHTS | None:
            return (
                "a smaller scale than their format allows was chosen",
                "fewer --bits are enough here",
            )
        case _:
            unreachable(limit)


def _row(layer: LayerAccount) -> list[object]:
    row: list[object] = [
        layer.name,
        layer.bits if layer.remark is None else f"{layer.used} of {layer.bits}",
        f"{layer.scale:.4g}",
        layer.weights,
        layer.saturated,
        layer.zeroed,
        "" if layer.threshold is None else str(layer.threshold),
    ]
    if layer.measured is not None:
        unit = "" if layer.spikes else " of logits"
        row += [
            "none" if layer.measured.before is None else f"{layer.measured.before:.4f}{unit}",
            f"{layer.measured.after:.4f}{unit}",
            "shifted" if layer.measured.shifted else "",
            f"{layer.measured.sensitivity:.4f}",
        ]
    return row
