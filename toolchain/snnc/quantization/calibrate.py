"""From a trained graph to a program and the account of its integers, in one call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from snnc.ir.graph import Graph
from snnc.ir.program import Program
from snnc.passes import PREPARE, Observer, apply
from snnc.passes.numbers import Bits, Numbers
from snnc.passes.quantize import PIXEL_LEVELS, quantize
from snnc.quantization.account import KEY, Account, Measured, account
from snnc.quantization.search import Calibrated, Progress, search
from snnc.quantization.sensitivity import sensitivities

# Images on which each layer alone is run as integers. Ours: on the digits demo and on a network
# for Fashion-MNIST, at 4 and at 8 bits, they name the same layer as 256 images do.
JUDGED = 16


def compile_accounted(
    graph: Graph,
    numbers: Numbers,
    *,
    images: npt.NDArray[np.floating] | None,
    levels: int = PIXEL_LEVELS,
    bits: Bits | None = None,
    observe: Observer | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Program, Account]:
    """Run PREPARE and quantize; with calibration images, search the scales on them.

    Images are (samples, *shape) in [0, 1]; without any, the integers are those of
    `compile_graph`. The account is also in the program's provenance, under `KEY`. With images
    it holds the errors and names the layer whose integers hurt most.

    Raises:
        InvalidGraph: the graph cannot become a program; lists the reasons.
        InvalidSetting, UnknownName: see `quantize`, and `snnc.quantization.search.search`.
    """
    prepared = apply(PREPARE, graph, observe)
    if images is None:
        program = quantize(prepared, numbers, levels=levels, bits=bits)
        result = account(prepared, numbers, program, bits=bits)
    else:
        found = search(prepared, numbers, images, levels=levels, bits=bits, progress=progress)
        program = found.program
        result = calibration_account(prepared, numbers, found, images, bits=bits)
    return replace(program, provenance={**program.provenance, KEY: result.to_json()}), result


def calibration_account(
    prepared: Graph,
    numbers: Numbers,
    found: Calibrated,
    images: npt.NDArray[np.floating],
    *,
    bits: Bits | None,
) -> Account:
    """Return the account of a search; each layer alone is judged on the first `JUDGED` images."""
    alone = sensitivities(prepared, found.program, images[:JUDGED])
    measured = {
        name: Measured(
            before=None if found.before is None else found.before[name],
            after=found.after[name],
            shifted=name in found.shifted,
            sensitivity=alone[name],
        )
        for name in found.scales
    }
    return account(
        prepared, numbers, found.program, bits=bits, measured=measured, images=found.images
    )
