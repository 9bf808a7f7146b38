"""The means to write vector code in LLVM for numba: types, idioms, adders of bits.

A vector has 512 bits, and a lane is one of them: one neuron of one sample at one step. A
number at every lane is kept bit-sliced: plane b, a vector, holds bit b of 512 numbers, so two
three-input instructions, a full adder, do 512 one-bit additions. Numbers are modulo
2**planes, which is exact for what two's complement of that many bits can hold.

LLVM turns vectors into whatever the processor has. Addresses are not checked here.
"""

# values of numba and of LLVM have no types
# mypy: disallow-untyped-decorators=False, disallow-untyped-defs=False, disallow-untyped-calls=False
# ruff: noqa: ANN401

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

VECTOR = 64  # bytes
WIDE = 128  # bytes that sums handle at once: they read their lists once for two vectors
WORD = 32  # lanes whose integers are handled together

I32, I64 = ir.IntType(32), ir.IntType(64)
PLANE = ir.VectorType(I64, 8)
PLANES = ir.VectorType(I64, WIDE // 8)
MASK = ir.VectorType(ir.IntType(1), WORD)
INTEGERS = ir.VectorType(I32, WORD)
NONE = ir.Constant(PLANE, None)
ALL = ir.Constant(PLANE, [-1] * 8)
_TERNARY = "llvm.x86.avx512.pternlog.q.512"
_MAJORITY = 0xE8  # the truth table of "two of three"
_OPPOSED = 0x71  # the same where the second and the third are negated


def compiled(write: Callable[..., Any]) -> Callable[..., Any]:
    """Return what compiled code calls as a function of all arguments but the first."""
    function: Callable[..., Any] = intrinsic(write)
    return function


def _ternary() -> bool:
    """Return whether numba compiles for a processor with AVX-512.

    LLVM finds the instruction for an exclusive or of three vectors, not that for a majority.
    """
    features = getattr(config, "CPU_FEATURES", None)
    if features is None:
        named = getattr(config, "CPU_NAME", None)
        features = "" if named else llvm.get_host_cpu_features().flatten()
    return "+avx512f" in features.split(",")


class Code:
    """Code in the making: numba's builder with the few idioms that the kernels need."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.build = context, builder

    def data(self, signature: Any, values: Any) -> list[Any]:
        """Return the addresses of the first bytes of arrays."""
        return [
            self.build.ptrtoint(
                self.context.make_array(kind)(self.context, self.build, value).data, I64
            )
            for kind, value in zip(signature.args, values, strict=False)
            if isinstance(kind, types.Array)
        ]

    def load(self, address: Any, kind: Any) -> Any:
        """Return a value at an address of any alignment."""
        value = self.build.load(self.build.inttoptr(address, kind.as_pointer()))
        value.align = 1
        return value

    def store(self, value: Any, address: Any) -> None:
        """Write a value at an address of any alignment."""
        self.build.store(value, self.build.inttoptr(address, value.type.as_pointer())).align = 1

    def after(self, address: Any, count: Any, size: int) -> Any:
        """Return the address of element `count` of an array of elements of `size` bytes."""
        return self.build.add(address, self.build.mul(count, I64(size)))

    def number(self, address: Any, i: int = 0) -> Any:
        """Return element i of an array of 32-bit integers, in 64 bits."""
        return self.build.sext(self.load(self.build.add(address, I64(4 * i)), I32), I64)

    def times(self, count: Any) -> Any:
        """Open a loop; its `index` counts."""
        return cgutils.for_range(self.build, count, intp=I64)

    def variable(self, start: Any) -> Any:
        """Return a slot with a value in it, which becomes a register."""
        slot = cgutils.alloca_once(self.build, start.type)
        self.build.store(start, slot)
        return slot

    def advance(self, slot: Any, by: Any) -> Any:
        """Return what a variable holds, and add to it."""
        value = self.build.load(slot)
        self.build.store(self.build.add(value, by), slot)
        return value

    def repeated(self, value: Any, kind: Any) -> Any:
        """Return a vector of one value."""
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.build.insert_element(undefined, value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, kind.count), None)
        return self.build.shuffle_vector(first, undefined, zeros)

    def majority(self, a: Any, x: Any, y: Any, *, opposed: bool = False) -> Any:
        """Return, lane by lane, what two of three vectors say; `opposed` negates x and y."""
        if not _ternary():
            x, y = (self.build.not_(x), self.build.not_(y)) if opposed else (x, y)
            either, both = self.build.or_(x, y), self.build.and_(x, y)
            return self.build.or_(both, self.build.and_(a, either))
        kind = ir.FunctionType(PLANE, [PLANE, PLANE, PLANE, I32])
        function = cgutils.get_or_insert_function(self.build.module, kind, _TERNARY)
        table = I32(_OPPOSED if opposed else _MAJORITY)
        split = zip(*(self._split(value) for value in (a, x, y)), strict=True)
        return self._join([self.build.call(function, [*each, table]) for each in split])

    def _split(self, value: Any) -> list[Any]:
        """Return the vectors of 512 bits that a wider one consists of."""
        kind, parts = ir.VectorType(I32, 8), value.type.count // 8
        if parts == 1:
            return [value]
        orders = [ir.Constant(kind, list(range(8 * i, 8 * i + 8))) for i in range(parts)]
        return [self.build.shuffle_vector(value, value, order) for order in orders]

    def _join(self, parts: list[Any]) -> Any:
        while len(parts) > 1:
            count = 2 * parts[0].type.count
            order = ir.Constant(ir.VectorType(I32, count), list(range(count)))
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.build.shuffle_vector(low, high, order) for low, high in pairs]
        return parts[0]

    def full_add(self, plane: Any, x: Any, y: Any, *, opposed: bool = False) -> Any:
        """Add two vectors, or their complements, into a plane; return the carry."""
        a = self.build.load(plane)
        self.build.store(self.build.xor(a, self.build.xor(x, y)), plane)
        return self.majority(a, x, y, opposed=opposed)

    def half_add(self, plane: Any, x: Any) -> Any:
        """Add one vector into a plane that a variable holds; return the carry."""
        a = self.build.load(plane)
        self.build.store(self.build.xor(a, x), plane)
        return self.build.and_(a, x)
