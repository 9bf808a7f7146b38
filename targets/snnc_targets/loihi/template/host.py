"""The part of the generated program that is the same for every network.

It reads the arguments and the weights, computes what the image is to the layers that read it
(exact integers, once for each sample), runs Lava, and writes the results:

    status.json   {"state": "running", "done": 40, "samples": 100}, then "done" or "failed"
    logits.npy    (samples, classes) int64
    NAME.npy      (samples, T, ceil(neurons / 8)) bytes: the spikes of a layer, neurons in
                  (C, H, W) order, eight to a byte; numpy.unpackbits reads them

Lava runs every process as a process of the operating system, and all of them end with this
program, see lifetime.py. With --in-process there is this one process only, see inproc.py.
"""

# mypy: ignore-errors
import argparse
import hashlib
import json
import threading
import time
import traceback
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

FORMAT = 1  # of network.json
BATCH = 64  # samples whose currents are computed at once
SLICE_SECONDS = 1.0  # Lava runs about this long between two reports of progress


class Broken(Exception):
    """The files or the input are not what this program needs."""


class Run:
    """The places of one run: where the network reads its currents and leaves its spikes."""

    def __init__(self, output, steps):
        self.output, self.samples, self.steps = output, 0, steps
        self._report = {"state": "starting", "done": 0, "samples": 0}
        self._writing = threading.Lock()  # the watchdog reports too

    def expect(self, samples):
        """Take note of how many samples there are."""
        self.samples = samples
        self.report(samples=samples)

    def values(self, name):
        """Return the file of what the host makes of the image for layer `name`."""
        return str(self.output / f"{name}.values.npy")

    def raster(self, name, neurons):
        """Make the file for the spikes of layer `name`; return its path."""
        return self._zeros(name, (self.samples, self.steps, -(-neurons // 8)), np.uint8)

    def logits(self, classes):
        """Make the file for the logits; return its path."""
        return self._zeros("logits", (self.samples, classes), np.int64)

    def _zeros(self, name, shape, dtype):
        path = self.output / f"{name}.npy"
        np.save(path, np.zeros(shape, dtype))  # written out: a full disk is an error here
        return str(path)

    def report(self, **facts):
        """Replace status.json, at once or not at all; nothing replaces "failed" and "done"."""
        with self._writing:
            if self._report["state"] in ("failed", "done"):
                return
            self._report.update(facts)
            draft = self.output / "status.json.part"
            draft.write_text(json.dumps(self._report))
            draft.replace(self.output / "status.json")


def main(here, *, steps, lag, image_values, build):
    """Run the network of directory `here` as the command line asks.

    `steps` is T, `lag` the step at which the first sample reaches the last layer,
    `image_values(codes, w)` computes what the image is to each of its readers, and
    `build(w, run)` makes the Lava network and returns one of its processes.
    """
    parser = argparse.ArgumentParser(description="Run the network on Lava.")
    parser.add_argument("--input", type=Path, required=True, help=".npy file: images or codes")
    parser.add_argument("--output", type=Path, required=True, help="directory for the results")
    parser.add_argument(
        "--stop-with",
        type=int,
        metavar="PID",
        help="when PID, the parent, is gone, remove the results and end",
    )
    parser.add_argument(
        "--in-process", action="store_true", help="all of Lava's models in one process: faster"
    )
    arguments = parser.parse_args()
    from lifetime import Watchdog, last_line

    arguments.output.mkdir(parents=True, exist_ok=True)
    run = Run(arguments.output, steps)
    watchdog = Watchdog(run, arguments.stop_with)
    try:
        network = json.loads((here / "network.json").read_text())
        if network["format"] != FORMAT or network["steps"] != steps:
            raise Broken("network.py and network.json are not of one build; compile again")
        weights = load_weights(here / "weights.npz", network["weights_sha256"])
        codes = encode(np.load(arguments.input), network["input"])
        run.expect(len(codes))
        write_values(run, codes, weights, image_values)
        start = start_in_process if arguments.in_process else start_lava
        simulate(start(build(weights, run), watchdog), run, lag)
        if network["readout"] == "spike-count":
            count_spikes(run, network["layers"][-1])
        run.report(state="done")
    except BaseException as error:  # whatever it is, no Lava process may survive it
        traceback.print_exc()
        cause = watchdog.problem()  # Lava itself says only how many failed
        watchdog.fail(last_line(cause) if cause else f"{type(error).__name__}: {error}")
    print(f"{run.samples} samples done; results in {run.output}", flush=True)
    watchdog.leave()


def start_lava(process, watchdog):
    """Start Lava's processes; return what runs so many steps more of them."""
    from lava.magma.core.run_conditions import RunSteps
    from lifetime import guard_children, share_without_names

    guard_children()
    share_without_names()
    watchdog.process = process
    process.create_runtime(run_cfg=settings())
    return lambda steps: process.run(RunSteps(num_steps=steps))


def start_in_process(process, watchdog):
    """Build Lava's models in this process; return what runs so many steps more of them."""
    from inproc import InProcess

    return InProcess(process, settings()).run


def settings():
    """Choose the models: Lava's fixed-point ones, or ours that do the same faster."""
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.sparse.process import DelaySparse, Sparse
    from snnc_processes import PyConvProduct, PyDelaySparseOnce, PySparseProduct

    faster = {Conv: PyConvProduct, DelaySparse: PyDelaySparseOnce, Sparse: PySparseProduct}
    # without the tag Lava takes its floating-point models and says nothing
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=faster)


def simulate(advance, run, lag):
    """Run all samples, a second or so at a time; `advance` runs so many steps more."""
    done, share = 0, 1
    while done < run.samples:
        share = min(share, run.samples - done)
        began = time.monotonic()
        advance(share * run.steps + (lag - 1 if done == 0 else 0))
        done += share
        run.report(state="running", done=done)
        print(f"{done}/{run.samples} samples", flush=True)
        if time.monotonic() - began < SLICE_SECONDS:
            share *= 2


def encode(values, coding):
    """Return codes (samples, *shape): of images with floats in [0, 1], or the integers given.

    code = rint(levels * pixel) - zero_point[channel], halves to even, in float64.
    """
    shape, levels = tuple(coding["shape"]), coding["levels"]
    zero_point = np.array(coding["zero_point"]).reshape(-1, *[1] * (len(shape) - 1))
    if values.shape[1:] != shape or not len(values):
        raise Broken(f"the input has shape {values.shape}, the network reads (samples, *{shape})")
    if np.issubdtype(values.dtype, np.floating):
        if not (values.min() >= 0.0 and values.max() <= 1.0):
            raise Broken("pixels must be in [0, 1]; the normalisation is part of the network")
        return np.rint(values.astype(np.float64) * levels).astype(np.int32) - zero_point
    if (values < -zero_point).any() or (values > levels - zero_point).any():
        raise Broken("a code is outside what an image can become")
    return values


def load_weights(path, digest):
    """Return the arrays of weights.npz by name; name.data, .indices, .indptr, .shape as one CSR."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise Broken("weights.npz is not the file that was compiled; compile again")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name].astype(np.int64) for name in file.files}
    for name in [name[: -len(".indptr")] for name in arrays if name.endswith(".indptr")]:
        data, indices, indptr = (arrays.pop(f"{name}.{part}") for part in ("data", "indices", "indptr"))
        arrays[name] = csr_matrix((data, indices, indptr), shape=tuple(arrays.pop(f"{name}.shape")))
    return arrays


def write_values(run, codes, weights, image_values):
    """Write what the host makes of the image for each reader, in Lava's (W, H, C) layout."""
    files = {}
    for first in range(0, len(codes), BATCH):
        batch = codes[first : first + BATCH].astype(np.int64)
        for name, values in image_values(batch, weights).items():
            if values.ndim == 4:
                values = values.transpose(0, 3, 2, 1)
            if name not in files:
                shape = (len(codes), *values.shape[1:])
                np.save(run.values(name), np.zeros(shape, np.int32))
                files[name] = np.load(run.values(name), mmap_mode="r+")
            files[name][first : first + BATCH] = values
    for file in files.values():
        file.flush()


class Samples:
    """The values of a file (samples, *shape) as Lava's dataloader asks for them: (values, label).

    The first sample is also what it gets for the `late` times that it asks before there is one.
    """

    def __init__(self, path, *, late):
        self._values, self._late = np.load(path, mmap_mode="r"), late

    def __len__(self):
        return len(self._values) + self._late

    def __getitem__(self, number):
        return np.array(self._values[max(number - self._late, 0)]), 0


def count_spikes(run, layer):
    """Write the logits of a network that decides by the spikes of its last layer."""
    raster = np.load(run.output / f"{layer['file']}.npy", mmap_mode="r")
    neurons = int(np.prod(layer["shape"]))
    logits = np.zeros((run.samples, neurons), dtype=np.int64)
    for first in range(0, run.samples, BATCH):
        spikes = np.unpackbits(raster[first : first + BATCH], axis=2, count=neurons)
        logits[first : first + BATCH] = spikes.sum(axis=1, dtype=np.int64)
    np.save(run.output / "logits.npy", logits)


def kernel(weight):
    """Return Lava's (out, kw, kh, in) kernel of a (out, in, kh, kw) weight.

    Lava's maps are (W, H, C), and its Conv is a true convolution: the kernel runs backwards.
    """
    return weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32)


def convolve(codes, weight, *, stride, padding, groups):
    """Return the cross-correlation (samples, out, H, W) of (samples, C, H, W), zero padded."""
    out, depth, high, wide = weight.shape
    padded = np.pad(codes, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    view = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), axis=(2, 3))
    view = view[:, :, :: stride[0], :: stride[1]].transpose(0, 2, 3, 1, 4, 5)
    shares = []
    for g, rows in enumerate(np.split(weight.reshape(out, -1), groups)):
        taps = view[..., g * depth : (g + 1) * depth, :, :].reshape(-1, depth * high * wide)
        # float64 is exact: every sum is an integer far below 2**53
        product = taps.astype(np.float64) @ rows.T.astype(np.float64)
        shares.append(product.reshape(*view.shape[:3], -1))
    return np.concatenate(shares, axis=3).transpose(0, 3, 1, 2).astype(np.int64)


