"""How active a network is, beside what the literature says about where spikes pay off."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.energy.count import Counts


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A number from the literature, and how well it was checked."""

    value: float
    meaning: str
    source: str
    verified: bool  # whether the number was read in the source itself


SPIKES_PER_NEURON = Claim(
    value=1.72,
    meaning="mean spikes per neuron and inference above which a rate-coded network costs more "
    "than the ordinary network on the same digital technology",
    source="Davidson and Furber 2021, Front. Neurosci. 15:651141; recalled, not read",
    verified=False,
)
RATE_AT_5_STEPS = Claim(
    value=0.057,
    meaning="spikes per neuron and step below which a network of 5 steps costs less than "
    "the quantized network of equal precision",
    source="Yan, Bai, Tang and Wong, arXiv 2409.08290 v4, abstract as quoted by others",
    verified=False,
)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Activity of one inference."""

    spikes_per_neuron: float
    rate: float  # spikes per neuron and step
    qnn_bits: int  # of the quantized network with as many levels as spike counts


def break_even(counts: Counts) -> BreakEven:
    """Return the activity of a run; the accumulator, which never spikes, is left out.

    A neuron that spikes 0 to T times in T steps has T + 1 levels, as an activation of
    ceil(log2(T + 1)) bits has (Yan et al., arXiv 2409.08290).
    """
    spiking = [each for each in counts.populations if each.spiking]
    neurons = sum(each.neurons for each in spiking)
    spikes = sum(each.spikes.mean for each in spiking)
    per_neuron = spikes / neurons if neurons else 0.0
    return BreakEven(
        spikes_per_neuron=per_neuron,
        rate=per_neuron / counts.steps,
        qnn_bits=levels_bits(counts.steps),
    )


def levels_bits(steps: int) -> int:
    """Return ceil(log2(steps + 1)), exactly.

    >>> [levels_bits(steps) for steps in (1, 3, 4, 7, 8)]
    [1, 2, 3, 3, 4]
    """
    return steps.bit_length()
