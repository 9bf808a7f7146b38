"""Export a program as a netx file, which lava-dl 0.6.0 runs with equal spikes.

netx describes a chain: an input layer, then convolutions and matrices, each read by the next one
only. What else a program can say is refused, all at once; see `issues`. What a program says and
lava-dl has no word for (names, scales, the code of a pixel) goes along as notes that lava-dl does
not see, so that `snnc import` gives back the same program.

    here                             netx and Lava
    threshold 64 k + 1               vThMant k
    decay, current_decay             vDecay, iDecay
    accumulator                      dense or conv, vDecay 0, iDecay 4096, vThMant 131071: with sums
                                     below that it never spikes, and its membrane is the sum
    bundles with delays              one matrix of weights, one of delays
    a first layer that gives each    input layer with a neuron: the image is its bias
    neuron its own pixel
    any other first layer            the codes of the image are graded spikes, every step the same

When lava-dl shows the spikes of which step, and how often it resets, see `snnc.frontend.netx`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np
from snnc.errors import Issue, Refusal, unreachable
from snnc.frontend.netx import notes as netx_notes
from snnc.frontend.netx.hdf5 import NOTES, h5py
from snnc.frontend.netx.notes import BundleNotes, Notes, PopulationNotes, Readout, Storage
from snnc.ir.check_program import check_program
from snnc.ir.files import write_bytes
from snnc.ir.program import (
    FORGET,
    Accumulator,
    Convolution,
    FullyConnected,
    Layer,
    Program,
)
from snnc.ir.weights import Csr, unpack
from snnc.semantics.neuron import ALIGN, CURRENT_MAX
from snnc.targets.api import Exporter, Usage

from snnc_targets.loihi.plan import message_bits
from snnc_targets.netx_limits import driven_by_bias, issues, merged


@final
class NetxExporter(Exporter):
    """Writes lava-dl's netx files."""

    name = "netx"
    summary = "lava-dl's HDF5 file of a network, which its netx runs with equal spikes"

    def issues(self, program: Program) -> Sequence[Issue]:
        """Return everything in the program that netx cannot express."""
        return issues(program)

    def write(self, program: Program, path: Path, *, force: bool) -> Usage:
        """Write the file; say how to call lava-dl's `Network`.

        Raises:
            MissingDependency: h5py is not installed.
            OutputExists, CannotWrite.
        """
        _write_file(program, path, force=force)
        facts = usage(program)
        network = ", ".join(f"{name}={value}" for name, value in arguments(program).items())
        lines = (
            "in lava-dl:",
            f"  hdf5.Network(net_config={str(path)!r}, {network})",
            f"  feed: {facts['feed']}",
            f"  read: {facts['read']}; sample k starts at step {facts['lag']} + k * "
            f"{program.steps}",
        )
        return Usage(facts=facts, lines=lines)


def write_netx(program: Program, path: Path, *, force: bool) -> Mapping[str, object]:
    """Write a program as a netx file; return how lava-dl has to be called to get its spikes.

    Raises:
        InvalidProgram: the program breaks a rule of the integer form.
        Refusal: lists everything in it that netx cannot express.
        MissingDependency: h5py is not installed.
        OutputExists, CannotWrite.
    """
    if found := issues(check_program(program)):
        raise Refusal("netx cannot express this program", found)
    _write_file(program, path, force=force)
    return usage(program)


def _write_file(program: Program, path: Path, *, force: bool) -> None:
    module = h5py()
    buffer = io.BytesIO()
    with module.File(buffer, "w") as file:
        layers = file.create_group("layer")
        _write(program, layers)
        file.create_dataset(NOTES, data=netx_notes.written(_notes(program)))
        file.create_dataset("simulation/Ts", data=1)
        file.create_dataset("simulation/tSample", data=program.steps)
    write_bytes(path, buffer.getvalue(), force=force)


def usage(program: Program) -> dict[str, object]:
    """Return the arguments of lava-dl's `Network`, what to feed it, and when to read it."""
    biased = driven_by_bias(program)
    lag = len(program.populations) + (0 if biased else 1)
    feed = "codes of the image, at every step, into port inp: (C, H, W) reversed to (W, H, C)"
    if biased:
        feed = "bias_mant of in_layer.neuron: weight * pixel, rounded, plus bias, both of layer/0"
    elif isinstance(program.populations[0].synapses[0].kind, FullyConnected):
        feed = "codes of the image, at every step, into port inp: flat, in (C, H, W) order"
    return {
        "network": arguments(program),
        "feed": feed,
        "read": "spikes of out_layer.neuron"
        if isinstance(program.populations[-1], Layer)
        else "v of out_layer.neuron, in units of 1/64, at the last step of a sample",
        "lag": lag,  # the first step of a sample is step `lag` at the output; lava-dl counts from 1
    }


