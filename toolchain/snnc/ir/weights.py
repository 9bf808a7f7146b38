"""Weights, dense or sparse, of floats or of integers.

A sparse weight is CSR over the flattened (out, in * kh * kw) matrix: its pattern is
explicit, survives every pass, and a zero weight costs nothing. Arrays are read-only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable

Shape = tuple[int, ...]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
S = TypeVar("S", bound=np.generic)
R = TypeVar("R", bound=np.generic)

SPARSE_BELOW = 0.5  # density under which `pack` stores CSR: 4-byte indices pay off there


@dataclass(frozen=True, eq=False)
class Dense(Generic[S]):
    """Every weight is stored."""

    values: npt.NDArray[S]  # (out, in) or (out, in / groups, kh, kw)

    @property
    def shape(self) -> Shape:
        """The shape of the array the weight stands for."""
        return self.values.shape


@dataclass(frozen=True, eq=False)
class Csr(Generic[S]):
    """Only the weights of the pattern are stored, row by row, columns ascending."""

    shape: Shape  # of the dense array
    data: npt.NDArray[S]  # (stored,)
    indices: IntArray  # (stored,) column in the flattened row
    indptr: npt.NDArray[np.int64]  # (out + 1,)


Weight = Dense[S] | Csr[S]
FloatWeight = Dense[np.float64] | Csr[np.float64]
IntWeight = Dense[np.int32] | Csr[np.int32]


def freeze(values: npt.ArrayLike, dtype: type[S]) -> npt.NDArray[S]:
    """Copy to `dtype` and make read-only."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def floats(values: npt.ArrayLike) -> FloatArray:
    """Copy to float64 and make read-only."""
    return freeze(values, np.float64)


def integers(values: npt.ArrayLike) -> IntArray:
    """Copy to int32 and make read-only; the caller has checked the range."""
    return freeze(values, np.int32)


def pack(values: npt.NDArray[S]) -> Weight[S]:
    """Store an array as CSR when fewer than `SPARSE_BELOW` of its entries are non-zero."""
    if np.count_nonzero(values) < SPARSE_BELOW * values.size:
        return sparse(values)
    return Dense(freeze(values, values.dtype.type))


def sparse(values: npt.NDArray[S]) -> Csr[S]:
    """Store the non-zero entries of an array as CSR."""
    rows = values.reshape(values.shape[0], -1)
    row, column = np.nonzero(rows)
    indptr = np.zeros(values.shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=values.shape[0]), out=indptr[1:])
    return Csr(
        shape=values.shape,
        data=freeze(rows[row, column], values.dtype.type),
        indices=integers(column),
        indptr=freeze(indptr, np.int64),
    )


def unpack(weight: Weight[S]) -> npt.NDArray[S]:
    """Return the dense array; weights outside the pattern are zero."""
    match weight:
        case Dense(values=values):
            return values
        case Csr(shape=shape, data=data):
            dense = np.zeros((shape[0], prod(shape[1:])), dtype=data.dtype)
            dense[row_of_each(weight), weight.indices] = data
            return dense.reshape(shape)
        case _:
            unreachable(weight)


def row_of_each(weight: Csr[Any]) -> npt.NDArray[np.int64]:
    """Return the row (output) of each stored weight: (stored,)."""
    return np.repeat(np.arange(weight.shape[0]), np.diff(weight.indptr))


def stored(weight: Weight[S]) -> npt.NDArray[S]:
    """Return the stored values, in row order, as a flat array."""
    match weight:
        case Dense(values=values):
            return values.reshape(-1)
        case Csr(data=data):
            return data
        case _:
            unreachable(weight)


def row_magnitudes(weight: Weight[Any]) -> FloatArray:
    """Return the sum of the magnitudes of each output's weights: (out,), exact below 2**53.

    >>> row_magnitudes(sparse(np.array([[0, -3, 2], [0, 0, 0]]))).tolist()
    [5.0, 0.0]
    """
    sizes = np.abs(stored(weight).astype(np.float64))
    match weight:
        case Dense(shape=shape):
            return floats(sizes.reshape(shape[0], -1).sum(axis=1))
        case Csr(shape=shape):
            return floats(np.bincount(row_of_each(weight), weights=sizes, minlength=shape[0]))
        case _:
            unreachable(weight)


def common_exponent(weight: IntWeight) -> int:
    """Return the largest e at which all weights are multiples of 2**e; 0 if all are zero.

    >>> common_exponent(Dense(integers([[12, -8, 0]])))
    2
    """
    bits = int(np.bitwise_or.reduce(stored(weight), initial=0))
    return (bits & -bits).bit_length() - 1 if bits else 0


def nonzeros(weight: Weight[Any]) -> int:
    """Return how many weights are not zero."""
    return int(np.count_nonzero(stored(weight)))


def density(weight: Weight[Any]) -> float:
    """Return the share of weights that are not zero; 0 for an empty array."""
    size = prod(weight.shape)
    return nonzeros(weight) / size if size else 0.0


def convert(
    weight: Weight[S], function: Callable[[npt.NDArray[S]], npt.NDArray[R]], dtype: type[R]
) -> Weight[R]:
    """Apply an elementwise function with f(0) = 0 to the stored values; keep the pattern."""
    match weight:
        case Dense(values=values):
            return Dense(freeze(function(values), dtype))
        case Csr(data=data):
            return Csr(
                shape=weight.shape,
                data=freeze(function(data), dtype),
                indices=weight.indices,
                indptr=weight.indptr,
            )
        case _:
            unreachable(weight)


def scale_rows(weight: FloatWeight, factor: FloatArray) -> FloatWeight:
    """Multiply row (output) i of a weight by factor[i]; keep the pattern."""
    match weight:
        case Dense(values=values):
            return Dense(floats(values * factor.reshape(-1, *[1] * (values.ndim - 1))))
        case Csr(data=data):
            return replace(weight, data=floats(data * factor[row_of_each(weight)]))
        case _:
            unreachable(weight)


def drop_zeros(weight: Weight[S]) -> Weight[S]:
    """Remove stored zeros from a sparse pattern; a dense weight is returned as it is."""
    if isinstance(weight, Dense) or weight.data.all():
        return weight
    keep = weight.data != 0
    indptr = np.concatenate([[0], np.cumsum(keep)])[weight.indptr]
    return Csr(
        shape=weight.shape,
        data=freeze(weight.data[keep], weight.data.dtype.type),
        indices=integers(weight.indices[keep]),
        indptr=freeze(indptr, np.int64),
    )


def scale_columns(weight: FloatWeight, factor: FloatArray) -> FloatWeight:
    """Multiply weights by their own factors (out, flattened in); keep the pattern."""
    match weight:
        case Dense(values=values):
            return Dense(floats(values * factor.reshape(weight.shape)))
        case Csr(data=data):
            return replace(weight, data=floats(data * factor[row_of_each(weight), weight.indices]))
        case _:
            unreachable(weight)
