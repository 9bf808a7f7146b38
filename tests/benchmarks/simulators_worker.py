"""The process in which one simulator runs: it does what its parent asks, line by line.

    python simulators_worker.py NAME NETWORK.npz --samples 32 --cores 0,1 [--variant NAME]

It answers on standard output, one JSON object a line; what a library prints goes to standard
error. Every simulator has a process of its own, so that no library changes another's number
of threads, and so that memory is its own. It runs a narrow network of the same shape first:
what it holds then (interpreter, libraries, compiled kernels) is not counted as memory.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from simulators_contenders import CONTENDERS, Build, Contender, Kept, Run
from simulators_networks import Network, Setting, codes, load, uncalibrated

REHEARSED = 4  # width of the narrow network
TRIALS = 2  # timed runs of each variant, after one that is not
TRIED = 32  # images of a trial: as many as any variant takes at a time
VERIFIED = 2  # images whose every spike is compared

Codes = npt.NDArray[np.int32]


def main() -> int:
    """Build the network and answer until there is no more to read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("network", type=Path)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--cores", required=True)
    parser.add_argument("--variant", help="default: the fastest")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: Mapping[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
        _serve(arguments, answer)
    except Exception as error:  # noqa: BLE001 - whatever it is, the table names it
        answer({"problem": f"{type(error).__name__}: {error}".splitlines()[0]})
        return 1
    return 0


def _serve(arguments: argparse.Namespace, answer: Callable[[Mapping[str, Any]], None]) -> None:
    contender = CONTENDERS[arguments.contender]
    release = contender.release()
    _rehearse(contender, load(arguments.network).setting)
    held = resident()
    network = load(arguments.network)
    images = codes(replace(network.setting, samples=arguments.samples), network.input_shape)
    variant = arguments.variant or _fastest(contender, network, images[:TRIED])
    run = contender.variants[variant](network)
    del network
    gc.collect()
    run(images, None)
    answer({"variant": variant, "version": release})
    for line in sys.stdin:
        match line.strip():
            case "verify":
                answer({"spikes": spikes(run, images[:VERIFIED])})
            case "run":
                start = time.perf_counter()
                logits = run(images, None)
                seconds = time.perf_counter() - start
                answer({"seconds": seconds, "logits": logits.tolist()})
            case "memory":
                answer({"bytes": max(0, peak(run, images) - held)})
            case other:
                raise ValueError(f"no command {other!r}")


def _rehearse(contender: Contender, setting: Setting) -> None:
    """Run every variant once on a narrow network: imports and compiles what it needs."""
    small = replace(setting, width=min(setting.width, REHEARSED), samples=1)
    network = uncalibrated(small)
    for build in contender.variants.values():
        build(network)(codes(small, network.input_shape), None)
    gc.collect()


def _fastest(contender: Contender, network: Network, images: Codes) -> str:
    """Return the variant with the fastest run."""
    if len(contender.variants) == 1:
        return next(iter(contender.variants))
    times = {name: _time(build, network, images) for name, build in contender.variants.items()}
    return min(times, key=lambda name: times[name])


def _time(build: Build, network: Network, images: Codes) -> float:
    run, seconds = build(network), []
    for _ in range(1 + TRIALS):
        start = time.perf_counter()
        run(images, None)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def spikes(run: Run, images: Codes) -> list[str]:
    """Return a digest for each layer of how often each neuron spiked, image by image."""
    kept: Kept = []
    run(images, kept)
    layers = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return [sha256(np.ascontiguousarray(layer, dtype="<i8")).hexdigest()[:16] for layer in layers]


def resident(field: str = "VmRSS") -> int:
    """Return the bytes that this process holds, or held at most ("VmHWM").

    Memory that is free and not yet given back counts not: it is given back first.
    """
    if field == "VmRSS":
        ctypes.CDLL(None).malloc_trim(0)
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def peak(run: Run, images: Codes) -> int:
    """Return the most bytes that this process holds during a run."""
    resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    run(images, None)
    return resident("VmHWM")


if __name__ == "__main__":
    sys.exit(main())
