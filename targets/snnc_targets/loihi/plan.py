"""What each part of a program becomes on Lava, and when its data arrives there.

A Lava synapse takes one time step, a neuron none. So the first sample reaches a layer at
Lava's step

    lag = 1                                        for a layer that reads only the image
    lag = max over its spiking sources (lag + 1)   for every other

counted from 1; a layer whose image comes as a bias or as graded spikes has a lag of 2 at least.
Sources that arrive earlier are delayed by lag - 1 - lag(source) steps, and what the image adds
starts at the lag. With membranes and currents reset at every T-th step from the lag on, samples
that stream through one after the other behave as if each ran alone. A delay line is not reset:
what is on its way at the end of a sample would reach the next one. Steps waited for another
branch never cross that border, for the sources' own samples begin as much earlier; a delay of
the synapses themselves does, so InTime lets no spike through that would.

    ours (program)               Lava                          because
    synapses from the image      ImageSource                   the host computes W @ codes + bias
      ... as bias                StateDataloader, bias_mant    it writes the same before a sample
      ... as graded spikes       ImageSource, then as below    codes are the payload of spikes
    Convolution                  Conv, kernel backwards        maps are (W, H, C)
      ... of few weights         Sparse                        see `unrolled`
    FullyConnected, dense        Dense, 2 w, weight_exp -1     weights of mixed sign lose their
    FullyConnected, CSR          Sparse, 2 w, weight_exp -1      lowest bit
      ... multiples of 2**e      weight_exp e - 1              see `mantissas`
    synapses that must wait      DelaySparse                   Conv has no delays
      ... with delays            InTime (ours), DelaySparse    a sample's spikes end with it
    v >= 64 n + 1                v > vth << 6, vth = n         both sides are integers
    current decay                du = current_decay - 1        Lava adds the 1
    reset ZERO                   LIFReset
    reset SUBTRACT               SoftLIF (ours)                Lava's neurons reset to zero only
    Accumulator                  Readout (ours)                it adds up and never spikes
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from snnc.errors import unreachable
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Csr, Dense, IntWeight

from snnc_targets.loihi.lowering import Image, Lowering
from snnc_targets.loihi.mantissas import WEIGHT_MAX, largest_weight, mantissas, weight_exponent
from snnc_targets.loihi.unrolled import Unrolling, unrolling


class Form(Enum):
    """The process that carries a bundle of synapses."""

    HOST = "ImageSource"
    BIAS = "StateDataloader"
    CONV = "Conv"
    DENSE = "Dense"
    SPARSE = "Sparse"
    DELAYED = "DelaySparse"


ON_HOST = (Form.HOST, Form.BIAS)  # the host multiplies, Lava sees the products only


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """One bundle of synapses and its place in the generated program."""

    synapses: Synapses
    variable: str  # its name in network.py and weights.npz
    form: Form
    delay: int  # steps that spikes wait beyond the one that every synapse takes
    message_bits: int  # of a graded spike, its sign included; 0 for plain spikes
    unrolling: Unrolling | None  # of a convolution that Lava carries

    @property
    def is_matrix(self) -> bool:
        """Whether the process is a matrix between flattened populations."""
        return self.form not in (*ON_HOST, Form.CONV)

    @property
    def exponent(self) -> int:
        """The power of two by which its process multiplies `weight`."""
        return (weight_exponent(self.synapses) or 0) if self.is_matrix else 0

    @property
    def weight(self) -> IntWeight:
        """What its process holds of the weights."""
        return mantissas(self.synapses) if self.is_matrix else self.synapses.weight


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A population and its place in the generated program."""

    population: Layer | Accumulator
    variable: str
    lag: int  # Lava's step at which the first sample arrives
    bundles: tuple[Bundle, ...]

    @property
    def host_adds_bias(self) -> bool:
        """Whether the bias travels with what the host computes of the image.

        A current that outlasts its step would keep a bias, so there the neurons hold it.
        """
        on_host = any(bundle.form in ON_HOST for bundle in self.bundles)
        return on_host and not lasts(self.population)