def arguments(program: Program) -> dict[str, int]:
    """Return the arguments of lava-dl's `Network` beside the file."""
    biased = driven_by_bias(program)
    return {
        "input_message_bits": 0 if biased else message_bits(program.input),
        "reset_interval": program.steps,
        "reset_offset": 0 if biased else 1,
    }


def _write(program: Program, layers: Any) -> None:  # noqa: ANN401  (h5py has no types)
    entry = _group(layers, "input", program.input.shape)
    populations: Sequence[Layer | Accumulator] = program.populations
    shape = program.input.shape
    if driven_by_bias(program):
        first = program.layers[0]
        sign = int(unpack(first.synapses[0].weight).reshape(-1)[0])
        bias = int(first.bias[0]) - sign * int(program.input.zero_point[0])
        entry.create_dataset("weight", data=sign * program.input.levels)
        entry.create_dataset("bias", data=bias)
        _neuron(entry, first)
        populations, shape = populations[1:], first.shape
    for population in populations:
        kind = population.synapses[0].kind
        match kind:
            case Convolution():
                _conv(layers, population, kind, channels=shape[0])
            case FullyConnected():
                if len(shape) == 3:
                    _group(layers, "flatten", (prod(shape),))
                _dense(layers, population)
            case _:
                unreachable(kind)
        shape = population.shape


def _conv(
    layers: Any,  # noqa: ANN401
    population: Layer | Accumulator,
    kind: Convolution,
    *,
    channels: int,
) -> None:
    group = _group(layers, "conv", population.shape)
    weight = unpack(population.synapses[0].weight)
    fields = {
        "inChannels": channels,
        "outChannels": weight.shape[0],
        "kernelSize": weight.shape[2:],
        "stride": kind.stride,
        "padding": kind.padding,
        "dilation": (1, 1),
        "groups": kind.groups,
    }
    for name, value in fields.items():
        group.create_dataset(name, data=np.array(value, dtype=np.int64))
    _array(group, "weight", weight)
    _array(group, "bias", population.bias)
    _neuron(group, population)


def _dense(layers: Any, population: Layer | Accumulator) -> None:  # noqa: ANN401
    group = _group(layers, "dense", population.shape)
    weight, delay = merged(population.synapses)
    group.create_dataset("inFeatures", data=weight.shape[1])
    group.create_dataset("outFeatures", data=weight.shape[0])
    _array(group, "weight", weight)
    _array(group, "bias", population.bias)
    if delay.any():
        _array(group, "delay", delay)
    _neuron(group, population)


def _group(layers: Any, kind: str, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    group = layers.create_group(str(len(layers)))
    group.create_dataset("type", (1,), "S10", [kind.encode("ascii")])
    group.create_dataset("shape", data=np.array(shape, dtype=np.int64))
    return group


def _array(group: Any, name: str, values: np.ndarray[Any, Any]) -> None:  # noqa: ANN401
    group.create_dataset(name, data=values.astype(np.int32), compression="gzip", shuffle=True)


def _neuron(group: Any, population: Layer | Accumulator) -> None:  # noqa: ANN401
    match population:
        case Layer(threshold=threshold, decay=decay, current_decay=current_decay):
            vth = threshold >> ALIGN
        case Accumulator():
            vth, decay, current_decay = CURRENT_MAX, 0, FORGET
        case _:
            unreachable(population)
    neuron = group.create_group("neuron")
    neuron.create_dataset("type", data="CUBA")
    fields = {"iDecay": current_decay, "vDecay": decay, "vThMant": vth, "refDelay": 1}
    for name, value in fields.items():
        neuron.create_dataset(name, data=value)
    neuron.create_dataset("gradedSpike", data=False)


def _notes(program: Program) -> Notes:
    return Notes(
        levels=program.input.levels,
        zero_point=tuple(program.input.zero_point.tolist()),
        steps=program.steps,
        readout=Readout.MEMBRANE if isinstance(program.readout, Accumulator) else Readout.SPIKES,
        class_names=program.class_names,
        provenance=program.provenance,
        populations=tuple(
            PopulationNotes(
                name=population.name,
                scale=population.scale,
                bundles=tuple(
                    BundleNotes(
                        name=bundle.name,
                        delay=bundle.delay,
                        storage=Storage.SPARSE if isinstance(bundle.weight, Csr) else Storage.DENSE,
                    )
                    for bundle in population.synapses
                ),
            )
            for population in program.populations
        ),
    )


EXPORTER = NetxExporter()
