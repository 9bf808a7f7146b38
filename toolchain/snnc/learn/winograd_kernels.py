"""The transforms of Winograd's minimal filtering F(4x4, 3x3), compiled by numba.

    y = A^T [ (G g G^T) * (B^T d B) ] A        d 6x6 pixels, g 3x3 weights, y 4x4 pixels

with the interpolation points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, CVPR 2016,
arXiv 1509.09308, section 4.3). Images are flat arrays of (N, H, W, C): channels last. A
transformed batch is (36, P, C), P tiles of 4x4 pixels in the order of samples, rows, columns.

A kernel holds no lock of Python, so ordinary threads share the work (see
`snnc.simulate.kernels.blocks` for why numba's own threads do not). `LANES` channels go through
each formula at once. Indices within a formula are unsigned: a signed one could mean "from
the end" to numba, and that test would keep the compiler from using vectors.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LANES = 32  # channels of one vector; whoever calls has a multiple of them
TILE, POINTS = 4, 6  # pixels of a tile's edge; evaluation points for each axis
_N = np.uint64(LANES)
_1, _2, _4, _5, _8 = (np.float32(n) for n in (1, 2, 4, 5, 8))
_SIXTH, _12TH, _24TH = (np.float32(1 / n) for n in (6, 12, 24))


@numba.njit(nogil=True, cache=True)
def _copy(source: Floats, start: int, target: Floats, place: int) -> None:
    s, t = np.uint64(start), np.uint64(place)
    for c in range(_N):
        target[t + c] = source[s + c]


@numba.njit(nogil=True, cache=True)
def _clear(target: Floats, place: int) -> None:
    t = np.uint64(place)
    for c in range(_N):
        target[t + c] = 0


@numba.njit(nogil=True, cache=True)
def _evaluate(d: Floats, start: int, every: int, out: Floats, place: int, apart: int) -> None:
    """B^T d: six pixels of a row or column to six points."""
    s, t = np.uint64(start), np.uint64(place)
    a, b = np.uint64(every * LANES), np.uint64(apart * LANES)
    for c in range(_N):
        i, o = s + c, t + c
        d0, d1, d2 = d[i], d[i + a], d[i + a + a]
        d3, d4, d5 = d[i + a + a + a], d[i + a + a + a + a], d[i + a + a + a + a + a]
        even, odd = d4 - _4 * d2, d3 - _4 * d1
        near, far = d4 - d2, _2 * (d3 - d1)
        out[o] = _4 * d0 - _5 * d2 + d4
        out[o + b] = even + odd
        out[o + b + b] = even - odd
        out[o + b + b + b] = near + far
        out[o + b + b + b + b] = near - far
        out[o + b + b + b + b + b] = _4 * d1 - _5 * d3 + d5


@numba.njit(nogil=True, cache=True)
def _interpolate(m: Floats, start: int, every: int, out: Floats, place: int, apart: int) -> None:
    """A^T m: six points to four pixels."""
    s, t = np.uint64(start), np.uint64(place)
    a, b = np.uint64(every * LANES), np.uint64(apart * LANES)
    for c in range(_N):
        i, o = s + c, t + c
        m0, m1, m2 = m[i], m[i + a], m[i + a + a]
        m3, m4, m5 = m[i + a + a + a], m[i + a + a + a + a], m[i + a + a + a + a + a]
        even, odd, even2, odd2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        out[o] = m0 + even + even2
        out[o + b] = odd + _2 * odd2
        out[o + b + b] = even + _4 * even2
        out[o + b + b + b] = odd + _8 * odd2 + m5


@numba.njit(nogil=True, cache=True)
def _spread(y: Floats, start: int, every: int, out: Floats, place: int, apart: int) -> None:
    """A y: four pixels to six points; the transpose of `_interpolate`."""
    s, t = np.uint64(start), np.uint64(place)
    a, b = np.uint64(every * LANES), np.uint64(apart * LANES)
    for c in range(_N):
        i, o = s + c, t + c
        y0, y1, y2, y3 = y[i], y[i + a], y[i + a + a], y[i + a + a + a]
        even, odd, even2, odd2 = y0 + y2, y1 + y3, y0 + _4 * y2, _2 * y1 + _8 * y3
        out[o] = y0
        out[o + b] = even + odd
        out[o + b + b] = even - odd
        out[o + b + b + b] = even2 + odd2
        out[o + b + b + b + b] = even2 - odd2
        out[o + b + b + b + b + b] = y3


@numba.njit(nogil=True, cache=True)
def _weigh(g: Floats, start: int, every: int, out: Floats, place: int, apart: int) -> None:
    """G g: three weights to six points."""
    s, t = np.uint64(start), np.uint64(place)
    a, b = np.uint64(every * LANES), np.uint64(apart * LANES)
    for c in range(_N):
        i, o = s + c, t + c
        g0, g1, g2 = g[i], g[i + a], g[i + a + a]
        even, even2 = -_SIXTH * (g0 + g2), _24TH * g0 + _SIXTH * g2
        out[o] = (_1 / _4) * g0
        out[o + b] = even - _SIXTH * g1
        out[o + b + b] = even + _SIXTH * g1
        out[o + b + b + b] = even2 + _12TH * g1
        out[o + b + b + b + b] = even2 - _12TH * g1
        out[o + b + b + b + b + b] = g2


@numba.njit(nogil=True, cache=True)
def to_points(
    first: int,  # sample
    last: int,
    images: Floats,  # (N, H, W, C), flat
    shape: tuple[int, int, int],  # H, W, C
    points: Floats,  # (36, P, C), flat, written
) -> None:
    """B^T d B of every tile of some samples, which overlap by two pixels; zeros outside."""
    height, width, channels = shape
    down, across = (height + 3) // 4, (width + 3) // 4
    tiles = (last - first) * down * across
    a, b = np.empty(36 * LANES, np.float32), np.empty(36 * LANES, np.float32)
    for tile in range(tiles):
        n, place = first + tile // (down * across), tile % (down * across)
        top, left = place // across * 4 - 1, place % across * 4 - 1
        for channel in range(0, channels, LANES):
            for k in range(36):
                y, x = top + k // 6, left + k % 6
                if 0 <= y < height and 0 <= x < width:
                    _copy(images, ((n * height + y) * width + x) * channels + channel, a, k * LANES)
                else:
                    _clear(a, k * LANES)
            for k in range(6):
                _evaluate(a, k * LANES, 6, b, k * LANES, 6)
            for k in range(6):
                _evaluate(b, k * 6 * LANES, 1, a, k * 6 * LANES, 1)
            for k in range(36):
                _copy(a, k * LANES, points, (k * tiles + tile) * channels + channel)


@numba.njit(nogil=True, cache=True)
def from_points(
    first: int,  # sample
    last: int,
    points: Floats,  # (36, P, C), flat
    shape: tuple[int, int, int],  # H, W, C
    images: Floats,  # (N, H, W, C), flat, written
) -> None:
    """A^T m A of every tile of some samples."""
    height, width, channels = shape
    down, across = (height + 3) // 4, (width + 3) // 4
    tiles = (last - first) * down * across
    a, b = np.empty(36 * LANES, np.float32), np.empty(36 * LANES, np.float32)
    for tile in range(tiles):
        n, place = first + tile // (down * across), tile % (down * across)
        top, left = place // across * 4, place % across * 4
        for channel in range(0, channels, LANES):
            for k in range(36):
                _copy(points, (k * tiles + tile) * channels + channel, a, k * LANES)
            for k in range(6):
                _interpolate(a, k * LANES, 6, b, k * LANES, 6)
            for k in range(4):
                _interpolate(b, k * 6 * LANES, 1, a, k * 4 * LANES, 1)
            for k in range(16):
                y, x = top + k // 4, left + k % 4
                if y < height and x < width:
                    _copy(a, k * LANES, images, ((n * height + y) * width + x) * channels + channel)


@numba.njit(nogil=True, cache=True)
def gradient_to_points(
    first: int,  # sample
    last: int,
    images: Floats,  # (N, H, W, C), flat
    shape: tuple[int, int, int],  # H, W, C
    points: Floats,  # (36, P, C), flat, written
) -> None:
    """A y A^T of every tile of some samples: the transpose of `from_points`."""
    height, width, channels = shape
    down, across = (height + 3) // 4, (width + 3) // 4
    tiles = (last - first) * down * across
    a, b = np.empty(36 * LANES, np.float32), np.empty(36 * LANES, np.float32)
    for tile in range(tiles):
        n, place = first + tile // (down * across), tile % (down * across)
        top, left = place // across * 4, place % across * 4
        for channel in range(0, channels, LANES):
            for k in range(16):
                y, x = top + k // 4, left + k % 4
                if y < height and x < width:
                    _copy(images, ((n * height + y) * width + x) * channels + channel, a, k * LANES)
                else:
                    _clear(a, k * LANES)
            for k in range(4):
                _spread(a, k * LANES, 4, b, k * LANES, 4)
            for k in range(6):
                _spread(b, k * 4 * LANES, 1, a, k * 6 * LANES, 1)
            for k in range(36):
                _copy(a, k * LANES, points, (k * tiles + tile) * channels + channel)


@numba.njit(nogil=True, cache=True)
def weights_to_points(
    first: int,  # channel that is summed over
    last: int,
    weights: Floats,  # (K, C, 3, 3), flat
    strides: tuple[int, int],  # from a summed channel, and from a resulting one, to the next
    shape: tuple[int, int],  # channels summed over, channels resulting
    turned: bool,  # rotate each kernel by half a turn
    points: Floats,  # (36, summed, resulting), flat, written
) -> None:
    """G g G^T of every kernel."""
    summed, resulting = shape
    a, b = np.empty(36 * LANES, np.float32), np.empty(36 * LANES, np.float32)
    for channel in range(first, last):
        for start in range(0, resulting, LANES):
            base = channel * strides[0] + start * strides[1]
            for lane in range(LANES):
                for k in range(9):
                    place = 8 - k if turned else k
                    a[k * LANES + lane] = weights[base + lane * strides[1] + place]
            for k in range(3):
                _weigh(a, k * LANES, 3, b, k * LANES, 3)
            for k in range(6):
                _weigh(b, k * 3 * LANES, 1, a, k * 6 * LANES, 1)
            for k in range(36):
                _copy(a, k * LANES, points, (k * summed + channel) * resulting + start)