def plan(program: Program, how: Lowering) -> tuple[Placed, ...]:
    """Place every population of a program, in order. Names follow from the program alone."""
    lags = lag_of_each(program, how.image)
    names = _Names()
    placed: list[Placed] = []
    for population in program.populations:
        bundles = []
        for synapses in population.synapses:
            variable = names.take(synapses.name, "synapses")
            bundles.append(_bundle(program, population, synapses, variable, how, lags))
        placed.append(
            Placed(
                population=population,
                variable=names.take(population.name, "neurons"),
                lag=lags[population.name],
                bundles=tuple(bundles),
            )
        )
    return tuple(placed)


def lag_of_each(program: Program, image: Image) -> dict[str, int]:
    """Map each population's name to the step at which its first data arrives."""
    lags: dict[str, int] = {}
    for population in program.populations:
        arrivals = [1]
        for synapses in population.synapses:
            if synapses.source != INPUT:
                arrivals.append(lags[synapses.source] + 1)
            elif image is Image.GRADED or image_form(population, image) is Form.BIAS:
                arrivals.append(2)
        lags[population.name] = max(arrivals)
    return lags


def wait(synapses: Synapses, population: str, lags: Mapping[str, int]) -> int:
    """Return how many steps spikes must wait: for other branches, and by their own delay."""
    if synapses.source == INPUT:
        return 0  # its source starts when its readers do
    return lags[population] - 1 - lags[synapses.source] + synapses.delay


def image_form(population: Layer | Accumulator, image: Image) -> Form | None:
    """Return what carries a bundle from the image; None where synapses do.

    An accumulator is the host's, so the host adds to it what only neurons hold as a bias.
    """
    match image, population:
        case Image.GRADED, _:
            return None
        case Image.BIAS, Layer():
            return Form.BIAS
        case _:
            return Form.HOST


def lasts(population: Layer | Accumulator) -> bool:
    """Return whether a current outlives the step in which it arrives."""
    return isinstance(population, Layer) and population.current_decay < FORGET


def message_bits(image: ImageInput) -> int:
    """Return the bits of a graded spike that holds a pixel's code, its sign included."""
    return image.peak.bit_length() + 1


def _bundle(
    program: Program,
    population: Layer | Accumulator,
    synapses: Synapses,
    variable: str,
    how: Lowering,
    lags: Mapping[str, int],
) -> Bundle:
    delay = wait(synapses, population.name, lags)
    from_image = synapses.source == INPUT
    form = image_form(population, how.image) if from_image else None
    unrolled: Unrolling | None = None
    if form is None and isinstance(synapses.kind, Convolution):
        source = program.shape_of(synapses.source)
        unrolled = unrolling(
            synapses,
            source,
            population.shape,
            how.convolutions,
            needed=_matrix_needed(synapses, delay),
        )
    return Bundle(
        synapses=synapses,
        variable=variable,
        form=form or _form(synapses, delay, unrolled),
        delay=delay,
        message_bits=message_bits(program.input) if from_image and form is None else 0,
        unrolling=unrolled,
    )


def _matrix_needed(synapses: Synapses, delay: int) -> str | None:
    """Return why Lava's Conv cannot carry a convolution, None if it can."""
    if delay:
        return "its spikes wait, and Conv has no delays"
    if largest_weight(synapses) > WEIGHT_MAX:
        return "its weights are beyond 8 bits, and Conv has no weight exponent"
    return None


def _form(synapses: Synapses, delay: int, unrolled: Unrolling | None) -> Form:
    if delay:
        return Form.DELAYED
    match synapses.kind, synapses.weight:
        case Convolution(), _:
            return Form.SPARSE if unrolled and unrolled.unrolled else Form.CONV
        case FullyConnected(), Dense():
            return Form.DENSE
        case FullyConnected(), Csr():
            return Form.SPARSE
    unreachable(synapses.kind)


class _Names:
    """Python identifiers for the user's names, each given once."""

    # what network.py and host.py use already; "logits" and "status" are result files
    _RESERVED = frozenset(
        "T LAG HERE Path sys w run codes image build image_values main kernel convolve multiply "
        "unroll delays csr_matrix logits status ImageSource Samples StateDataloader Readout "
        "Recorder SoftLIF Conv Dense Sparse DelaySparse InTime LIFReset SignMode".split()
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


_PARTS = ("current", "bias", "image", "record", "matrix", "in_time")


def _family(variable: str) -> tuple[str, ...]:
    """Return every variable that network.py may derive from one name."""
    return variable, *(f"{variable}_{part}" for part in _PARTS)
