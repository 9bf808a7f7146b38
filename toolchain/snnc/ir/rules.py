"""Rules that the two forms share: what weights and the shapes that they give must keep."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import Issue
from snnc.ir.geometry import convolved
from snnc.ir.weights import Csr, Shape, Weight, stored


class Broken(Exception):
    """A rule is broken at one node: (problem, remedy, code)."""


def finite_issues(name: str, **values: npt.ArrayLike) -> Iterator[Issue]:
    """Yield an issue for each value that holds NaN or infinity."""
    for field, value in values.items():
        if not np.isfinite(value).all():
            yield Issue(name, f"{field} holds NaN or infinity", "retrain or repair it", "finite")


def weight_issues(name: str, weight: Weight[Any]) -> Iterator[Issue]:
    """Yield what is wrong with the values or the sparse pattern of a weight."""
    if np.issubdtype(stored(weight).dtype, np.floating):
        yield from finite_issues(name, weight=stored(weight))
    if isinstance(weight, Csr) and (problem := _csr_problem(weight)):
        yield Issue(name, f"its sparse weight {problem}", "write the file again", "sparse")


def _csr_problem(weight: Csr[Any]) -> str | None:
    columns = prod(weight.shape[1:])
    if weight.indptr.shape != (weight.shape[0] + 1,) or len(weight.data) != len(weight.indices):
        return "has arrays of the wrong length"
    if weight.indptr[0] != 0 or weight.indptr[-1] != len(weight.data):
        return "has row pointers that do not cover the data"
    if (np.diff(weight.indptr) < 0).any():
        return "has descending row pointers"
    if len(weight.indices) and not 0 <= weight.indices.min() <= weight.indices.max() < columns:
        return f"points outside its {columns} columns"
    ascending = np.diff(weight.indices) > 0
    ends = weight.indptr[1:-1]
    ascending[ends[(ends > 0) & (ends < len(weight.indices))] - 1] = True  # a new row starts
    return None if ascending.all() else "repeats a column or is not sorted"


def convolved_shape(
    weight: Weight[Any], stride: Shape, padding: Shape, groups: int, bias: Shape, source: Shape
) -> Shape:
    """Return the output shape of a convolution, or raise `Broken` where it does not fit."""
    if len(weight.shape) != 4 or len(source) != 3:
        raise Broken(
            f"convolves {source} with a weight of shape {weight.shape}",
            "use (C, H, W) maps and (out, in / groups, kh, kw) weights",
            "shape",
        )
    if groups < 1 or weight.shape[0] % groups or weight.shape[1] * groups != source[0]:
        raise Broken(
            f"weight {weight.shape} with groups={groups} does not fit {source[0]} channels",
            "match the channels",
            "shape",
        )
    if bias != (weight.shape[0],):
        raise Broken(f"bias has shape {bias}", f"give {weight.shape[0]} values", "shape")
    if min(stride) < 1 or min(padding) < 0:
        raise Broken(f"stride {stride}, padding {padding}", "use stride >= 1", "shape")
    return convolved(source, weight.shape, stride, padding)


def multiplied_shape(weight: Weight[Any], bias: Shape, source: Shape) -> Shape:
    """Return the output shape of a matrix, or raise `Broken` where it does not fit."""
    if len(weight.shape) != 2 or len(source) != 1 or weight.shape[1] != source[0]:
        raise Broken(
            f"weight {weight.shape} does not fit an input of shape {source}",
            "flatten maps first and match the sizes",
            "shape",
        )
    if bias != (weight.shape[0],):
        raise Broken(f"bias has shape {bias}", f"give {weight.shape[0]} values", "shape")
    return (weight.shape[0],)
