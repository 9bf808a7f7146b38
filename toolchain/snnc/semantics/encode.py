"""How an image becomes the integers that a program reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidSetting
from snnc.ir.program import ImageInput
from snnc.ir.weights import IntArray


def encode(coding: ImageInput, images: npt.NDArray[np.floating]) -> IntArray:
    """Return the codes (samples, *shape) of images (samples, *shape) with values in [0, 1].

    code = rint(levels * pixel) - zero_point[channel], in float64, halves to even. The codes
    are the program's input at every time step.

    Raises:
        InvalidSetting: the shape is another one, or a value is outside [0, 1] or not a number.
    """
    if images.shape[1:] != coding.shape:
        raise InvalidSetting(
            f"images have shape {images.shape[1:]}, the program reads {coding.shape}; "
            "pass (samples, *shape)"
        )
    if images.size and not (images.min() >= 0.0 and images.max() <= 1.0):  # NaN fails too
        raise InvalidSetting(
            f"pixels reach from {images.min():g} to {images.max():g}, the program reads [0, 1]; "
            "scale the images, the normalisation is part of the program"
        )
    codes = np.rint(images.astype(np.float64) * coding.levels).astype(np.int32)
    codes -= coding.zero_point.reshape(-1, *[1] * (len(coding.shape) - 1))
    return codes


def check_codes(coding: ImageInput, codes: IntArray) -> None:
    """Refuse codes (samples, *shape) that no image becomes: bounds of currents do not cover them.

    Raises:
        InvalidSetting: they have another shape, or one is outside the range of its channel.
    """
    if codes.shape[1:] != coding.shape:
        raise InvalidSetting(
            f"codes have shape {codes.shape}, the program reads (samples, *{coding.shape})"
        )
    zero_point = coding.zero_point.reshape(-1, *[1] * (len(coding.shape) - 1))
    if ((codes < -zero_point) | (codes > coding.levels - zero_point)).any():
        raise InvalidSetting(
            f"codes reach from {codes.min()} to {codes.max()}, which no image in [0, 1] becomes; "
            "use snnc.semantics.encode"
        )
