"""The mapping report: what each layer became on Lava, and what hardware would still ask for."""

from __future__ import annotations

from collections.abc import Iterator

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import Accumulator, Layer, Program
from snnc.ir.weights import nonzeros, stored
from snnc.semantics.neuron import ALIGN

from snnc_targets.loihi.emit import LAVA
from snnc_targets.loihi.limits import bias_exponent, current_bounds
from snnc_targets.loihi.plan import Form, Placed, plan

MAP_SIDE = 256  # a convolution's map must be smaller on the chip, says Intel's compiler


def report(program: Program) -> dict[str, object]:
    """Return the mapping of a program without issues, as JSON."""
    placed = plan(program)
    obstacles = list(_obstacles(program, placed))
    return {
        "runs": f"{LAVA}, fixed-point models, on this computer; no hardware is used",
        "steps": program.steps,
        "pipeline_delay": max(place.lag for place in placed) - 1,
        "layers": [_layer(program, place) for place in placed],
        "hardware": {
            "deployable": not obstacles,
            "obstacles": obstacles,
            "notes": [
                "never run on a chip: lava-nc cannot compile for one without Intel's lava-loihi",
                "the host computes what the image adds; a chip would take it as the neurons' bias",
                "spikes are recorded and the readout is added up on the host",
            ],
        },
    }


def _layer(program: Program, place: Placed) -> dict[str, object]:
    population = place.population
    facts: dict[str, object] = {
        "name": population.name,
        "variable": place.variable,
        "shape": list(population.shape),
        "lag": place.lag,
        "largest_current": int(current_bounds(program, population).max()),
        "synapses": [
            {
                "name": bundle.synapses.name,
                "variable": bundle.variable,
                "source": bundle.synapses.source,
                "process": bundle.form.value,
                "delay": bundle.delay,
                "stored": len(stored(bundle.synapses.weight)),
                "nonzero": nonzeros(bundle.synapses.weight),
            }
            for bundle in place.bundles
        ],
    }
    match population:
        case Layer(reset=Reset.ZERO):
            facts |= {"process": "LIFReset", "vth": (population.threshold - 1) >> ALIGN}
        case Layer(reset=Reset.SUBTRACT):
            facts |= {"process": "SoftLIF", "threshold": population.threshold}
        case Accumulator():
            facts |= {"process": "Readout"}
        case _:
            unreachable(population)  # type: ignore[arg-type]  # Reset is narrowed above
    if isinstance(population, Layer):
        facts |= {"du": 4095, "dv": population.decay}
        if not place.reads_image:
            facts |= {"bias_exp": bias_exponent(population.bias)}
    return facts


def _obstacles(program: Program, placed: tuple[Placed, ...]) -> Iterator[str]:
    """Name what a chip cannot do as it is, though the simulation runs it exactly."""
    if program.steps & (program.steps - 1):
        yield f"steps: T = {program.steps}; the chip resets membranes every 2**n steps only"
    for place in placed:
        population = place.population
        if isinstance(population, Layer) and population.reset is Reset.SUBTRACT:
            yield f"{population.name}: reset by subtraction, the chip's LIF resets to zero"
        for bundle in place.bundles:
            if bundle.form is not Form.HOST and not nonzeros(bundle.synapses.weight):
                name = bundle.synapses.name
                yield f"{name}: every weight is zero, which a chip was seen to refuse"
            shape = program.shape_of(bundle.synapses.source)
            if bundle.form is Form.CONV and max(shape[1:]) >= MAP_SIDE:
                yield f"{bundle.synapses.name}: reads a {shape} map, sides must be below {MAP_SIDE}"
