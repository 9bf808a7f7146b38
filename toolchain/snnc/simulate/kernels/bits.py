"""Moving and counting the bits that neurons emit, in vector code."""

# values of numba and of LLVM have no types
# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False, disallow-untyped-calls=False
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from snnc.simulate.kernels.vectors import (
    I32,
    I64,
    INTEGERS,
    MASK,
    PLANE,
    VECTOR,
    WORD,
    Code,
    compiled,
)

WORDS = 4  # words whose spikes are weighed together


@compiled
def copy(typingctx, source, memory, place):
    """Copy bytes, and write their complement beside them.

    `place` is (first byte of the source, first byte of the copy, bytes from it to the
    complement, number).
    """
    signature = types.void(source, memory, place)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        source, memory = code.data(signature, arguments)
        first, target, half, number = cgutils.unpack_tuple(builder, arguments[2], 4)
        at = code.variable(builder.add(source, first))
        to = code.variable(builder.add(memory, target))
        eight = ir.IntType(8)
        for kind, size in ((PLANE, VECTOR), (eight, 1)):
            count = builder.sdiv(number, I64(VECTOR))
            if kind is eight:
                count = builder.srem(number, I64(VECTOR))
            with code.times(count):
                value = code.load(code.advance(at, I64(size)), kind)
                place = code.advance(to, I64(size))
                code.store(value, place)
                code.store(builder.not_(value), builder.add(place, half))
        return context.get_dummy_value()

    return signature, codegen


@compiled
def transpose(typingctx, by_pixel, by_step, place):
    """Write 8 pixels of 8 steps of 8 bytes as 8 steps of 8 pixels.

    `place` is (first byte of the pixels, first byte of step 0, bytes from step to step).
    """
    signature = types.void(by_pixel, by_step, place)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        by_pixel, by_step = code.data(signature, arguments)
        first, target, stride = cgutils.unpack_tuple(builder, arguments[2], 3)
        at = builder.add(by_pixel, first)
        rows = [code.load(builder.add(at, I64(VECTOR * i)), PLANE) for i in range(8)]
        for span in (1, 2, 4):  # exchange blocks of `span` entries beside the diagonal
            swapped = list(rows)
            for i in range(8):
                if i & span:
                    continue
                a, b = rows[i], rows[i + span]
                low = [j if not j & span else 8 + j - span for j in range(8)]
                high = [j + span if not j & span else 8 + j for j in range(8)]
                for target_row, order in ((i, low), (i + span, high)):
                    mask = ir.Constant(ir.VectorType(I32, 8), order)
                    swapped[target_row] = builder.shuffle_vector(a, b, mask)
            rows = swapped
        to = builder.add(by_step, target)
        for i, row in enumerate(rows):
            code.store(row, builder.add(to, builder.mul(stride, I64(i))))
        return context.get_dummy_value()

    return signature, codegen


@compiled
def weigh(typingctx, spikes, weights, out, place):
    """Add the weight of each neuron to the sums of the 128 lanes at which it spikes.

    `spikes` (neurons, stride) are bytes, `weights` and `out` 32-bit integers. `place` is
    (first neuron, past the last, stride, first byte of a row, first of `out`).
    """
    signature = types.void(spikes, weights, out, place)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        spikes, weights, out = code.data(signature, arguments)
        first, last, stride, byte, target = cgutils.unpack_tuple(builder, arguments[3], 5)
        start = builder.add(builder.mul(first, stride), byte)
        at, of = code.variable(builder.add(spikes, start)), code.after(weights, first, 4)
        places = [builder.add(code.after(out, target, 4), I64(4 * WORD * i)) for i in range(WORDS)]
        sums = [code.variable(code.load(place, INTEGERS)) for place in places]
        with code.times(builder.sub(last, first)) as neuron:
            weight = code.load(code.after(of, neuron.index, 4), I32)
            weight = code.repeated(weight, INTEGERS)
            row = code.advance(at, stride)
            for i, slot in enumerate(sums):
                mask = code.load(builder.add(row, I64(i * WORD // 8)), I32)
                old = builder.load(slot)
                new = builder.add(old, weight)
                builder.store(builder.select(builder.bitcast(mask, MASK), new, old), slot)
        for slot, place in zip(sums, places, strict=True):
            code.store(builder.load(slot), place)
        return context.get_dummy_value()

    return signature, codegen
