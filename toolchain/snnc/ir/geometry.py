"""Shapes of feature maps, shared by the two intermediate forms."""

from __future__ import annotations

from snnc.ir.weights import Shape


def windows(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Return how many windows fit along one dimension; less than 1 when none does.

    >>> windows(8, 3, 1, 1), windows(8, 2, 2), windows(7, 2, 2)
    (8, 4, 3)
    """
    return (size + 2 * padding - kernel) // stride + 1


def convolved(source: Shape, weight: Shape, stride: Shape, padding: Shape) -> Shape:
    """Return the output (out, H, W) of a convolution of (C, H, W) with (out, in, kh, kw)."""
    height, width = (
        windows(*sizes) for sizes in zip(source[1:], weight[2:], stride, padding, strict=True)
    )
    return (weight[0], height, width)


def pooled(source: Shape, kernel: Shape, stride: Shape) -> Shape:
    """Return the output (C, H, W) of pooling (C, H, W)."""
    height, width = (windows(*sizes) for sizes in zip(source[1:], kernel, stride, strict=True))
    return (source[0], height, width)
