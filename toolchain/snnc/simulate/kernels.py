"""The inner loops of the fast simulator, compiled by numba.

The last axis ("lanes": steps times samples) is contiguous; each weight that is not zero
adds one vector to another, so the compiler turns the innermost loops into vector code.

A kernel does the jobs `first` to `last` and holds no lock of Python meanwhile, so ordinary
threads share the work. (numba's own threads would come from a second OpenMP next to
torch's: the two change each other's number of threads, and wait for work by spinning.)
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.signedinteger]


@numba.njit(nogil=True, cache=True)
def convolve(
    first: int,  # a job is one row of one output map
    last: int,
    currents: Numbers,  # (out, rows, columns, lanes), added to
    source: Numbers,  # (channels, height, width, lanes)
    weight: Numbers,  # (stored,)
    taps: Numbers,  # (stored, 3): source channel, row and column in the kernel
    indptr: Numbers,  # (out + 1,)
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    """Add the currents of a sparse convolution."""
    rows, columns, lanes = currents.shape[1:]
    height, width = source.shape[1], source.shape[2]
    for job in range(first, last):
        o, row = job // rows, job % rows
        for k in range(indptr[o], indptr[o + 1]):
            y = row * stride[0] - padding[0] + taps[k, 1]
            if y < 0 or y >= height:
                continue
            w = weight[k]
            for column in range(columns):
                x = column * stride[1] - padding[1] + taps[k, 2]
                if x < 0 or x >= width:
                    continue
                target = currents[o, row, column]
                values = source[taps[k, 0], y, x]
                for lane in range(lanes):
                    target[lane] += w * values[lane]


@numba.njit(nogil=True, cache=True)
def fire(
    first: int,  # a job is one neuron
    last: int,
    spikes: npt.NDArray[np.int8],  # (neurons, steps, samples), written
    currents: Numbers,  # (neurons, steps, samples)
    constant: npt.NDArray[np.int64],  # (neurons, samples): bias and image, the same every step
    kept: int,  # 4096 - decay
    threshold: int,
    subtract: bool,
    constants: tuple[int, int, int],  # ALIGN, DECAY_BITS, V_MAX of semantics.neuron
) -> None:
    """Advance every neuron over all steps, as `semantics.neuron.step` says."""
    steps, samples = spikes.shape[1:]
    align, decay_bits, v_max = constants
    leaks = kept != 1 << decay_bits
    for i in range(first, last):
        v = np.zeros(samples, dtype=np.int64)
        for t in range(steps):
            for n in range(samples):
                u = v[n]
                if leaks:
                    u = (u * kept) >> decay_bits if u >= 0 else -((-u * kept) >> decay_bits)
                u += (np.int64(currents[i, t, n]) + constant[i, n]) << align
                u = min(max(u, -v_max), v_max)
                fired = u >= threshold
                spikes[i, t, n] = fired
                v[n] = (u - threshold if subtract else 0) if fired else u


@numba.njit(nogil=True, cache=True)
def weigh(
    first: int,  # a job is one part
    last: int,
    fan_out: npt.NDArray[np.int64],  # (neurons,)
    emitted: Numbers,  # (neurons, lanes)
    events: npt.NDArray[np.int64],  # (parts, lanes): partial sums, added to
) -> None:
    """Add up the fan-out of the neurons that emitted something, in `parts` separate sums."""
    neurons, lanes = emitted.shape
    parts = events.shape[0]
    for part in range(first, last):
        for i in range(part, neurons, parts):
            for lane in range(lanes):
                events[part, lane] += fan_out[i] * (emitted[i, lane] != 0)
