"""The four networks a report compares. Each keeps its name, colour and mark in every picture."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.report.svg import Mark


@dataclass(frozen=True, kw_only=True)
class Series:
    """One network as readers meet it; `key` names it in metrics.json and in the stylesheet."""

    key: str
    name: str
    short: str  # where space is scarce
    meaning: str
    mark: Mark


TWIN = Series(
    key="twin",
    name="normally trained twin",
    short="twin",
    meaning="an SNN of the same size, trained without adversarial examples, deployed as integers",
    mark=Mark.SQUARE,
)
ANN = Series(
    key="ann",
    name="ANN",
    short="ANN",
    meaning="the adversarially trained network with ReLU and float weights, where the chain starts",
    mark=Mark.CIRCLE,
)
SNN = Series(
    key="snn",
    name="SNN, float",
    short="SNN",
    meaning="the sparse spiking network with float weights, as trained in PyTorch",
    mark=Mark.CIRCLE,
)
DEPLOYED = Series(
    key="deployed",
    name="SNN, deployed integers",
    short="integers",
    meaning="the compiled program of integers, bit for bit what the target runs",
    mark=Mark.DIAMOND,
)
SERIES = (TWIN, ANN, SNN, DEPLOYED)  # in drawing order: what matters most lies on top
