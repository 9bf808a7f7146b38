"""Neurons in vector code: bit-sliced ones without a leak, and integers for all others."""

# values of numba and of LLVM have no types
# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False, disallow-untyped-calls=False
# ruff: noqa: ANN001, ANN201, ANN202, ANN401

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from snnc.semantics.neuron import ALIGN, DECAY_BITS, V_MAX
from snnc.simulate.kernels.vectors import (
    ALL,
    I32,
    I64,
    MASK,
    NONE,
    PLANE,
    VECTOR,
    WORD,
    Code,
    compiled,
)

FRACTION = (1 << DECAY_BITS) - 1


def _fire(subtract: bool) -> Callable[..., Any]:
    """Return the code that fires sliced neurons, see `fire_to_zero`."""

    def typed(typingctx, currents, lowered, state, spikes, doubt, place):
        signature = types.void(currents, lowered, state, spikes, doubt, place)

        def codegen(context, builder, signature, arguments):
            code = Code(context, builder)
            currents, lowered, state, spikes, doubt = code.data(signature, arguments)
            levels, guard, steps, stride, first = cgutils.unpack_tuple(builder, arguments[5], 5)
            fired, doubtful = code.variable(ALL), code.variable(NONE)
            with code.times(levels) as level:
                code.store(NONE, code.after(state, level.index, VECTOR))
            with code.times(steps) as step:
                carry, second, v = (code.variable(NONE) for _ in range(3))
                before = builder.load(fired)
                offset = builder.add(builder.mul(step.index, stride), first)
                with code.times(levels) as level:
                    row = builder.mul(builder.mul(level.index, steps), stride)
                    x = code.load(builder.add(currents, builder.add(row, offset)), PLANE)
                    bit = code.load(code.after(lowered, level.index, 8), I64)
                    low = builder.and_(before, code.repeated(bit, PLANE))
                    at = code.after(state, level.index, VECTOR)
                    old = code.load(at, PLANE)
                    if subtract:
                        builder.store(old, v)
                        kept = builder.load(second)
                        builder.store(code.full_add(v, low, kept), second)
                    else:
                        builder.store(builder.or_(builder.and_(old, builder.not_(before)), low), v)
                    kept = builder.load(carry)
                    builder.store(code.full_add(v, x, kept), carry)
                    code.store(builder.load(v), at)
                negative = builder.load(v)
                high = code.variable(ALL)
                upper = builder.sub(builder.sub(levels, I64(1)), guard)
                with code.times(upper) as level:
                    at = code.after(state, builder.add(guard, level.index), VECTOR)
                    builder.store(builder.and_(builder.load(high), code.load(at, PLANE)), high)
                low = builder.and_(negative, builder.not_(builder.load(high)))
                builder.store(builder.or_(builder.load(doubtful), low), doubtful)
                builder.store(builder.not_(negative), fired)
                code.store(builder.load(fired), builder.add(spikes, offset))
            code.store(builder.load(doubtful), builder.add(doubt, first))
            return context.get_dummy_value()

        return signature, codegen

    return typed


@compiled
def fire_to_zero(typingctx, currents, lowered, state, spikes, doubt, place):
    """Advance 512 neurons over all steps: reset ZERO, no leak; say where one may saturate.

    What is kept is v - threshold, in units of current, in `levels` planes of two's
    complement. `currents` (levels, steps, stride) and `spikes` (steps, stride) are bytes,
    `lowered` holds for each plane all bits or none: those of -threshold. `place` is (levels,
    guard, steps, stride, first byte). A bit of `doubt` (stride) is set where a value fell below
    -2**guard.
    """
    return _fire(False)(typingctx, currents, lowered, state, spikes, doubt, place)


@compiled
def fire_by_subtraction(typingctx, currents, lowered, state, spikes, doubt, place):
    """Advance 512 neurons over all steps: reset SUBTRACT, otherwise as `fire_to_zero`."""
    return _fire(True)(typingctx, currents, lowered, state, spikes, doubt, place)


