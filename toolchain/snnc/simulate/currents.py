"""Synaptic currents of whole batches in numpy, exact.

Products are summed in float64 by BLAS: every partial sum is an integer below 2**53, which
`snnc.ir.check_program` made sure of, hence exact in any order of summation.
"""

from __future__ import annotations

from math import prod

import numpy as np

from snnc.errors import unreachable
from snnc.ir.geometry import convolved
from snnc.ir.program import Convolution, FullyConnected, Synapses
from snnc.ir.weights import FloatArray, IntArray, Shape, unpack
from snnc.simulate.trace import Counts, Spikes


def currents(synapses: Synapses, source: Shape, values: IntArray | Counts | Spikes) -> Counts:
    """Return the currents (batch, *target) that values (batch, *source) cause."""
    weight = unpack(synapses.weight).astype(np.float64)
    rows = weight.reshape(len(weight), -1)
    match synapses.kind:
        case FullyConnected():
            flat = values.reshape(len(values), -1).astype(np.float64)
            products: FloatArray = flat @ rows.T
            return products.astype(np.int64)
        case Convolution() as kind:
            return _convolve(weight, kind, source, values.astype(np.float64)).astype(np.int64)
        case _:
            unreachable(synapses.kind)


def _convolve(weight: FloatArray, kind: Convolution, source: Shape, x: FloatArray) -> FloatArray:
    return convolve(x.reshape(-1, *source), weight, kind.stride, kind.padding, kind.groups)


def convolve(
    x: FloatArray, weight: FloatArray, stride: Shape, padding: Shape, groups: int
) -> FloatArray:
    """Return the cross-correlation (batch, out, H, W) of x (batch, C, H, W), zero padded."""
    (pad_y, pad_x), (step_y, step_x) = padding, stride
    out, rows, columns = convolved(x.shape[1:], weight.shape, stride, padding)
    padded = np.pad(x, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    view = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    view = view[:, :, ::step_y, ::step_x]  # (batch, C, H, W, kh, kw)
    result = np.empty((len(x), out, rows, columns))
    inputs, outputs = weight.shape[1], out // groups
    for g in range(groups):
        taps = view[:, g * inputs : (g + 1) * inputs].transpose(0, 2, 3, 1, 4, 5)
        matrix = taps.reshape(len(x) * rows * columns, prod(weight.shape[1:]))
        product = matrix @ weight[g * outputs : (g + 1) * outputs].reshape(outputs, -1).T
        result[:, g * outputs : (g + 1) * outputs] = product.reshape(
            len(x), rows, columns, outputs
        ).transpose(0, 3, 1, 2)
    return result
