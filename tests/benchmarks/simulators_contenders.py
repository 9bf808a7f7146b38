"""The simulators that are compared, each in the fastest mode that its documentation shows.

A contender has one or more variants (memory layouts, loops over time or a folded batch, so
many images at a time); the fastest on the network at hand is the one that is measured. Each is
built once and run on codes (samples, *shape); what it returns are logits, from which all
must agree, and on request the spikes of each neuron, counted over time.

    ours             the exact simulator, `snnc.simulate.fast`
    ours, torch      the same integers in PyTorch, `snnc.twin`
    PyTorch dense    float32, see `simulators_dense`: the yardstick
    SpikingJelly     multi-step mode (steps folded into the batch), IFNode, what it runs on a
                     CPU: torch (its cupy and triton kernels need CUDA)
    snnTorch         Leaky with beta 1 and reset to zero, surrogates off, a loop over time
    norse            IAFCell in a SequentialState over a loop, or Lift and IAF
    nengo-loihi      the emulator of the chip's integers; one image at a time, no convolutions

How each is given our neuron: `simulators_frameworks.py` and `simulators_nengo.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from simulators_frameworks import norse, snntorch, spikingjelly
from simulators_nengo import nengo_loihi
from simulators_networks import Build, Codes, Counts, Kept, Network, Run, Shape, in_chunks, program


class Unavailable(Exception):
    """Why a contender does not take part."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One simulator."""

    title: str
    package: str  # whose version is reported
    variants: Mapping[str, Build]
    shapes: tuple[Shape, ...] = tuple(Shape)
    samples: int | None = None  # at most so many: it is slow

    def release(self) -> str:
        """Return the version that is installed.

        Raises:
            Unavailable: none is.
        """
        try:
            return version(self.package)
        except PackageNotFoundError as error:
            raise Unavailable(f"{self.package} is not installed") from error


def _ours(network: Network) -> Run:
    from snnc.simulate import fast

    compiled = program(network)
    plans: dict[int, fast.Prepared] = {}  # made in the first run of a batch, as torch's layouts are

    def run(codes: Codes, kept: Kept | None) -> Counts:
        if len(codes) not in plans:
            plans[len(codes)] = fast.prepare(compiled, len(codes))
        plan = plans[len(codes)]
        if kept is None:
            return plan.run(codes, raster=False, counts=False).logits
        trace = plan.run(codes, raster=True)
        rasters = [layer.raster for layer in trace.layers if layer.raster is not None]
        kept.append([r.sum(axis=1, dtype=np.int64).reshape(len(codes), -1) for r in rasters])
        return trace.logits

    return run


def _twin(chunk: int) -> Build:
    def build(network: Network) -> Run:
        import torch
        from snnc import twin
        from snnc.learn.surrogates import TRIANGLE

        compiled = program(network)
        module = twin.IntegerTwin(compiled, TRIANGLE)

        def part(codes: Codes, kept: Kept | None) -> Counts:
            with torch.no_grad():
                emitted, logits = module.unroll(torch.tensor(codes, dtype=module.dtype))
            if kept is not None:
                spikes = (emitted[layer.name] for layer in compiled.layers)
                kept.append([s.sum(0).flatten(1).long().numpy() for s in spikes])
            return logits.long().numpy()

        return in_chunks(part, chunk)

    return build


def _dense(chunk: int) -> Build:
    def build(network: Network) -> Run:
        from simulators_dense import Dense

        return Dense(network, chunk).run

    return build


CHUNKS = (8, 32)  # images at a time
LAYOUTS = {"channels last": True, "channels first": False}


def _chunked(build: Callable[..., Build], **modes: Mapping[str, object]) -> dict[str, Build]:
    """Return the variants of a contender: its modes (keyword arguments) in chunks of each size."""
    return {
        ", ".join(filter(None, (mode, f"{size} images at a time"))): build(size, **arguments)
        for mode, arguments in (modes or {"": {}}).items()
        for size in CHUNKS
    }


BASELINE = "dense"
CONTENDERS: dict[str, Contender] = {
    "ours": Contender(title="snnc", package="snnc", variants={"numba": _ours}),
    "twin": Contender(title="snnc, torch engine", package="torch", variants=_chunked(_twin)),
    BASELINE: Contender(title="PyTorch dense", package="torch", variants=_chunked(_dense)),
    "spikingjelly": Contender(
        title="SpikingJelly",
        package="spikingjelly",
        variants=_chunked(
            spikingjelly, **{name: {"channels_last": last} for name, last in LAYOUTS.items()}
        ),
    ),
    "snntorch": Contender(
        title="snnTorch",
        package="snntorch",
        variants=_chunked(
            snntorch, **{name: {"channels_last": last} for name, last in LAYOUTS.items()}
        ),
    ),
    "norse": Contender(
        title="norse",
        package="norse",
        variants=_chunked(
            norse,
            **{
                f"{form}, {name}": {"lifted": lifted, "channels_last": last}
                for form, lifted in (("SequentialState", False), ("Lift", True))
                for name, last in LAYOUTS.items()
            },
        ),
    ),
    "nengo-loihi": Contender(
        title="nengo-loihi emulator",
        package="nengo-loihi",
        variants={"integers": nengo_loihi},
        shapes=(Shape.DENSE,),
        samples=2,
    ),
}
