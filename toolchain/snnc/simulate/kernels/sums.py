"""Sums of weights over bit vectors: bit-sliced, plane by plane.

A weight is a sum of signed powers of two. A source vector is added at the planes of the
digits of its weight, in the order that `schedule` wrote; eight inputs of a plane hand
one carry three planes up (the carry-save adders of Harley and Seal; Mula, Kurz and Lemire,
*Faster population counts using AVX2 instructions*, The Computer Journal 61, 2018).
"""

# values of numba and of LLVM have no types
# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False, disallow-untyped-calls=False
# ruff: noqa: ANN001, ANN201, ANN202, ANN401

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from snnc.simulate.kernels.vectors import I64, NONE, PLANE, PLANES, WIDE, Code, compiled

BLOCK = 8  # inputs that one carry takes three planes up
FEW = 4  # inputs of the smaller block, in high planes
KINDS = 3  # of blocks that are counted: of sources, of sources to subtract, of any inputs
NOTHING = ir.Constant(PLANES, None)


class _Adder:
    """Three planes that roll upward, and the carries that leave them."""

    def __init__(self, code: Code, carries: Any) -> None:
        self.code = code
        self.planes = [code.variable(NOTHING) for _ in range(3)]
        self.next = code.variable(carries)  # the next carry goes below this address

    def add(self, inputs: list[Any], *, opposed: bool = False) -> None:
        """Add 4 or 8 vectors, or their complements; store what they carry past the planes."""
        code, rising = self.code, inputs
        for plane in self.planes:
            if len(rising) == 1:
                rising = [code.half_add(plane, rising[0])]
            else:
                pairs = zip(rising[::2], rising[1::2], strict=True)
                rising = [code.full_add(plane, x, y, opposed=opposed) for x, y in pairs]
            opposed = False  # the carries are as they should be
        code.advance(self.next, I64(-WIDE))
        code.store(rising[0], code.build.load(self.next))

    def roll(self) -> Any:
        """Return the lowest plane, which is finished; the others move down."""
        low, middle, high = (self.code.build.load(plane) for plane in self.planes)
        for value, plane in zip((middle, high, NOTHING), self.planes, strict=True):
            self.code.build.store(value, plane)
        return low


@compiled
def accumulate(typingctx, sources, mixed, counts, memory, scratch, out, place, result):
    """Add up the planes of one segment of a schedule (`schedule`) at one position.

    `place` is (first source, first mixed input, first count, levels, levels of many inputs,
    position, end of the scratch in bytes, bytes of a pixel), `result` (first byte of plane 0
    in `out`, bytes from plane to plane).
    """
    signature = types.void(sources, mixed, counts, memory, scratch, out, place, result)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        sources, mixed, counts, memory, scratch, out = code.data(signature, arguments)
        source, input_, count, levels, many, position, end, pixel = cgutils.unpack_tuple(
            builder, arguments[6], 8
        )
        bits = signature.args[0].dtype.bitwidth  # of a source: 16 without a sign, or 32
        size = bits // 8
        plane, stride = cgutils.unpack_tuple(builder, arguments[7], 2)
        memory, top = builder.add(memory, position), builder.add(scratch, end)
        reserved = builder.mul(builder.add(levels, I64(2)), I64(WIDE))
        adder = _Adder(code, builder.sub(top, reserved))
        at_source = code.variable(code.after(sources, source, size))
        at_mixed = code.variable(code.after(mixed, input_, 4))
        at_count = code.variable(code.after(counts, count, 4))
        at_plane = code.variable(builder.add(out, plane))

        def of_source(address: Any, i: int) -> Any:
            number = code.load(builder.add(address, I64(size * i)), ir.IntType(bits))
            offset = builder.mul(builder.zext(number, I64), pixel)
            return code.load(builder.add(memory, offset), PLANES)

        def of_any_kind(address: Any, i: int) -> Any:
            offset = code.number(address, i)
            kept = builder.icmp_signed("<", offset, I64(0))
            return code.load(builder.add(builder.select(kept, top, memory), offset), PLANES)

        def add_mixed(size: int) -> None:
            at = code.advance(at_mixed, I64(4 * size))
            adder.add([of_any_kind(at, i) for i in range(size)])

        with code.times(many):
            numbers = code.advance(at_count, I64(4 * KINDS))
            for kind in (0, 1):
                with code.times(code.number(numbers, kind)):
                    at = code.advance(at_source, I64(size * BLOCK))
                    adder.add([of_source(at, i) for i in range(BLOCK)], opposed=kind == 1)
            with code.times(code.number(numbers, 2)):
                add_mixed(BLOCK)
            code.store(adder.roll(), code.advance(at_plane, stride))
        with code.times(builder.sub(levels, many)):
            add_mixed(FEW)
            code.store(adder.roll(), code.advance(at_plane, stride))
        return context.get_dummy_value()

    return signature, codegen


@compiled
def touch(typingctx, offsets, memory, out, place):
    """Store in `out` the disjunction of the vectors at some offsets.

    `place` is (first offset, past the last, position, first byte of `out`).
    """
    signature = types.void(offsets, memory, out, place)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        offsets, memory, out = code.data(signature, arguments)
        first, last, position, target = cgutils.unpack_tuple(builder, arguments[3], 4)
        memory, found = builder.add(memory, position), code.variable(NONE)
        at = code.variable(code.after(offsets, first, 4))
        with code.times(builder.sub(last, first)):
            offset = code.number(code.advance(at, I64(4)))
            vector = code.load(builder.add(memory, offset), PLANE)
            builder.store(builder.or_(builder.load(found), vector), found)
        code.store(builder.load(found), builder.add(out, target))
        return context.get_dummy_value()

    return signature, codegen
