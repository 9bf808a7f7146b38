"""Whether a convolution is cheaper as Lava's Conv or as a sparse matrix, and by how much.

A convolution of few weights unrolled to a matrix over all pixels stores and multiplies nothing
but its synapses; Conv multiplies every tap of every window, zeros included, yet in one dense
product. The model of cost, for one step of one process in simulation:

    Conv      windows * taps * outputs                     dense products (`PyConvProduct`)
    Sparse    DEAR * the synapses that lie inside the map   a product in CSR (`PySparseProduct`)

DEAR was measured on one core with numpy 1.26 and scipy 1.15 (maps of 14 to 32 pixels, 64 to 256
channels): a dense product takes 0.07 to 0.15 ns, one in CSR 0.6 to 1.1 ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from snnc.errors import unreachable
from snnc.ir.program import Synapses
from snnc.ir.weights import Shape
from snnc.simulate.activity import fan_out

from snnc_targets.loihi.lowering import Convolutions

DEAR = 10  # dense products in the time of one in CSR
MATRIX_MAX = 1 << 26  # bytes of a matrix that "auto" still unrolls: Lava keeps several copies
_STORED = 8  # bytes of a synapse in CSR: int32 weight, int32 column


@dataclass(frozen=True, kw_only=True)
class Unrolling:
    """The two costs of a convolution, the choice and its reason."""

    unrolled: bool
    reason: str
    dense_products: int  # of Conv at each step
    synapses: int  # of the unrolled matrix, which multiplies each at every step
    kernel_bytes: int  # at 8 bits
    matrix_bytes: int


def unrolling(
    synapses: Synapses, source: Shape, target: Shape, how: Convolutions, *, needed: str | None
) -> Unrolling:
    """Choose the form of a convolution from `source` to `target`, both (C, H, W).

    `needed` is why it has to be a matrix, None where there is a choice.
    """
    leaving = int(fan_out(synapses, source).sum())
    products = prod(target[1:]) * prod(synapses.weight.shape)
    size = leaving * _STORED + 4 * (prod(target) + 1)
    unrolled, reason = _choice(how, products, leaving, size) if needed is None else (True, needed)
    return Unrolling(
        unrolled=unrolled,
        reason=reason,
        dense_products=products,
        synapses=leaving,
        kernel_bytes=prod(synapses.weight.shape),
        matrix_bytes=size,
    )


def _choice(how: Convolutions, products: int, leaving: int, size: int) -> tuple[bool, str]:
    match how:
        case Convolutions.CONV:
            return False, "chosen by option"
        case Convolutions.SPARSE:
            return True, "chosen by option"
        case Convolutions.AUTO if DEAR * leaving >= products:
            return False, f"{products} dense products take no longer than {leaving} sparse ones"
        case Convolutions.AUTO if size > MATRIX_MAX:
            return False, f"its matrix would take {size} bytes, more than {MATRIX_MAX}"
        case Convolutions.AUTO:
            return True, f"{leaving} sparse products are faster than {products} dense ones"
        case _:
            unreachable(how)
