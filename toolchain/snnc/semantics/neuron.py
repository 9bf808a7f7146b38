"""The one definition of neuron arithmetic.

Written for one neuron in Python integers, which never overflow, so that it can be read
and trusted. It is slow on purpose: fast code lives in `snnc.simulate` and in targets,
and is right exactly when it agrees with this file, bit for bit.

    current    u  = u * (4096 - current_decay) / 4096 + arriving * 2**6    toward zero
    leak       v  = v * (4096 - decay) / 4096                              toward zero
    integrate  v' = clip(v + u + bias * 2**6)                              to 24 bits, both signs
    fire       s  = v' >= threshold                                        (>=, not >)
    reset      v  = 0 if s (ZERO), v' - threshold if s (SUBTRACT), else v'

Membrane and current start each sample at 0; a reset leaves the current alone. With a current
decay of 4096, which every network that is not imported has, u is the current that arrives
in this step. u is an exact integer: `snnc.ir.check_program` bounds it, a chip whose current
has 24 bits refuses a program whose current could reach more.

The unit of u and v is 1/64 of a unit of weight: the six extra bits are the ones that Loihi
keeps (lava-nc 0.10, `proc/lif/models.py`: `act_shift`, `vth_shift`), and a leak needs them.
Without a leak v is a multiple of 64 until it saturates, so `v >= 64 n` and Loihi's
`v > 64 (n - 1)` are the same question.

`snnc.ir.program.SEMANTICS`, a version number in every compiled file, counts the meanings
that this file has had.
"""

from __future__ import annotations

from snnc.errors import unreachable
from snnc.ir.graph import Reset

ALIGN = 6  # one unit of current is 2**ALIGN units of membrane
V_MAX = (1 << 23) - 1
DECAY_BITS = 12  # decay is a fraction of 2**DECAY_BITS
CURRENT_MAX = V_MAX >> ALIGN  # 131071: the largest |current + bias| a 24-bit chip can take


def leak(v: int, decay: int) -> int:
    """Return v * (4096 - decay) / 4096, rounded toward zero.

    >>> leak(100, 2048), leak(-101, 2048), leak(7, 0)
    (50, -50, 7)
    """
    kept = abs(v) * ((1 << DECAY_BITS) - decay) >> DECAY_BITS
    return kept if v >= 0 else -kept


def step(
    u: int,
    v: int,
    arriving: int,
    *,
    current_decay: int,
    bias: int,
    threshold: int,
    decay: int,
    reset: Reset,
) -> tuple[int, int, bool]:
    """Advance one neuron by one time step; return its current, membrane and whether it spiked.

    >>> neuron = {"bias": 0, "threshold": 100 * 64, "decay": 0, "current_decay": 4096}
    >>> step(7, 90 * 64, 15, reset=Reset.SUBTRACT, **neuron)
    (960, 320, True)
    >>> step(7, 90 * 64, 10, reset=Reset.ZERO, **neuron)
    (640, 0, True)
    """
    u = leak(u, current_decay) + arriving * (1 << ALIGN)
    v = leak(v, decay) + u + bias * (1 << ALIGN)
    v = max(-V_MAX, min(V_MAX, v))
    if v < threshold:
        return u, v, False
    match reset:
        case Reset.ZERO:
            return u, 0, True
        case Reset.SUBTRACT:
            return u, v - threshold, True
        case _:
            unreachable(reset)
