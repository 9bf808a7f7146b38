"""What a price needs to know of the emitted program: how each bundle of synapses is stored."""

from __future__ import annotations

from snnc.energy.count import Encoding, encoding
from snnc.ir.program import Program

from snnc_targets.loihi.lowering import Lowering
from snnc_targets.loihi.plan import ON_HOST, Bundle, Form, plan


def encodings(program: Program, how: Lowering) -> dict[tuple[str, str], Encoding]:
    """Map (population, bundle) to how Lava's processes hold its weights.

    What the host multiplies is held as the program says.
    """
    return {
        (place.population.name, bundle.synapses.name): _encoding(bundle)
        for place in plan(program, how)
        for bundle in place.bundles
    }


def _encoding(bundle: Bundle) -> Encoding:
    if bundle.form in ON_HOST:
        return encoding(bundle.synapses)
    match bundle.form:
        case Form.CONV:
            return Encoding.CONVOLUTION
        case Form.DENSE:
            return Encoding.DENSE
        case _:  # Lava's other processes hold sparse matrices
            return Encoding.SPARSE
