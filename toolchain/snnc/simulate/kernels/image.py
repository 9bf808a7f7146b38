"""Sums of weights over the numbers of an image, which are the same at every step."""

# values of numba and of LLVM have no types
# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False, disallow-untyped-calls=False
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from snnc.simulate.kernels.vectors import I64, INTEGERS, WORD, Code, compiled

RUN = 128  # sums that stay in registers together


@compiled
def see(typingctx, codes, taps, weights, out, place):
    """Store what an image adds to the current of a neuron, in a run of 128 samples.

    Where a pixel has fewer samples, the run goes on in the pixels to its right, for the neurons
    to the right. Arithmetic is that of the type of `out`; `codes`, `taps` (pixels) and `weights`
    are 32-bit integers. `place` is (first tap, past the last, first code of tap 0, codes of a
    pixel, first of `out`).
    """
    signature = types.void(codes, taps, weights, out, place)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        codes, taps, weights, out = code.data(signature, arguments)
        first, last, start, pixel, target = cgutils.unpack_tuple(builder, arguments[4], 5)
        bits = signature.args[3].dtype.bitwidth
        one, kind = ir.IntType(bits), ir.VectorType(ir.IntType(bits), WORD)
        codes, size = code.after(codes, start, 4), builder.mul(pixel, I64(4))
        tap = code.variable(code.after(taps, first, 4))
        weight = code.variable(code.after(weights, first, 4))
        sums = [code.variable(ir.Constant(kind, None)) for _ in range(RUN // WORD)]
        with code.times(builder.sub(last, first)):
            at = builder.add(codes, builder.mul(code.number(code.advance(tap, I64(4))), size))
            by = code.number(code.advance(weight, I64(4)))
            by = code.repeated(builder.trunc(by, one) if bits < 64 else by, kind)
            for i, slot in enumerate(sums):
                value = code.load(builder.add(at, I64(4 * WORD * i)), INTEGERS)
                value = builder.sext(value, kind) if bits > 32 else value
                builder.store(builder.add(builder.load(slot), builder.mul(by, value)), slot)
        for i, slot in enumerate(sums):
            to = builder.add(target, I64(WORD * i))
            code.store(builder.load(slot), code.after(out, to, bits // 8))
        return context.get_dummy_value()

    return signature, codegen