@compiled
def fire_integers(typingctx, planes, image, spikes, place):
    """Advance one neuron of 32 samples over all steps, as `semantics.neuron.step` says.

    Arithmetic is that of the type of `image`. `place` is (levels, bytes from plane to plane,
    first byte in the planes, first byte of `spikes`, first sample, steps, bytes of a step,
    4096 - current decay, 4096 - decay, bias, threshold, whether to subtract it).
    """
    signature = types.void(planes, image, spikes, place)

    def codegen(context, builder, signature, arguments):
        code = Code(context, builder)
        planes, image, spikes = code.data(signature, arguments)
        levels, stride, byte, target, sample, steps, size, *neuron = cgutils.unpack_tuple(
            builder, arguments[3], 12
        )
        bits = signature.args[1].dtype.bitwidth
        one, kind = ir.IntType(bits), ir.VectorType(ir.IntType(bits), WORD)

        def same(value: Any) -> Any:
            if isinstance(value, int):
                return ir.Constant(kind, [value] * WORD)
            return code.repeated(builder.trunc(value, one) if bits < 64 else value, kind)

        kept_u, kept_v, bias, threshold, subtract = neuron
        constant = builder.shl(same(bias), same(ALIGN))
        still = code.load(code.after(image, sample, bits // 8), kind)
        u, v, current = (code.variable(ir.Constant(kind, None)) for _ in range(3))

        def leak(value: Any, kept: Any) -> Any:
            below = builder.icmp_signed("<", value, same(0))
            size = builder.select(below, builder.neg(value), value)
            high, low = builder.ashr(size, same(DECAY_BITS)), builder.and_(size, same(FRACTION))
            low = builder.ashr(builder.mul(low, same(kept)), same(DECAY_BITS))
            size = builder.add(builder.mul(high, same(kept)), low)
            return builder.select(below, builder.neg(size), size)

        with code.times(steps) as step:
            builder.store(still, current)
            at = builder.add(builder.add(planes, byte), builder.mul(step.index, size))
            row, unit = code.variable(at), code.variable(I64(1))
            with code.times(levels) as level:
                top = builder.icmp_signed("==", level.index, builder.sub(levels, I64(1)))
                value = builder.load(unit)
                builder.store(builder.shl(value, I64(1)), unit)
                value = same(builder.select(top, builder.neg(value), value))
                mask = builder.bitcast(code.load(code.advance(row, stride), I32), MASK)
                old = builder.load(current)
                builder.store(builder.select(mask, builder.add(old, value), old), current)
            builder.store(builder.shl(builder.load(current), same(ALIGN)), current)
            with builder.if_then(builder.icmp_signed("!=", kept_u, I64(0))):
                lasting = builder.add(builder.load(current), leak(builder.load(u), kept_u))
                builder.store(lasting, current)
                builder.store(lasting, u)
            with builder.if_then(builder.icmp_signed("!=", kept_v, I64(1 << DECAY_BITS))):
                builder.store(leak(builder.load(v), kept_v), v)
            after = builder.add(builder.load(v), builder.add(builder.load(current), constant))
            for sign, bound in ((">", V_MAX), ("<", -V_MAX)):
                outside = builder.icmp_signed(sign, after, same(bound))
                after = builder.select(outside, same(bound), after)
            fired = builder.icmp_signed(">=", after, same(threshold))
            less = builder.and_(builder.sub(after, same(threshold)), same(builder.neg(subtract)))
            builder.store(builder.select(fired, less, after), v)
            word = builder.bitcast(fired, I32)
            to = builder.add(builder.add(spikes, target), builder.mul(step.index, size))
            with builder.if_else(builder.icmp_signed("==", size, I64(1))) as (byte_, word_):
                with byte_:
                    code.store(builder.trunc(word, ir.IntType(8)), to)
                with word_:
                    code.store(word, to)
        return context.get_dummy_value()

    return signature, codegen
