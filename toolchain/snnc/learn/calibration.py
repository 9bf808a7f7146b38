"""Calibration batches on their way through a spiking network, one layer after the other.

A layer is passed once its threshold is set. Of the layers that were passed, only their
spikes are kept, eight to the byte, and only until the last segment that reads them; what
stands between two spiking layers is computed again for as many samples at once as a fixed
amount of memory holds. So neither time steps nor samples nor depth decide how much memory
a calibration takes beyond

    T * samples * neurons / 8 bytes     of the layers that are still read
    `MEMORY`                            for values that would else be computed again
    a few times `CHUNK`                 for the samples at work, of which there is at least one
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx

from snnc.errors import TrainingFailed, unreachable
from snnc.ir.graph import Granularity
from snnc.learn.calibration_moments import Moments
from snnc.learn.calibration_segments import Segment, row_shapes, segments
from snnc.learn.calibration_spikes import PackedSpikes
from snnc.learn.percentile import KEPT, stream
from snnc.learn.spiking import SpikingNetwork
from snnc.learn.views import eval_view

CHUNK = 1 << 24  # bytes of the largest value at work: glibc gives larger ones back every time
CHUNK_GPU = 1 << 28  # fewer, larger kernels
MEMORY = 1 << 30  # bytes of values that are kept from one look at a batch to the next


class Calibration:
    """A spiking network in the middle of being calibrated on batches of images.

    For each of its layers in order, ask for `percentiles`, set the threshold, then `pass_on`.
    The network's thresholds are read, nothing of it is written.

    Batch norm normalises with the statistics of the batch at hand, over steps and samples.

    `chunk` (of the largest value at work, at least one sample; None for what suits the
    device) and `memory` are bytes, `kept` is that of `percentile.stream`. They change what a
    calibration takes and, up to the rounding of sums, not what it finds.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        batches: Sequence[Tensor],
        *,
        steps: int,
        chunk: int | None = None,
        memory: int = MEMORY,
        kept: int = KEPT,
    ) -> None:
        watched = eval_view(network)
        self._body = watched.body
        for fire in watched.fires.values():
            fire.steps = 1
        self._shapes = row_shapes(self._body, batches[0][:1])
        self._segments = {str(s.fire.target): s for s in segments(self._body, self._shapes)}
        self._fires = watched.fires
        for fire in watched.fires.values():
            fire.steps = steps
        self._batches = batches
        self._steps = steps
        on_cpu = batches[0].device.type == "cpu"
        self._chunk = (CHUNK if on_cpu else CHUNK_GPU) if chunk is None else chunk
        self._memory, self._limit = memory, kept
        self._spikes: dict[tuple[fx.Node, int], PackedSpikes] = {}
        self._moments: list[dict[fx.Node, tuple[Tensor, Tensor]]] = [{} for _ in batches]
        self._kept: dict[tuple[int, int], dict[fx.Node, Tensor]] = {}  # by batch, first sample
        self.error = 0.0  # the largest relative error of a percentile so far
        self.peak_spikes = 0  # the most bytes of spikes that were kept at one time

    @torch.no_grad()
    def percentiles(self, name: str, rho: float) -> Tensor:
        """Return, for each threshold of a layer, the largest percentile over the batches.

        The shape is that of the layer's threshold. The percentile of one batch is taken over
        the currents of all steps, samples and neurons that share the threshold.

        Raises:
            TrainingFailed: a current is not finite; the text names the layer and the batch.
            InvalidSetting: as `percentile.stream`.
        """
        segment, fire = self._segments[name], self._fires[name]
        largest = torch.tensor(-torch.inf)
        for batch, images in enumerate(self._batches):
            self._take_moments(segment, batch)
            rows = fire.threshold.numel()
            numbers = len(images) * self._steps_of(segment) * self._shapes[segment.current].numel()
            found = stream(rows=rows, count=numbers // rows, rho=rho, kept=self._limit)
            for samples in self._chunks(segment, batch):
                current = self._current(segment, batch, samples)
                if not bool(current.isfinite().all()):
                    raise TrainingFailed(
                        f"balance: layer {name} gets a current that is not finite in calibration "
                        f"batch {batch + 1}; train the network again with a lower rate"
                    )
                found.add(shared(current, fire.granularity))
            largest = torch.maximum(largest.to(images), found.result().to(images))
            self.error = max(self.error, found.error)
            self._make_room(batch)
        return largest.reshape(fire.threshold.shape)

    @torch.no_grad()
    def pass_on(self, name: str) -> None:
        """Let a layer spike at the threshold that it has now, for the layers after it."""
        segment, fire = self._segments[name], self._fires[name]
        later = list(self._segments.values())[list(self._segments).index(name) + 1 :]
        alive = {node for other in later for node in other.spikes}
        for batch, images in enumerate(self._batches):
            if segment.fire in alive:
                packed = PackedSpikes(
                    samples=len(images),
                    steps=self._steps,
                    shape=self._shapes[segment.fire],
                    device=images.device,
                )
                for samples in self._chunks(segment, batch):
                    current = self._current(segment, batch, samples)
                    if not segment.spikes:
                        current = current.repeat(self._steps, *(1,) * (current.dim() - 1))
                    packed.write(samples, fire(current))
                self._spikes[segment.fire, batch] = packed
            self._count_spikes()
            for node in segment.spikes:
                if node not in alive:
                    del self._spikes[node, batch]
        self._kept.clear()

    def _take_moments(self, segment: Segment, batch: int) -> None:
        """Find the statistics of a segment's batch norms, and let them use this batch's."""
        self._use_moments(batch)
        for number, level in enumerate(segment.levels):
            moments = {norm: Moments() for norm in level}
            for samples in self._chunks(segment, batch):
                values = self._head(segment, number, batch, samples)
                for norm, moment in moments.items():
                    moment.add(values[norm.all_input_nodes[0]])
            for norm, moment in moments.items():
                self._moments[batch][norm] = moment.result(self._batches[batch].dtype)
            self._use_moments(batch)

    def _use_moments(self, batch: int) -> None:
        for node, (mean, variance) in self._moments[batch].items():
            norm = self._body.get_submodule(str(node.target))
            norm.running_mean, norm.running_var = mean, variance

    def _current(self, segment: Segment, batch: int, samples: slice) -> Tensor:
        """Return the current of some samples, (steps * n, ...)."""
        self._use_moments(batch)
        last = len(segment.heads) - 1
        values = self._head(segment, last, batch, samples)
        ends = [node for node in segment.tail.reads if node not in values]
        values = {**values, **self._ends(segment, ends, batch, samples)}
        return segment.tail.run(values)[segment.current]

    def _head(
        self, segment: Segment, number: int, batch: int, samples: slice
    ) -> dict[fx.Node, Tensor]:
        """Return what a head gives for some samples; remember what the last one gives."""
        head = segment.heads[number]
        if (known := self._kept.get((batch, samples.start))) and head is segment.heads[-1]:
            return known
        values = head.run(self._ends(segment, head.reads, batch, samples))
        size = sum(value.nbytes for value in values.values())
        if head is segment.heads[-1] and self._kept_bytes() + size <= self._memory:
            self._kept[batch, samples.start] = values
        return values

    def _ends(
        self, segment: Segment, nodes: Sequence[fx.Node], batch: int, samples: slice
    ) -> dict[fx.Node, Tensor]:
        """Return images and spikes of some samples, for all steps that the segment needs."""
        images = self._batches[batch][samples]
        repeats = (self._steps_of(segment), *(1,) * (images.dim() - 1))
        return {
            node: images.repeat(repeats)
            if node.op == "placeholder"
            else self._spikes[node, batch].read(samples, images.dtype)
            for node in nodes
        }

    def _steps_of(self, segment: Segment) -> int:
        """Return T, or 1 if nothing spikes before: direct coding drives all steps alike."""
        return self._steps if segment.spikes else 1

    def _chunks(self, segment: Segment, batch: int) -> Iterator[slice]:
        images = self._batches[batch]
        bytes_each = self._steps * segment.largest * images.element_size()
        size = max(1, self._chunk // bytes_each)
        for start in range(0, len(images), size):
            yield slice(start, min(start + size, len(images)))

    def _kept_bytes(self) -> int:
        return sum(v.nbytes for values in self._kept.values() for v in values.values())

    def _make_room(self, batch: int) -> None:
        """Forget a batch's values unless there is memory for one more such batch beside it."""
        mine = [key for key in self._kept if key[0] == batch]
        size = sum(v.nbytes for key in mine for v in self._kept[key].values())
        if batch + 1 < len(self._batches) and self._kept_bytes() + size > self._memory:
            for key in mine:
                del self._kept[key]

    def _count_spikes(self) -> None:
        held = sum(packed.nbytes for packed in self._spikes.values())
        self.peak_spikes = max(self.peak_spikes, held)


def shared(current: Tensor, granularity: Granularity) -> Tensor:
    """Return currents (rows, ...) as (thresholds, currents that share the threshold)."""
    match granularity:
        case Granularity.LAYER:
            return current.reshape(1, -1)
        case Granularity.CHANNEL:
            return current.transpose(0, 1).flatten(1)
        case Granularity.NEURON:
            return current.flatten(1).transpose(0, 1)
        case _:
            unreachable(granularity)
