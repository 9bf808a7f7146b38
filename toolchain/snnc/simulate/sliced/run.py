"""One chunk of samples on its way through a program, layer by layer over all steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Accumulator, Layer, Program
from snnc.ir.weights import IntArray
from snnc.semantics.neuron import DECAY_BITS, V_MAX
from snnc.simulate import reference
from snnc.simulate.activity import read_out
from snnc.simulate.sliced.counts import FanOuts, events, per_lane, updated
from snnc.simulate.sliced.emitted import Emitted, blank, flags, from_flags
from snnc.simulate.sliced.layout import Layout
from snnc.simulate.sliced.plan import ROOM, Integral, Plain, Plan, Sliced, Wiring, neurons
from snnc.simulate.sliced.work import Work
from snnc.simulate.trace import LayerTrace, Spikes, SynapseTrace, Trace

Bytes = npt.NDArray[np.uint8]
Planned = Callable[[Layer], Iterator[Plan]]  # plans of parts of a layer, channel by channel


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One chunk of samples and what its run needs."""

    work: Work
    program: Program
    codes: IntArray  # (samples, *shape)
    size: int  # bytes that hold the samples of a step
    space: Bytes  # for the memory that a layer reads
    leaving: FanOuts

    def trace(self, planned: Planned, raster: bool, counts: bool) -> Trace:
        """Run every layer and the readout."""
        program, samples = self.program, len(self.codes)
        emitted: dict[str, Emitted] = {}
        layers: list[LayerTrace] = []
        synapses: list[SynapseTrace] = []
        if counts:
            shown = np.broadcast_to(
                (self.codes != 0)[:, None], (samples, program.steps, *program.input.shape)
            )
            emitted[INPUT] = from_flags(shown, self.size)
        rasters: dict[str, Spikes] = {}
        for population in program.populations:
            if isinstance(population, Layer):
                emitted[population.name] = self._layer(population, planned, emitted)
            if counts:
                synapses += events(self.work, program, population, emitted, self.leaving, samples)
            if isinstance(population, Layer) and counts:
                layers.append(self._layer_trace(population, emitted, raster))
            if isinstance(population, Accumulator) or population is program.layers[-1]:
                rasters.update(self._flags(_last_sources(program), emitted))
            for name in _finished(program, population.name, emitted):
                del emitted[name]
        logits = read_out(program, self.codes, rasters)
        return Trace(
            predictions=logits.argmax(axis=1),
            logits=logits,
            layers=tuple(layers),
            synapses=tuple(synapses),
            steps=program.steps,
        )

    def _flags(self, names: Sequence[str], emitted: Mapping[str, Emitted]) -> dict[str, Spikes]:
        return {
            name: flags(emitted[name], self.size, len(self.codes))
            for name in names
            if name in emitted
        }

    def _layer_trace(
        self, layer: Layer, emitted: Mapping[str, Emitted], raster: bool
    ) -> LayerTrace:
        samples = len(self.codes)
        spikes = per_lane(self.work, emitted[layer.name], np.ones(layer.size, np.int64))
        return LayerTrace(
            name=layer.name,
            neurons=layer.size,
            spikes=spikes.reshape(self.program.steps, -1)[:, :samples].T,
            updated=updated(self.work, self.program, layer, emitted, samples),
            raster=flags(emitted[layer.name], self.size, samples) if raster else None,
        )

    def _layer(self, layer: Layer, planned: Planned, emitted: Mapping[str, Emitted]) -> Emitted:
        """Return what a layer emits."""
        result, first = blank(layer.shape, self.program.steps * self.size), 0
        for part in planned(layer):
            last = first + part.layer.shape[0]
            self._part(part, emitted, result.bits[first:last])
            first = last
        return result

    def _part(self, plan: Plan, emitted: Mapping[str, Emitted], result: Bytes) -> None:
        """Write what some channels of a layer emit (channels, rows, columns, bytes)."""
        match plan:
            case Sliced():
                self._sliced(plan, emitted, result)
            case Integral():
                memory = _lay_out(self.work, plan.wiring, emitted, self.size, self.space)
                channels, rows, _ = neurons(plan.layer)
                self._integral(plan, memory, np.arange(channels * rows), result)
            case Plain(layer=layer):
                sources = [bundle.source for bundle in layer.synapses if bundle.source != INPUT]
                rasters = self._flags(sources, emitted)
                drive = reference.drive(self.program, layer, self.codes, rasters)
                result[:] = from_flags(reference.fire(layer, drive), self.size).bits
            case _:
                unreachable(plan)

    def _sliced(self, plan: Sliced, emitted: Mapping[str, Emitted], result: Bytes) -> None:
        layer, wiring = plan.layer, plan.wiring
        memory = _lay_out(self.work, wiring, emitted, self.size, self.space)
        channels, rows, _ = neurons(layer)
        doubtful = np.zeros(channels * rows, dtype=np.bool_)
        self.work.share(
            self.work.kernels.sliced,
            len(doubtful),
            result,
            doubtful,
            memory,
            wiring.schedule,
            plan.lowered,
            plan.guard,
            layer.reset is Reset.SUBTRACT,
            np.zeros(1, dtype=f"u{self.size}"),
        )
        if doubtful.any():
            again = Integral(layer=layer, wiring=wiring, bias=np.zeros(channels, dtype=np.int64))
            self._integral(again, memory, np.flatnonzero(doubtful), result)

    def _integral(
        self,
        plan: Integral,
        memory: Bytes,
        jobs: npt.NDArray[np.int64],
        result: Bytes,
    ) -> None:
        """Run some rows as integers."""
        layer, wiring = plan.layer, plan.wiring
        self.work.share(
            self.work.kernels.integral,
            len(jobs),
            jobs,
            result,
            memory,
            wiring.schedule,
            wiring.levels,
            self._image(wiring.image, layer.shape[0]),
            plan.bias,
            (
                (1 << DECAY_BITS) - layer.current_decay,
                (1 << DECAY_BITS) - layer.decay,
                min(layer.threshold, V_MAX + 1),
                self.size,
                int(layer.reset is Reset.SUBTRACT),
            ),
        )

    def _image(self, image: Layout | None, outputs: int) -> tuple[object, ...]:
        """Return the image as `kernels.integral` reads it: padded, samples last."""
        if image is None:
            none = np.zeros(0, dtype=np.int32)
            return none, np.zeros(outputs + 1, np.int64), none, none, 0
        geometry = image.geometry
        channels, height, width = geometry.source
        (step_y, step_x), (rows, columns) = geometry.stride, geometry.padded
        (pad_y, pad_x), samples = geometry.padding, len(self.codes)
        codes = np.zeros(geometry.pixels * self.size * 8 + ROOM, np.int32)  # a run reaches past
        phases = codes[:-ROOM].reshape(channels, step_y, step_x, rows, columns, -1)
        shown = np.moveaxis(self.codes.reshape(samples, *geometry.source), 0, -1)
        padded = np.zeros((channels, rows * step_y, columns * step_x, samples), dtype=np.int32)
        padded[:, pad_y : pad_y + height, pad_x : pad_x + width] = shown
        by_phase = padded.reshape(channels, rows, step_y, columns, step_x, samples)
        phases[..., :samples] = by_phase.transpose(0, 2, 4, 1, 3, 5)
        return (
            codes,
            np.array(image.indptr, dtype=np.int64),
            np.array(image.taps, dtype=np.int32),
            np.array(image.weight, dtype=np.int32),
            columns,
        )


def _lay_out(
    work: Work, wiring: Wiring, emitted: Mapping[str, Emitted], size: int, space: Bytes
) -> Bytes:
    """Return the memory that a layer reads, a part of `space`."""
    memory = space[: wiring.memory]
    memory[wiring.memory - ROOM :] = 0
    for place in wiring.places:
        source, at = emitted[place.source], place.geometry
        bits = source.bits.reshape(*at.source, source.pixel)
        late = min(place.delay * size, source.pixel)
        work.share(
            work.kernels.lay_out,
            at.source[0],
            bits,
            memory,
            (place.start, place.half, late),
            at.stride,
            at.padding,
            at.padded,
        )
    return memory


def _last_sources(program: Program) -> list[str]:
    """Return the layers that the logits are read from."""
    if isinstance(program.readout, Accumulator):
        return [bundle.source for bundle in program.readout.synapses]
    return [program.layers[-1].name]


def _finished(program: Program, name: str, emitted: Mapping[str, Emitted]) -> list[str]:
    """Return the sources that nothing after a population reads."""
    names = [population.name for population in program.populations]
    after = program.populations[names.index(name) + 1 :]
    needed = {bundle.source for population in after for bundle in population.synapses}
    return [source for source in emitted if source not in needed]
