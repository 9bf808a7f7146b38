"""The peak of this machine's vector units, measured: what no simulator can exceed.

A synapse update is a multiplication and an addition of integers. The loops here do nothing
else: sixteen vectors stay in registers, each is multiplied and added to, and nothing is read
or written. They are written in LLVM's language, because a compiler would simplify any loop
of a higher one; numba brings LLVM along.

    int16     multiply and add in vectors of 16-bit lanes, in any width the processor has
    int16x2   pairs of 16-bit products added into 32 bits (vpmaddwd, then vpaddd)
    int8x4    four 8-bit products added into 32 bits (vpdpbusd of AVX-512 VNNI)
    float32   fused multiply and add, for comparison
    bits      one logical operation on each bit of a vector, counted bit by bit

A simulator that keeps one bit for each image and step adds weights by logical operations on
bits: no peak of multiplications bounds it, and an update costs it several of the last kind.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm

REGISTERS = 16
TURNS = 2_000_000  # of the loop: about 20 ms
ROUNDS = 15  # the fastest counts: it is the one that nothing disturbed
UPDATES = ("int16", "int16x2", "int8x4")  # the kinds that are updates of integer synapses

_KERNELS = {  # name: type of the vectors, updates of one vector, features, lines of one turn
    "int16": (
        "<32 x i16>",
        32,
        (),
        "%p{i} = mul <32 x i16> %x{i}, %a\n%y{i} = add <32 x i16> %p{i}, %b\n",
        "",
    ),
    "int16x2": (
        "<16 x i32>",
        32,
        ("avx512bw",),
        "%c{i} = bitcast <16 x i32> %x{i} to <32 x i16>\n"
        "%p{i} = call <16 x i32> @llvm.x86.avx512.pmaddw.d.512(<32 x i16> %c{i}, <32 x i16> %d)\n"
        "%y{i} = add <16 x i32> %p{i}, %b\n",
        "declare <16 x i32> @llvm.x86.avx512.pmaddw.d.512(<32 x i16>, <32 x i16>)\n",
    ),
    "int8x4": (
        "<16 x i32>",
        64,
        ("avx512vnni",),
        "%y{i} = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %x{i}, <16 x i32> %a, "
        "<16 x i32> %b)\n",
        "declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <16 x i32>, <16 x i32>)\n",
    ),
    "bits": (
        "<8 x i64>",
        512,
        (),
        "%p{i} = and <8 x i64> %x{i}, %a\n%y{i} = xor <8 x i64> %p{i}, %b\n",
        "",
    ),
    "float32": (
        "<16 x float>",
        16,
        (),
        "%y{i} = call <16 x float> @llvm.fma.v16f32(<16 x float> %x{i}, <16 x float> %a, "
        "<16 x float> %b)\n",
        "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)\n",
    ),
}


def peaks(threads: int) -> dict[str, float]:
    """Return the updates a second of each kind that this machine has, on some threads."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    found = {}
    with ThreadPoolExecutor(threads) as pool:
        for name, (_, updates, needed, _, _) in _KERNELS.items():
            if not all(features.get(feature) for feature in needed):
                continue
            engine, function = _compiled(name)
            seconds = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                list(pool.map(function, [TURNS] * threads))
                seconds.append(time.perf_counter() - start)
            found[name] = threads * TURNS * REGISTERS * updates / min(seconds)
            del engine
    return found


def _compiled(name: str) -> tuple[object, Callable[[int], int]]:
    """Return the compiler, which owns the code, and the loop as a function of its turns."""
    kind, _, _, turn, declarations = _KERNELS[name]
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(_code(kind, turn, declarations)), machine
    )
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(engine.get_function_address("peak"))
    return engine, function


def _code(kind: str, turn: str, declarations: str) -> str:
    """Return a function that repeats `turn` on all registers and returns a number from them."""
    every = range(REGISTERS)
    starts = "\n".join(f"%x{i} = phi {kind} [ %s{i}, %entry ], [ %y{i}, %loop ]" for i in every)
    turns = "".join(turn.format(i=i) for i in every)
    # the operands come from memory, so that nothing is known about them
    loads = "\n".join(f"%s{i} = load volatile {kind}, ptr @from, align 64" for i in every)
    stores = "\n".join(f"store volatile {kind} %y{i}, ptr @from, align 64" for i in every)
    return f"""
@from = internal global <64 x i8> zeroinitializer, align 64
{declarations}
define i64 @peak(i64 %turns) {{
entry:
%a = load volatile {kind}, ptr @from, align 64
%b = load volatile {kind}, ptr @from, align 64
%d = load volatile <32 x i16>, ptr @from, align 64
{loads}
br label %loop
loop:
%n = phi i64 [ 0, %entry ], [ %next, %loop ]
{starts}
{turns}
%next = add i64 %n, 1
%more = icmp slt i64 %next, %turns
br i1 %more, label %loop, label %exit
exit:
{stores}
ret i64 %n
}}
"""


if __name__ == "__main__":
    import os

    cores = len(os.sched_getaffinity(0))
    for kind, rate in peaks(cores).items():
        print(f"{kind:8} {rate / 1e9:8.1f} G updates/s on {cores} cores")  # noqa: T201
