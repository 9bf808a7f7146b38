"""Where cores lie on the mesh, how far spikes travel, and how to shorten it.

Cores are laid in layer order along a snake of tiles through each chip, chip after chip in one
row. With spike counts, pairs of cores are then swapped as long as that lowers

    sum over pairs of cores (messages x hops),   hops = |columns apart| + |rows apart|

One spike sends one message to every core that holds a synapse of its neuron. That chips form a
row and how many tiles they have is a model, see `tile_columns` of a chip's file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from snnc.energy.count import Routing
from snnc.ir.program import FullyConnected

from snnc_targets.loihi.cores.chip import Chip, Constant
from snnc_targets.loihi.cores.partition import Partition
from snnc_targets.loihi.cores.tiles import Box, Wiring, fan_out, window

FloatArray = npt.NDArray[np.float64]
SWEEPS = 10  # over all cores; most gains come in the first


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for a core."""

    chip: int
    column: int  # of its tile, on this chip
    row: int
    core: int  # within its tile


@dataclass(frozen=True, kw_only=True)
class Hops:
    """How far the messages of a run travel between tiles."""

    messages: float
    east_west: float
    north_south: float

    @property
    def total(self) -> float:
        """All hops."""
        return self.east_west + self.north_south


def routing(found: Partition, spikes: Mapping[str, FloatArray]) -> Routing:
    """Return the hops of one inference, what an energy report lacks; `spikes` as for `traffic`.

    Cores lie where `improved` puts them for these spikes.
    """
    messages = traffic(found, spikes)
    places = improved(found.chip, slots(found.chip, found.cores), messages)
    way = hops(found.chip, places, messages)
    return Routing(hops_ew=way.east_west, hops_ns=way.north_south)


def slots(chip: Chip, cores: int) -> tuple[Slot, ...]:
    """Return so many slots along the snake: rows of tiles, every other one backwards."""
    columns, per_tile = (
        chip.constant(each) for each in (Constant.TILE_COLUMNS, Constant.CORES_PER_TILE)
    )
    found = []
    for index in range(cores):
        on_chip, place = divmod(index, chip.constant(Constant.CORES_PER_CHIP))
        tile, core = divmod(place, per_tile)
        row, column = divmod(tile, columns)
        along = column if row % 2 == 0 else columns - 1 - column
        found.append(Slot(chip=on_chip, column=along, row=row, core=core))
    return tuple(found)


def traffic(found: Partition, spikes: Mapping[str, FloatArray]) -> FloatArray:
    """Return the messages from each core to each other: (cores, cores).

    `spikes` holds for each spiking population the number of spikes of each neuron, of the
    population's shape; cores are numbered in layer order.
    """
    starts, count = {}, 0
    for cut in found.cuts:
        starts[cut.name] = count
        count += len(cut.cores)
    messages = np.zeros((count, count))
    by_name = {cut.name: cut for cut in found.cuts}
    for reader in found.cuts:
        for bundle in reader.wirings:
            if bundle.source not in starts:
                continue  # the image comes from outside
            source = by_name[bundle.source]
            counts = spikes[bundle.source].reshape(source.shape)
            for j, core in enumerate(reader.cores):
                sent = _sent(bundle, core.box, counts)
                for i, sender in enumerate(source.cores):
                    row, column = starts[source.name] + i, starts[reader.name] + j
                    messages[row, column] += sent[sender.box.slices].sum()
    return messages


def _sent(bundle: Wiring, box: Box, spikes: FloatArray) -> FloatArray:
    """Return the spikes that go to the core of a box, at their neurons."""
    if isinstance(bundle.kind, FullyConnected):
        return np.where(fan_out(bundle, box) > 0, spikes, 0.0)
    sent = np.zeros_like(spikes)
    read = window(bundle, box).slices
    sent[read] = spikes[read]
    return sent


def hops(chip: Chip, places: tuple[Slot, ...], messages: FloatArray) -> Hops:
    """Return how far messages (cores, cores) travel when core i lies at places[i]."""
    x, y = _coordinates(chip, places)
    return Hops(
        messages=float(messages.sum()),
        east_west=float((messages * np.abs(x[:, None] - x)).sum()),
        north_south=float((messages * np.abs(y[:, None] - y)).sum()),
    )


def improved(chip: Chip, places: tuple[Slot, ...], messages: FloatArray) -> tuple[Slot, ...]:
    """Return places with fewer hops: for each core in turn, its best swap with any other.

    Ends when a sweep over all cores finds none, or after `SWEEPS`. The same input gives the same
    places.
    """
    x, y = _coordinates(chip, places)
    far = np.abs(x[:, None] - x) + np.abs(y[:, None] - y)  # between slots
    both = messages + messages.T
    at = np.arange(len(places))  # the slot of each core
    for _ in range(SWEEPS):
        if not any(list(_swaps(far, both, at))):
            break
    return tuple(places[slot] for slot in at)


def _swaps(far: FloatArray, both: FloatArray, at: npt.NDArray[np.int64]) -> Iterator[bool]:
    """Swap each core with the one that lowers the sum most, in place; yield whether it did."""
    for core in range(len(at)):
        near = far[at][:, at]
        now = (both * near).sum(axis=1)  # the part of the sum that each core has
        mine = near @ both[core]  # of this core, in every other's slot
        theirs = both @ near[core]  # of every other, in this core's slot
        change = mine - now[core] + theirs - now + 2 * both[core] * near[core]
        change[core] = 0.0
        other = int(change.argmin())
        worth_it = bool(change[other] < -1e-9)
        if worth_it:
            at[core], at[other] = at[other], at[core]
        yield worth_it


def _coordinates(chip: Chip, places: tuple[Slot, ...]) -> tuple[FloatArray, FloatArray]:
    columns = chip.constant(Constant.TILE_COLUMNS)
    x = np.array([slot.chip * columns + slot.column for slot in places], dtype=np.float64)
    return x, np.array([slot.row for slot in places], dtype=np.float64)
