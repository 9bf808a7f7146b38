"""nengo-loihi's emulator of Loihi's integers, on networks without convolutions.

It is given integers, not functions to approximate: blocks whose weights are 64 times ours and
whose thresholds are 64 (threshold - 1), because it asks for v > threshold; no refractory step,
the current of a step gone at the next, the image as the bias of the first block. It runs one
image at a time. Each layer is one step behind the one before, so it runs for that many steps
more, and no hidden layer may have a bias; the readout is a membrane that never spikes.
"""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import numpy.typing as npt
from simulators_networks import Codes, Counts, Kept, Network, Run, Stage


def _quietly(function):
    """Return a function without its warnings: of an untested nengo, of NaN cast to integers.

    What nengo-loihi computes is checked spike by spike.
    """

    def quiet(*arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments)

    return quiet


def nengo_loihi(network: Network) -> Run:
    load = _quietly(importlib.import_module)
    emulator, blocks, builder = (
        load(f"nengo_loihi.{name}") for name in ("emulator", "block", "builder")
    )
    first, *rest = network.stages
    depth = len(rest)  # the readout lags by so many steps

    def block(stage: Stage, current: Counts | None):
        """Return a block of integers; what the image adds to the first is its bias."""
        made = blocks.LoihiBlock(len(stage.weight))
        part = made.compartment
        size = len(stage.weight)
        never = 2**23  # the membrane has 24 bits
        threshold = never if stage.threshold is None else (stage.threshold - 1) * 64
        part.decay_u = np.full(size, 4095, dtype=np.int32)  # the current of this step alone
        part.decay_v = np.zeros(size, dtype=np.int32)
        part.scale_u = part.scale_v = False
        part.vth = np.full(size, threshold, dtype=np.int32)
        part.bias = np.zeros(size, dtype=np.int32) if current is None else current
        part.refract_delay = np.ones(size, dtype=np.int32)  # it may spike at every step
        part.vmin, part.vmax = -(2**23) + 1, 2**23 - 1
        part.noise_exp = 7
        return made

    def connect(before, after, weight: npt.NDArray[np.int32]) -> None:
        synapse = blocks.Synapse(before.n_neurons)
        synapse.set_weights(weight.T.astype(np.float32))
        synapse.weights = [np.asarray(row[None] * 64, dtype=np.int32) for row in weight.T]
        after.add_synapse(synapse)
        axon = blocks.Axon(before.n_neurons)
        axon.target = synapse
        before.add_axon(axon)

    @_quietly
    def one(code: Codes) -> tuple[list[Counts], Counts]:
        current = first.weight.astype(np.int64) @ code.reshape(-1) + first.bias
        chain = [block(first, (current * 64).astype(np.int32))]
        for stage in rest:
            chain.append(block(stage, None))
            connect(chain[-2], chain[-1], stage.weight)
        model = builder.Model()
        for each in chain:
            model.add_block(each)
        counts = [np.zeros(each.n_neurons, dtype=np.int64) for each in chain[:-1]]
        with emulator.EmulatorInterface(model, seed=0) as running:
            state, slices = running.compartment, list(running.block_info.slices.values())
            for t in range(network.setting.steps + depth):
                running.step()
                for lag, (count, place) in enumerate(zip(counts, slices[:-1], strict=True)):
                    if lag <= t < lag + network.setting.steps:
                        count += state.spiked[place]
            logits = state.voltage[slices[-1]].astype(np.int64) // 64
        return counts, logits

    def run(codes: Codes, kept: Kept | None) -> Counts:
        found = [one(code) for code in codes]
        if kept is not None:
            layers = zip(*(counts for counts, _ in found), strict=True)
            kept.append([np.stack(layer) for layer in layers])
        return np.stack([logits for _, logits in found])

    return run
