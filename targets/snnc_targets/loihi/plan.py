"""What each part of a program becomes on Lava, and when its data arrives there.

A Lava synapse takes one time step, a neuron none. So the first sample reaches a layer at
Lava's step

    lag = 1                                        for a layer that reads only the image
    lag = max over its spiking sources (lag + 1)   for every other

counted from 1. Sources that arrive earlier are delayed by lag - 1 - lag(source) steps, and
what the image adds starts at the lag. With membranes reset at every T-th step from the lag
on, samples that stream through one after the other behave as if each ran alone.

    ours (program)               Lava                          because
    synapses from the image      CurrentSource                 the host computes W @ codes + bias
    Convolution                  Conv, kernel backwards        maps are (W, H, C)
    FullyConnected, dense        Dense, 2 w, weight_exp -1     weights of mixed sign lose their
    FullyConnected, CSR          Sparse, 2 w, weight_exp -1      lowest bit
    any synapses that must wait  DelaySparse                   Conv has no delays
    v >= 64 n + 1                v > vth << 6, vth = n         both sides are integers
    reset ZERO                   LIFReset
    reset SUBTRACT               SoftLIF (ours)                Lava's neurons reset to zero only
    Accumulator                  Readout (ours)                it adds up and never spikes
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from enum import Enum

from snnc.errors import unreachable
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Csr, Dense


class Form(Enum):
    """The process that carries a bundle of synapses."""

    HOST = "CurrentSource"
    CONV = "Conv"
    DENSE = "Dense"
    SPARSE = "Sparse"
    DELAYED = "DelaySparse"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """One bundle of synapses and its place in the generated program."""

    synapses: Synapses
    variable: str  # its name in network.py and weights.npz
    form: Form
    delay: int  # steps that spikes wait beyond the one that every synapse takes


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A population and its place in the generated program."""

    population: Layer | Accumulator
    variable: str
    lag: int  # Lava's step at which the first sample arrives
    bundles: tuple[Bundle, ...]

    @property
    def reads_image(self) -> bool:
        """Whether the host computes a part of its current; its bias then travels with it."""
        return any(bundle.form is Form.HOST for bundle in self.bundles)


def plan(program: Program) -> tuple[Placed, ...]:
    """Place every population of a program, in order."""
    lags = lag_of_each(program)
    names = _Names()
    placed: list[Placed] = []
    for population in program.populations:
        lag = lags[population.name]
        bundles = []
        for synapses in population.synapses:
            delay = 0 if synapses.source == INPUT else lag - 1 - lags[synapses.source]
            bundles.append(
                Bundle(
                    synapses=synapses,
                    variable=names.take(synapses.name, "synapses"),
                    form=_form(synapses, delay),
                    delay=delay,
                )
            )
        variable = names.take(population.name, "neurons")
        placed.append(
            Placed(population=population, variable=variable, lag=lag, bundles=tuple(bundles))
        )
    return tuple(placed)


def lag_of_each(program: Program) -> dict[str, int]:
    """Map each population's name to the step at which its first data arrives."""
    lags: dict[str, int] = {}
    for population in program.populations:
        arrivals = [lags[s.source] + 1 for s in population.synapses if s.source != INPUT]
        lags[population.name] = max(arrivals, default=1)
    return lags


def _form(synapses: Synapses, delay: int) -> Form:
    if synapses.source == INPUT:
        return Form.HOST
    if delay:
        return Form.DELAYED
    match synapses.kind, synapses.weight:
        case Convolution(), _:
            return Form.CONV
        case FullyConnected(), Dense():
            return Form.DENSE
        case FullyConnected(), Csr():
            return Form.SPARSE
    unreachable(synapses.kind)


class _Names:
    """Python identifiers for the user's names, each given once."""

    # what network.py and host.py use already; "logits" and "status" are result files
    _RESERVED = frozenset(
        "T LAG HERE Path sys w run codes build image_currents main kernel convolve multiply "
        "unroll delays csr_matrix logits status CurrentSource Readout Recorder SoftLIF Conv "
        "Dense Sparse DelaySparse LIFReset SignMode".split()
    )

    def __init__(self) -> None:
        self._taken = set(self._RESERVED)

    def take(self, name: str, role: str) -> str:
        """Return an identifier that resembles `name`; add the role, then a number, if taken."""
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not plain or not plain[0].isalpha() or keyword.iskeyword(plain):
            plain = f"{role}_{plain}"
        choices = [plain, f"{plain}_{role}"]
        choices += [f"{plain}_{role}_{n}" for n in range(2, len(self._taken) + 3)]
        free = next(c for c in choices if not self._taken & set(_family(c)))
        self._taken |= set(_family(free))
        return free


def _family(variable: str) -> tuple[str, ...]:
    """Return every variable that network.py may derive from one name."""
    return variable, *(f"{variable}_{part}" for part in ("current", "record", "matrix"))
