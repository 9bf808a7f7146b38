"""The loops of the fast simulator, compiled by numba around the vector code beside it.

What a layer emits is an array of bytes (channels, height, width, lanes / 8): a lane is one
sample at one step, step by step, and the samples of a step fill 1, 4 or 8 bytes.

A kernel does the jobs `first` to `last` and holds no lock of Python meanwhile, so ordinary
threads share the work. (numba's own threads would come from a second OpenMP next to
torch's: the two change each other's number of threads, and wait for work by spinning.)
"""

# vector code has no types
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from snnc.simulate.kernels.bits import WORDS, copy, transpose, weigh
from snnc.simulate.kernels.cache import kernel
from snnc.simulate.kernels.image import RUN, see
from snnc.simulate.kernels.neurons import fire_by_subtraction, fire_integers, fire_to_zero
from snnc.simulate.kernels.schedule import ALL
from snnc.simulate.kernels.sums import KINDS, accumulate, touch
from snnc.simulate.kernels.vectors import VECTOR, WIDE, WORD

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.signedinteger]
Schedule = tuple[Numbers, Numbers, Numbers, Numbers, Numbers, Numbers, int, int, int]


@kernel
def lay_out(
    first: int,  # a job is one channel
    last: int,
    emitted: Bytes,  # (channels, height, width, bytes of a pixel)
    memory: Bytes,  # written: padded maps of every phase, then their complements
    place: tuple[int, int, int],  # first byte, bytes to the complement, bytes of a delay
    stride: tuple[int, int],
    padding: tuple[int, int],
    padded: tuple[int, int],
) -> None:
    """Copy what a source emits into padded maps, a map for each phase of the stride."""
    _, height, width, pixel = emitted.shape
    start, half, late = place
    size = stride[0] * stride[1] * padded[0] * padded[1] * pixel
    for c in range(first, last):
        channel = start + c * size
        memory[channel : channel + size] = 0
        memory[channel + half : channel + half + size] = 255
        for y in range(height):
            row, phase_y = divmod(y + padding[0], stride[0])
            source = (c * height + y) * width * pixel
            if stride[1] == 1 and not late:
                at = channel + ((phase_y * padded[0] + row) * padded[1] + padding[1]) * pixel
                copy(emitted, memory, (source, at, half, width * pixel))
                continue
            for x in range(width):
                column, phase_x = divmod(x + padding[1], stride[1])
                phase = phase_y * stride[1] + phase_x
                at = channel + ((phase * padded[0] + row) * padded[1] + column) * pixel
                copy(emitted, memory, (source + x * pixel, at + late, half, pixel - late))


