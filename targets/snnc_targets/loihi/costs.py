"""What the choices of `lowering` cost for one program: a part of the mapping report."""

from __future__ import annotations

from math import prod

from snnc.ir.program import INPUT, Accumulator, Layer, Program, Synapses
from snnc.simulate.activity import fan_out

from snnc_targets.loihi.bounds import image_bounds
from snnc_targets.loihi.limits import BIAS_BITS
from snnc_targets.loihi.lowering import IMAGE, Image, Lowering
from snnc_targets.loihi.plan import Bundle, Form, image_form, message_bits, plan


def report(program: Program, how: Lowering) -> dict[str, object]:
    """Return, as JSON, what was chosen, why, and what it costs."""
    return {
        "image": {
            "chosen": how.image.value,
            "meaning": IMAGE[how.image.value],
            "readers": [
                _reader(program, population, synapses, how.image)
                for population in program.populations
                if (synapses := [s for s in population.synapses if s.source == INPUT])
            ],
        },
        "convolutions": {
            "chosen": how.convolutions.value,
            "bundles": [
                _convolution(bundle)
                for place in plan(program, how)
                for bundle in place.bundles
                if bundle.unrolling is not None
            ],
        },
    }


def _reader(
    program: Program, population: Layer | Accumulator, bundles: list[Synapses], image: Image
) -> dict[str, object]:
    """Price what one layer hears of the image, for each sample."""
    synapses = sum(int(fan_out(bundle, program.input.shape).sum()) for bundle in bundles)
    facts: dict[str, object] = {"name": population.name, "synapses": synapses}
    match image_form(population, image):
        case Form.HOST:
            return facts | {
                "process": Form.HOST.value,
                "host_multiplications": synapses,
                "synaptic_operations": 0,
                "messages": population.size * program.steps,
            }
        case Form.BIAS:
            largest = int(image_bounds(program, population).max())
            return facts | {
                "process": Form.BIAS.value,
                "host_multiplications": synapses,
                "synaptic_operations": 0,
                "messages": population.size,
                "largest_bias": largest,
                "bits_of_precision": largest.bit_length() + 1,
                "bits_available": BIAS_BITS,
            }
        case _:
            return facts | {
                "process": "graded spikes",
                "host_multiplications": 0,
                "synaptic_operations_at_most": synapses * program.steps,
                "messages_at_most": prod(program.input.shape) * program.steps,
                "message_bits": message_bits(program.input),
            }


def _convolution(bundle: Bundle) -> dict[str, object]:
    made = bundle.unrolling
    assert made is not None  # noqa: S101 - the caller took those that have one
    return {
        "name": bundle.synapses.name,
        "process": bundle.form.value,
        "reason": made.reason,
        "multiplications_as_conv": made.dense_products,
        "multiplications_as_sparse": made.synapses,
        "bytes_as_conv": made.kernel_bytes,
        "bytes_as_sparse": made.matrix_bytes,
    }
