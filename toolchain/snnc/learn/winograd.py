"""3x3 convolutions with a quarter of the multiplications, on the processor, in float32.

The dense convolutions of torch take four fifths of a finetuning step and run near the
processor's peak, so only fewer multiplications make them faster. Winograd's minimal
filtering needs 36 for 4x4 pixels instead of 144 (Lavin and Gray, CVPR 2016, arXiv
1509.09308), in all three convolutions of training: forward, and the gradients of input and
weights. It is exact but for rounding: outputs are within about 2e-5 of their scale where
torch's sums are within 2e-6 (for comparison, a GPU's TF32 is within 1e-3).

Each thread takes some samples through all stages in pieces that its cache holds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

LEAST = 32  # channels; both numbers of channels are multiples of it (the kernels' LANES)
SMALLEST = 4  # height and width; below, most of a tile would be padding
WORTH = 2e9  # operations for each of several threads: 20 ms of torch's own convolution
G = (  # G of `winograd_kernels`: three weights to six points
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)


def suits(convolution: nn.Conv2d, images: Tensor) -> bool:
    """Say whether `convolve` can take this convolution of images (N, C, H, W), and pays.

    It pays for 3x3 kernels of stride 1 over maps of at least 4x4 pixels; with several
    threads, only for large batches (torch's own threads go on waiting for work for some
    milliseconds, by spinning on the cores that ours need). It needs float32 on the
    processor, numba, and channels in groups of 32.
    """
    threads, weights = torch.get_num_threads(), convolution.weight.numel()
    operations = 2 * weights * len(images) * images.shape[-2] * images.shape[-1]
    return (
        images.dim() == 4
        and convolution.kernel_size == (3, 3)
        and convolution.stride == (1, 1)
        and convolution.padding == (1, 1)
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and convolution.in_channels % LEAST == convolution.out_channels % LEAST == 0
        and min(images.shape[2:]) >= SMALLEST
        and images.dtype == convolution.weight.dtype == torch.float32
        and images.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and (threads == 1 or operations >= threads * WORTH)
        and find_spec("numba") is not None
    )


def convolve(images: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of (N, C, H, W) with (K, C, 3, 3), stride 1, padding 1.

    The result (N, K, H, W) is channels-last. Differentiable once, in both arguments.
    """
    result: Tensor = _Convolve.apply(images, weight)  # type: ignore[no-untyped-call]
    return result


class _Context(FunctionCtx):
    """What the backward pass needs to know."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, images: Tensor, weight: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(images, weight)
        return _correlate(images, weight, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        arriving = gradients[0].contiguous(memory_format=torch.channels_last)
        of_images, of_weight = ctx.needs_input_grad
        return (
            _correlate(arriving, weight, turned=True) if of_images else None,
            _weight_gradient(images, arriving) if of_weight else None,
        )


def _correlate(images: Tensor, weight: Tensor, *, turned: bool) -> Tensor:
    """Return the convolution, or (turned) its transpose: the gradient of the input."""
    from snnc.learn import winograd_kernels as kernels

    samples, into, height, width = images.shape
    out = weight.shape[1] if turned else weight.shape[0]
    factors = _factors(weight, turned=turned)
    result = images.new_empty((samples, height, width, out))
    source, target = _flat(images), result.view(-1).numpy()
    tiles = _tiles(height, width)
    size = _piece(tiles, into + out)

    def work(first: int, last: int) -> None:
        before = images.new_empty(36 * size * tiles * into)
        after = images.new_empty(36 * size * tiles * out)
        for start in range(first, last, size):
            end = min(start + size, last)
            points = (end - start) * tiles
            kernels.to_points(start, end, source, (height, width, into), before.numpy())
            product = after[: 36 * points * out].view(36, points, out)
            torch.bmm(before[: 36 * points * into].view(36, points, into), factors, out=product)
            kernels.from_points(start, end, after.numpy(), (height, width, out), target)

    _share(samples, work)
    return result.permute(0, 3, 1, 2)


def _weight_gradient(images: Tensor, arriving: Tensor) -> Tensor:
    """Return the gradient of the weights (K, C, 3, 3)."""
    from snnc.learn import winograd_kernels as kernels

    samples, into, height, width = images.shape
    out = arriving.shape[1]
    left, right = _flat(images), _flat(arriving)
    tiles = _tiles(height, width)
    size = _piece(tiles, into + out)

    def work(first: int, last: int) -> Tensor:
        a = images.new_empty(36 * size * tiles * into)
        b = images.new_empty(36 * size * tiles * out)
        total = images.new_zeros(36, into, out)
        for start in range(first, last, size):
            end = min(start + size, last)
            points = (end - start) * tiles
            kernels.to_points(start, end, left, (height, width, into), a.numpy())
            kernels.gradient_to_points(start, end, right, (height, width, out), b.numpy())
            x = a[: 36 * points * into].view(36, points, into)
            torch.baddbmm(
                total, x.transpose(1, 2), b[: 36 * points * out].view(36, points, out), out=total
            )
        return total

    first, *others = _share(samples, work)
    for other in others:
        first += other
    g = images.new_tensor(G)
    back = torch.kron(g, g).T @ first.view(36, -1)
    return back.view(3, 3, into, out).permute(3, 2, 0, 1)


def _factors(weight: Tensor, *, turned: bool) -> Tensor:
    """Return G g G^T of every kernel: (36, summed channels, resulting channels)."""
    from snnc.learn import winograd_kernels as kernels

    out, into = weight.shape[:2]
    strides = (into * 9, 9) if turned else (9, into * 9)
    shape = (out, into) if turned else (into, out)
    source = weight.detach().contiguous().view(-1).numpy()
    factors = weight.new_empty((36, *shape))
    target = factors.view(-1).numpy()
    _share(
        shape[0],
        lambda first, last: kernels.weights_to_points(
            first, last, source, strides, shape, turned, target
        ),
    )
    return factors


def _tiles(height: int, width: int) -> int:
    """Return how many tiles of 4x4 pixels cover a map."""
    return ((height + 3) // 4) * ((width + 3) // 4)


def _piece(tiles: int, channels: int) -> int:
    """Return how many samples a thread takes through all stages at a time.

    With more channels, more tiles share a pass over the transformed weights; with fewer,
    all that a piece needs stays in a core's second cache.
    """
    return max(1, min(max(channels // 4, 64), 256) // tiles)


def _flat(images: Tensor) -> npt.NDArray[np.float32]:
    """Return the memory of a channels-last tensor as (N * H * W * C,)."""
    flat: npt.NDArray[np.float32] = images.detach().permute(0, 2, 3, 1).reshape(-1).numpy()
    return flat


def _share(jobs: int, work: Callable[[int, int], Tensor | None]) -> list[Tensor]:
    """Do jobs 0 to `jobs`, an equal part in each of torch's number of threads, in order.

    Each of these threads multiplies matrices alone, on its part.
    """
    parts = max(1, min(torch.get_num_threads(), jobs))
    ends = [jobs * part // parts for part in range(parts + 1)]
    if parts == 1:
        results = [work(0, jobs)]
    else:
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(parts, initializer=_alone) as pool:
                started = [pool.submit(work, *part) for part in zip(ends, ends[1:], strict=False)]
                results = [each.result() for each in started]
        finally:
            torch.set_num_threads(threads)
    return [result for result in results if result is not None]


def _alone() -> None:
    """Let torch use one thread where this one calls it.

    OpenMP's number is each thread's own, but torch also notes the last one that was set,
    for threads that it has not seen; `_share` restores that note.
    """
    torch.get_num_threads()  # first: it would take over the noted number later
    torch.set_num_threads(1)
