"""Run netx files through lava-dl's own netx; a Python 3.10 with lava-dl 0.6.0 runs this file.

    python lava_dl_network.py DIRECTORY

DIRECTORY/jobs.json lists jobs, each with the name of a netx file in the directory; `NAME.npy`
beside it holds what goes in (samples, *shape), (C, H, W) or flat. `NAME.npz` gets the spikes
of layer i as `layer{i}` (samples, steps, *shape) and the last layer's membrane at the end of
each sample as `membrane`, in units of 1/64.

lava-dl asks for torch and uses it here for nothing but names, so stand-ins are enough.
"""

import json
import sys
import types
import warnings
from pathlib import Path

import numpy as np


def stand_ins():
    """Put empty modules where netx imports torch, and slayer for its resonators."""
    torch = types.ModuleType("torch")
    torch.is_tensor = lambda value: False
    torch.tensor = type("tensor", (), {})
    sys.modules["torch"] = torch
    for name in ("slayer", "slayer.neuron", "slayer.neuron.rf"):
        module = types.ModuleType(f"lava.lib.dl.{name}")
        module.__path__ = []
        module.neuron_params = None
        sys.modules[module.__name__] = module


def run(file, values, steps, *, biased, message_bits):
    """Return (spikes of each layer, last membranes) for one network that is reset per sample."""
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    network = hdf5.Network(
        net_config=str(file),
        input_message_bits=message_bits,
        reset_interval=steps,
        reset_offset=0 if biased else 1,
    )
    first = 1 if biased else 2
    lags = [first + i for i in range(len(network.layers))]
    samples, end = len(values), len(values) * steps + lags[-1] - 1
    sinks = []
    for layer in network.layers:
        sinks.append(Sink(shape=layer.neuron.s_out.shape, buffer=end))
        layer.neuron.s_out.connect(sinks[-1].a_in)
    lava_order = [value.transpose() for value in values]  # (C, H, W) to (W, H, C)
    if biased:
        network.in_layer.neuron.bias_mant.init = lava_order[0].astype(np.int32)
    else:
        held = np.repeat(np.stack(lava_order, axis=-1), steps, axis=-1)
        rest = np.zeros((*held.shape[:-1], end - held.shape[-1]))
        source = Source(data=np.concatenate([held, rest], axis=-1).astype(np.int32))
        source.s_out.connect(network.inp)
    stops = {lags[-1] - 1 + (k + 1) * steps for k in range(samples)}
    if biased:
        stops |= {k * steps for k in range(1, samples)}
    now, membranes = 0, []
    for stop in sorted(stops):
        network.run(RunSteps(stop - now), Loihi2SimCfg(select_tag="fixed_pt"))
        now = stop
        if biased and stop % steps == 0 and stop // steps < samples:
            network.in_layer.neuron.bias_mant.set(lava_order[stop // steps].astype(np.int32))
        if (stop - lags[-1] + 1) % steps == 0 and stop >= lags[-1] - 1 + steps:
            membranes.append(network.out_layer.neuron.v.get().transpose())
    rasters = []
    for lag, sink in zip(lags, sinks, strict=True):
        raster = sink.data.get().transpose()[lag - 1 : lag - 1 + samples * steps]
        rasters.append(raster.reshape(samples, steps, *raster.shape[1:]).astype(bool))
    network.stop()
    return rasters, np.stack(membranes)


def main():
    """Run the jobs."""
    warnings.simplefilter("ignore")
    stand_ins()
    directory = Path(sys.argv[1])
    for job in json.loads((directory / "jobs.json").read_text()):
        values = np.load(directory / f"{job['name']}.npy")
        batches = [values] if job["streamed"] else [values[k : k + 1] for k in range(len(values))]
        results = [
            run(
                directory / job["name"],
                batch,
                job["steps"],
                biased=job["biased"],
                message_bits=job["message_bits"],
            )
            for batch in batches
        ]
        arrays = {
            f"layer{i}": np.concatenate([rasters[i] for rasters, _ in results])
            for i in range(len(results[0][0]))
        }
        membrane = np.concatenate([membrane for _, membrane in results])
        np.savez(directory / f"{job['name']}.npz", membrane=membrane, **arrays)


if __name__ == "__main__":
    main()