def multiply(codes, weight):
    """Return the products (samples, out) of flattened codes with a dense or CSR matrix."""
    flat = codes.reshape(len(codes), -1).astype(np.float64)  # exact, as above
    return (weight.astype(np.float64) @ flat.T).T.astype(np.int64)


def unroll(weight, source, *, stride, padding, groups):
    """Return the CSR matrix of a convolution between maps flattened in (C, H, W) order."""
    out, depth, high, wide = weight.shape
    _, height, width = source
    rows = (height + 2 * padding[0] - high) // stride[0] + 1
    columns = (width + 2 * padding[1] - wide) // stride[1] + 1
    o, i, ky, kx = (index[:, None, None] for index in np.nonzero(weight))
    row, column = np.arange(rows)[:, None], np.arange(columns)
    y, x = row * stride[0] - padding[0] + ky, column * stride[1] - padding[1] + kx
    channel = o // (out // groups) * depth + i
    post = (o * rows + row) * columns + column
    pre = (channel * height + y) * width + x
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    value = np.broadcast_to(weight[np.nonzero(weight)][:, None, None], inside.shape)
    shape = (out * rows * columns, int(np.prod(source)))
    return coo_matrix((value[inside], (post[inside], pre[inside])), shape=shape).tocsr()


def delays(weight, steps):
    """Return the CSR matrix of delays that holds `steps` for each stored weight."""
    return csr_matrix((np.full(weight.nnz, steps), weight.indices, weight.indptr), weight.shape)
