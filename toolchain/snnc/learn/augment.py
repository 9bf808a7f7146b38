"""Changes of training images that leave their labels true, drawn anew in every epoch.

Each image of a batch gets its own draw. All draws of a batch are made at once, so what an
image becomes depends on the generator, the batch and the image's place in it, and on nothing
else: the same generator state gives the same images, on one device.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from snnc.errors import InvalidSetting, unreachable
from snnc.learn.settings import Count, Settings

ATTEMPTS = 10  # boxes drawn for one resized crop before the whole image is taken (torchvision)


class Crop(Settings):
    """Move the image by up to `padding` pixels each way; black moves in.

    Equal to padding with zeros and cutting the old size at a random place (He et al., CVPR
    2016, section 4.2: 4 pixels for CIFAR-10).
    """

    kind: Literal["crop"] = "crop"
    padding: Count


class Flip(Settings):
    """Mirror left and right, every second image."""

    kind: Literal["flip"] = "flip"


class Cutout(Settings):
    """Cover a square with the training mean of each channel.

    The square's centre is any pixel of the image, so at the borders less is covered (DeVries
    and Taylor, arXiv:1708.04552, section 3).
    """

    kind: Literal["cutout"] = "cutout"
    size: Count  # pixels


class ResizedCrop(Settings):
    """Cut out a box and stretch it to the size of the image, bilinear.

    The box has an area of `least_area` to 1 of the image's, uniform, and a width over height
    of `narrowest` to 1 / `narrowest`, uniform in its logarithm (Szegedy et al., CVPR 2015,
    section 6, where they are 0.08 and 3/4). Boxes that stick out are drawn again, ten times,
    then the whole image is taken.
    """

    kind: Literal["resized_crop"] = "resized_crop"
    least_area: Annotated[float, Field(gt=0, le=1)]
    narrowest: Annotated[float, Field(gt=0, le=1)]


Augmentation = Annotated[Crop | Flip | Cutout | ResizedCrop, Field(discriminator="kind")]


def augment(
    images: Tensor,
    steps: tuple[Crop | Flip | Cutout | ResizedCrop, ...],
    fill: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return the images (N, C, H, W) after each step in order; the input is not changed.

    Images are floats in [0, 1] before and after. `fill` (C,) is the training mean of each
    channel, see `channel_means`. The generator is on the images' device.

    Raises:
        InvalidSetting: a square or a padding is larger than the image.
    """
    for step in steps:
        match step:
            case Crop():
                images = _crop(images, step, generator)
            case Flip():
                images = _flip(images, generator)
            case Cutout():
                images = _cutout(images, step, fill, generator)
            case ResizedCrop():
                images = _resized_crop(images, step, generator)
            case _:
                unreachable(step)
    return images


def channel_means(pixels: Tensor, white: float) -> Tensor:
    """Return the mean of each channel (C,) of pixels (N, C, H, W), float32; `white` is 1.0.

    Summed in float64, which is exact for bytes.
    """
    total = torch.zeros(pixels.shape[1], dtype=torch.float64, device=pixels.device)
    for part in torch.split(pixels, 512):  # so many images as float64 at a time, not the whole set
        total += part.double().sum(dim=(0, 2, 3))
    return (total / (pixels.numel() / pixels.shape[1] * white)).float()


def _crop(images: Tensor, step: Crop, generator: torch.Generator) -> Tensor:
    """Return images moved by -padding to padding pixels in each direction."""
    count, _, height, width = images.shape
    _must_fit("crop", step.padding, images)
    rows, columns = torch.randint(
        2 * step.padding + 1, (2, count), generator=generator, device=images.device
    )
    windows = F.pad(images, [step.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, rows, columns]


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images of which every second, by chance, is mirrored."""
    mirrored = torch.randint(2, (len(images),), generator=generator, device=images.device)
    return torch.where(mirrored.bool()[:, None, None, None], images.flip(3), images)


def _cutout(images: Tensor, step: Cutout, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with a square each that has the fill's colour."""
    count, channels, height, width = images.shape
    _must_fit("cutout", step.size, images)
    covered = [
        _covered(count, length, step.size, generator, images.device) for length in (height, width)
    ]
    square = covered[0][:, None, :, None] & covered[1][:, None, None, :]
    return torch.where(square, fill.to(images).view(1, channels, 1, 1), images)


def _covered(
    count: int, length: int, size: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Return which of `length` places lie in each image's interval of `size`, (N, length)."""
    centre = torch.randint(length, (count, 1), generator=generator, device=device)
    place = torch.arange(length, device=device) - (centre - size // 2)
    return (place >= 0) & (place < size)


def _resized_crop(images: Tensor, step: ResizedCrop, generator: torch.Generator) -> Tensor:
    """Return a box of each image, stretched."""
    boxes = _boxes(images, step, generator)
    return _stretch(images, *boxes)


def _boxes(images: Tensor, step: ResizedCrop, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return top, left, height and width (N,) of each image's box, in whole pixels."""
    count, _, height, width = images.shape
    area, ratio, down, right = torch.rand(
        4, count, ATTEMPTS, generator=generator, device=images.device
    )
    area = (step.least_area + (1 - step.least_area) * area) * height * width
    ratio = step.narrowest ** (2 * ratio - 1)  # log-uniform in [narrowest, 1 / narrowest]
    tall, wide = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    first = (~fits).cumprod(1).sum(1)  # attempts that failed before one fits
    failed = first == ATTEMPTS
    chosen = first.clamp(max=ATTEMPTS - 1)[:, None]
    tall = torch.where(failed, height, tall.gather(1, chosen)[:, 0])
    wide = torch.where(failed, width, wide.gather(1, chosen)[:, 0])
    top = ((height - tall + 1) * down[:, 0]).floor()
    left = ((width - wide + 1) * right[:, 0]).floor()
    return top, left, tall, wide


def _stretch(images: Tensor, top: Tensor, left: Tensor, tall: Tensor, wide: Tensor) -> Tensor:
    """Return each image's box at the size of the image.

    As `interpolate(box, mode="bilinear", align_corners=False)`: nothing outside the box is
    seen, because the sampling points stay within the centres of its outermost pixels.
    """
    height, width = images.shape[2:]
    rows = _points(top, tall, height)
    columns = _points(left, wide, width)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], dim=3
    )
    stretched = F.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return stretched.clamp(0, 1)  # the four weights of a point may sum to one more ulp than 1


def _points(start: Tensor, size: Tensor, length: int) -> Tensor:
    """Return where to sample along one axis, (N, length), in the units of `grid_sample`."""
    centres = (torch.arange(length, device=start.device) + 0.5) / length
    place = (centres * size[:, None] - 0.5).clamp(min=0).minimum(size[:, None] - 1)
    return (2 * (start[:, None] + place) + 1) / length - 1


def _must_fit(kind: str, size: int, images: Tensor) -> None:
    """Refuse a size that exceeds the image."""
    height, width = images.shape[2:]
    if size > min(height, width):
        raise InvalidSetting(
            f"augmentation {kind!r} of {size} pixels is larger than images of {height}x{width}; "
            f"use {min(height, width)} or less"
        )