@kernel
def _sum(
    row: int,
    o: int,
    memory: Bytes,
    schedule: Schedule,
    planes: Bytes,  # (levels, bytes of a row), written
    scratch: Bytes,
) -> None:
    """Sum the currents of one row of one output map."""
    segments, lists, jumps, counts, sources, mixed, many, _, pixel = schedule
    levels, stride = planes.shape
    top, flat = len(scratch), planes.reshape(-1)
    for vector in range(stride // WIDE):
        for segment in range(segments[o], segments[o + 1]):
            final = segment + 1 == segments[o + 1]
            position = row * jumps[segment] + vector * WIDE
            accumulate(
                sources,
                mixed,
                counts,
                memory,
                scratch,
                flat if final else scratch,
                (
                    lists[segment, 0],
                    lists[segment, 1],
                    segment * levels * KINDS,
                    levels,
                    many,
                    position,
                    top,
                    pixel,
                ),
                (vector * WIDE, stride) if final else (top - 3 * WIDE, -WIDE),
            )


@kernel
def _scratch(slots: int) -> Bytes:
    """Return space for the carries of a segment, whose end is aligned."""
    space = np.zeros((slots + 2) * WIDE, dtype=np.uint8)
    surplus = (space.ctypes.data + len(space)) % WIDE
    scratch = space[: len(space) - surplus]
    scratch[len(scratch) - (ALL + 1) * WIDE : len(scratch) - ALL * WIDE] = 255
    return scratch


@kernel
def sliced(
    first: int,  # a job is one row of one output map
    last: int,
    emitted: Bytes,  # (out, rows, columns, bytes of a pixel), written
    doubtful: npt.NDArray[np.bool_],  # (jobs,), set where a membrane may saturate
    memory: Bytes,
    schedule: Schedule,  # with the bias
    lowered: Numbers,  # (levels,): the bits of -threshold, each as all bits or none
    guard: int,
    subtract: bool,
    samples: npt.NDArray[np.unsignedinteger],  # (1,): of the type that holds those of a step
) -> None:
    """Sum and fire neurons that do not leak, see `vectors_neurons.fire_to_zero`."""
    out, rows, columns, pixel = emitted.shape
    size = samples.itemsize
    steps, levels = pixel // size, len(lowered)
    width = -(-columns * pixel // WIDE) * WIDE
    stride = -(-columns * size // VECTOR) * VECTOR
    planes = np.zeros((levels + 8, width), dtype=np.uint8)[:levels]  # a transpose reaches past it
    by_pixel = planes.view(samples.dtype)
    currents = np.zeros((levels, steps, stride), dtype=np.uint8)
    by_step = currents.view(samples.dtype)
    spikes = np.zeros((steps, stride), dtype=np.uint8)
    spikes_by_step = spikes.view(samples.dtype)
    doubt = np.zeros(stride, dtype=np.uint8)
    state = np.zeros(levels * VECTOR, dtype=np.uint8)
    scratch = _scratch(schedule[7])
    for job in range(first, last):
        row, o = job // out, job % out
        _sum(row, o, memory, schedule, planes, scratch)
        if steps == 8 and size == 8:
            for level in range(levels):
                for x in range(0, columns, 8):
                    where = (level * width + x * 64, level * steps * stride + x * 8, stride)
                    transpose(planes, currents, where)
        else:
            for level in range(levels):
                for t in range(steps):
                    for x in range(columns):
                        by_step[level, t, x] = by_pixel[level, x * steps + t]
        for vector in range(0, stride, VECTOR):
            place = (levels, guard, steps, stride, vector)
            if subtract:
                fire_by_subtraction(currents, lowered, state, spikes, doubt, place)
            else:
                fire_to_zero(currents, lowered, state, spikes, doubt, place)
        doubtful[job] = doubt[: columns * size].any()  # past the columns are no neurons
        fired = emitted[o, row].view(samples.dtype)
        for x in range(columns):
            for t in range(steps):
                fired[x, t] = spikes_by_step[t, x]


@kernel
def integral(
    first: int,  # a job is one row of one output map
    last: int,
    jobs: Numbers,  # the jobs to do
    emitted: Bytes,  # (out, rows, columns, bytes of a pixel), written
    memory: Bytes,
    schedule: Schedule,  # with no level where no source spikes
    levels: int,
    images: tuple[Numbers, Numbers, Numbers, Numbers, int],  # codes, indptr, taps, weights, row
    bias: Numbers,  # (out,), added to the membrane; its type is that of all arithmetic
    neuron: tuple[int, int, int, int, int],
) -> None:
    """Sum and fire neurons of any kind, as `semantics.neuron.step` says.

    `neuron` is (4096 - current decay, 4096 - decay, threshold, bytes of a step,
    1 to subtract the threshold or 0).
    """
    out, _, columns, pixel = emitted.shape
    kept_u, kept_v, threshold, size, subtract = neuron
    width = -(-columns * pixel // WIDE) * WIDE
    planes = np.zeros((levels + 1, width), dtype=np.uint8)[:levels]  # a word reaches past it
    scratch = _scratch(schedule[7])
    image = np.zeros(columns * size * 8 + RUN, dtype=bias.dtype)  # a word and a run reach past
    for i in range(first, last):
        row, o = jobs[i] // out, jobs[i] % out
        if levels:
            _sum(row, o, memory, schedule, planes, scratch)
        _image(row, o, images, columns, size * 8, image)
        spikes = emitted[o, row]
        for x in range(columns):
            for byte in range(0, size, WORD // 8):
                at, sample = x * pixel + byte, (x * size + byte) * 8
                fire_integers(
                    planes,
                    image,
                    spikes,
                    (
                        *(levels, width, at, at, sample, pixel // size, size),
                        *(kept_u, kept_v, np.int64(bias[o]), threshold, subtract),
                    ),
                )


@kernel
def _image(
    row: int,
    o: int,
    images: tuple[Numbers, Numbers, Numbers, Numbers, int],
    columns: int,
    samples: int,  # of a pixel
    total: Numbers,  # (columns * samples and room for a run,), written
) -> None:
    """Sum the currents that an image causes at every step in one row of one output map."""
    codes, indptr, taps, weights, jump = images
    for first in range(0, columns * samples, RUN):
        start = row * jump * samples + first
        see(codes, taps, weights, total, (indptr[o], indptr[o + 1], start, samples, first))


@kernel
def touched(
    first: int,  # a job is one row of one output map
    last: int,
    outputs: Numbers,  # the output maps to look at
    reached: Bytes,  # (outputs, rows, columns, bytes of a pixel), added to
    memory: Bytes,
    indptr: Numbers,
    offsets: Numbers,  # int32
    jump: int,
) -> None:
    """Set the lanes at which some source of a neuron spikes."""
    number, _, columns, pixel = reached.shape
    width = -(-columns * pixel // VECTOR) * VECTOR
    line = np.zeros(width, dtype=np.uint8)
    for job in range(first, last):
        row, i = job // number, job % number
        o = outputs[i]
        for byte in range(0, width, VECTOR):
            touch(offsets, memory, line, (indptr[o], indptr[o + 1], row * jump + byte, byte))
        flat = reached[i, row].reshape(-1)
        for byte in range(len(flat)):
            flat[byte] |= line[byte]


@kernel
def weighed(
    first: int,  # a job is one part
    last: int,
    spikes: Bytes,  # (neurons * bytes of a pixel and room for a vector,)
    weights: Numbers,  # (neurons,), int32
    pixel: int,
    limit: int,  # neurons whose weights an int32 can add up
    sums: Numbers,  # (parts, lanes and room for 128), int64, added to
) -> None:
    """Add up the weights of the neurons that spike at each lane, in separate sums."""
    neurons, parts = len(weights), len(sums)
    partial = np.zeros(sums.shape[1], dtype=np.int32)
    tile = min(limit, 512)
    for part in range(first, last):
        start, end = neurons * part // parts, neurons * (part + 1) // parts
        for begin in range(start, end, tile):
            partial[:] = 0
            for lane in range(0, pixel * 8, WORD * WORDS):
                place = (begin, min(begin + tile, end), pixel, lane // 8, lane)
                weigh(spikes, weights, partial, place)
            for lane in range(len(partial)):
                sums[part, lane] += partial[lane]
