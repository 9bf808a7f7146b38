"""The mapping report: what each layer became on Lava, and what hardware would still ask for.

It holds the partition onto a Loihi 2's cores of what was emitted, and says where another way to
store convolutions would take fewer. `mapping.svg` is its picture.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snnc.errors import Issue, unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import Accumulator, Layer, Program
from snnc.ir.weights import nonzeros, stored
from snnc.semantics.neuron import ALIGN

from snnc_targets.loihi import hardware, limits
from snnc_targets.loihi.bounds import current_bounds
from snnc_targets.loihi.cores import chip
from snnc_targets.loihi.cores import report as partition_report
from snnc_targets.loihi.cores.partition import Partition, partition
from snnc_targets.loihi.cores.picture import picture
from snnc_targets.loihi.cores.words import Encoding
from snnc_targets.loihi.interpreter import LAVA
from snnc_targets.loihi.lowering import Image, Lowering
from snnc_targets.loihi.once import OncePerProgram
from snnc_targets.loihi.plan import ON_HOST, Form, Placed, plan

PICTURE = "mapping.svg"


def write(program: Program, directory: Path, how: Lowering) -> dict[str, object]:
    """Write the picture of the mapping into a build; return `report`.

    A program that does not fit on cores has no picture.
    """
    found = on_cores(program, how)
    if (svg := drawn(found)) is not None:
        (directory / PICTURE).write_text(svg, encoding="utf-8")
    return _report(program, how, found)


def drawn(found: Partition) -> str | None:
    """Return the picture of a partition; None where the program does not fit on cores."""
    return None if found.issues else picture(found)


def report(program: Program, how: Lowering) -> dict[str, object]:
    """Return the mapping of a program without issues, as JSON."""
    return _report(program, how, on_cores(program, how))


def on_cores(program: Program, how: Lowering) -> Partition:
    """Return the partition onto Loihi 2 of what is emitted; a chip takes the host's image as bias.

    Synapses are stored as the processes that carry them: Conv, Dense or a sparse matrix.
    """
    return _partitions(program, how)


def _partition(program: Program, how: Lowering) -> Partition:
    stored = {
        (place.population.name, bundle.synapses.name): _stored(bundle.form)
        for place in plan(program, how)
        for bundle in place.bundles
        if bundle.form not in ON_HOST
    }
    return partition(program, chip.load("loihi2"), image=_on_chip(how).image, stored=stored)


_partitions: OncePerProgram[Lowering, Partition] = OncePerProgram(_partition)


def _stored(form: Form) -> Encoding:
    match form:
        case Form.CONV:
            return Encoding.CONV
        case Form.DENSE:
            return Encoding.DENSE
        case _:  # Lava's other processes hold sparse matrices
            return Encoding.SPARSE


def formats(program: Program, how: Lowering) -> tuple[Issue, ...]:
    """Return what a program breaks of a chip's formats."""
    return limits.issues(program, how, delay_max=limits.CHIP_DELAY_MAX)


def _on_chip(how: Lowering) -> Lowering:
    return replace(how, image=Image.BIAS) if how.image is Image.HOST else how


def _report(program: Program, how: Lowering, found: Partition) -> dict[str, object]:
    placed = plan(program, how)
    there = _on_chip(how)
    obstacles = (*formats(program, there), *hardware.issues(program, there), *found.issues)
    return {
        "runs": f"{LAVA}, fixed-point models, on this computer; no hardware is used",
        "steps": program.steps,
        "pipeline_delay": max(place.lag for place in placed) - 1,
        "layers": [_layer(program, place) for place in placed],
        "partition": partition_report.report(found) | _cheapest(program, how, found),
        "hardware": {
            "deployable": not obstacles,
            "obstacles": [str(issue) for issue in obstacles],
            "notes": [
                "never run on a chip: lava-nc cannot compile for one without Intel's lava-loihi",
                "the host computes what the image adds; a chip would take it as the neurons' bias",
                "spikes are recorded and the readout is added up on the host",
            ],
        },
    }


def _cheapest(program: Program, how: Lowering, found: Partition) -> dict[str, object]:
    """Say what storing each bundle as it takes the fewest cores would need."""
    best = partition(program, found.chip, image=_on_chip(how).image)
    return {
        "cheapest": {
            "cores": best.cores,
            "chips": best.chips,
            "other_encodings": [
                {"layer": layer, "name": name, "encoding": encoding.value}
                for (layer, name), encoding in best.encodings.items()
                if encoding is not found.encodings[layer, name]
            ],
        }
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
                "exponent": bundle.exponent,
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
        facts |= {"du": population.current_decay - 1, "dv": population.decay}
        if not place.host_adds_bias:
            facts |= {"bias_exp": limits.bias_exponent(population.bias)}
    return facts
