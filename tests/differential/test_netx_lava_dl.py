"""Netx files, written by hand or exported, run on lava-dl's own netx as their programs say.

A Python 3.10 with lava-dl 0.6.0, lava-nc 0.10.0 and h5py runs them: the one that
$SNNC_LAVA_DL_PYTHON names, else the one that runs Lava. Without it the tests are skipped; with
SNNC_REQUIRE_LAVA_DL=1 they fail.
"""

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from snnc.errors import MissingDependency
from snnc.frontend.netx.load import FROM_FILE, read_netx
from snnc.ir.check_program import check_program
from snnc.ir.graph import Reset
from snnc.ir.program import (
    FORGET,
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.store import program_bytes
from snnc.ir.weights import Dense, integers, pack, stored
from snnc.simulate import reference
from snnc_targets.loihi import interpreter
from snnc_targets.loihi.interpreter import Places
from snnc_targets.netx import usage, write_netx
from snnc_targets.netx_limits import driven_by_bias

VARIABLE = "SNNC_LAVA_DL_PYTHON"
RUNNER = Path(__file__).with_name("lava_dl_network.py")
PROBE = """
import h5py, lava.proc.lif.process
from importlib.metadata import version
assert version("lava-dl") == "0.6.0", "lava-dl is " + version("lava-dl")
"""

pytestmark = [pytest.mark.lava, pytest.mark.slow]


@pytest.fixture(scope="session")
def lava_dl():
    """Return an interpreter that has lava-dl, or skip."""
    places = Places.here()
    try:
        named = places.environ.get(VARIABLE)
        python = Path(named) if named else interpreter.find(places)
        command = [str(python), "-c", PROBE]
        done = subprocess.run(
            command, env=places.child_environ(), capture_output=True, text=True, check=False
        )
        reason = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
    except (MissingDependency, OSError) as error:
        reason = str(error).splitlines()[0]
    if reason and os.environ.get("SNNC_REQUIRE_LAVA_DL") == "1":
        pytest.fail(f"no Python with lava-dl 0.6.0: {reason}")
    if reason:
        pytest.skip(f"no Python with lava-dl 0.6.0 (set ${VARIABLE}): {reason}")
    return python


@dataclass(frozen=True, kw_only=True)
class Job:
    """A netx file, its program, and the codes to run both on."""

    name: str
    program: Program
    codes: np.ndarray
    streamed: bool = True  # one network for all samples, reset after each


def differences(lava_dl, directory, jobs):
    """Return for each job how many spikes and membranes differ, and how many spikes there were."""
    described = []
    for job in jobs:
        biased = driven_by_bias(job.program)
        values = job.codes
        if biased:
            first = job.program.layers[0]
            sign = int(np.sign(stored(first.synapses[0].weight).sum()))
            values = sign * job.codes + int(first.bias[0])
        elif isinstance(job.program.populations[0].synapses[0].kind, FullyConnected):
            values = job.codes.reshape(len(job.codes), -1)
        np.save(directory / f"{job.name}.npy", values)
        bits = usage(job.program)["network"]["input_message_bits"]
        described.append(
            {
                "name": job.name,
                "steps": job.program.steps,
                "streamed": job.streamed,
                "biased": biased,
                "message_bits": bits,
            }
        )
    (directory / "jobs.json").write_text(json.dumps(described))
    command = [str(lava_dl), str(RUNNER), str(directory)]
    subprocess.run(command, env=Places.here().child_environ(), check=True, timeout=600)
    return {job.name: _compared(directory, job) for job in jobs}


def _compared(directory, job):
    want = reference.run(job.program, job.codes, raster=True)
    got = np.load(directory / f"{job.name}.npz")
    differing = {
        layer.name: int((got[f"layer{i}"] != layer.raster).sum())
        for i, layer in enumerate(want.layers)
    }
    if isinstance(job.program.readout, Accumulator):
        summed = got["membrane"].reshape(want.logits.shape)
        differing["logits"] = int((summed != 64 * want.logits).sum())
    return differing, {layer.name: int(layer.raster.sum()) for layer in want.layers}


def write(path, layers, steps):
    """Write a netx file by hand: each layer as (type, fields, neuron or None)."""
    with h5py.File(path, "w") as file:
        for i, (kind, fields, neuron) in enumerate(layers):
            group = file.create_group(f"layer/{i}")
            group.create_dataset("type", (1,), "S10", [kind.encode()])
            for name, value in fields.items():
                group.create_dataset(name, data=np.asarray(value))
            if neuron is not None:
                group.create_dataset("neuron/type", data=neuron[0])
                for name, value in zip(("vThMant", "vDecay", "iDecay"), neuron[1:], strict=True):
                    group.create_dataset(f"neuron/{name}", data=value)
        file.create_dataset("simulation/tSample", data=steps)


def by_hand(path, layers, rng, *, steps, samples=3, streamed=True, levels=None):
    write(path, layers, steps)
    program = read_netx(path, replace(FROM_FILE, levels=levels))
    size = (samples, *program.input.shape)
    codes = integers(rng.integers(0, program.input.levels + 1, size))
    return Job(name=path.name, program=program, codes=codes, streamed=streamed)


def test_files_written_by_hand_import_as_lava_dl_runs_them(lava_dl, tmp_path):
    rng = np.random.default_rng(0)
    conv = {
        "shape": (4, 3, 6),
        "weight": rng.integers(-20, 30, (4, 1, 3, 2, 1)).astype(np.float32),
        "bias": rng.integers(-40, 60, 4),
        "stride": (2, 1),
        "padding": (1, 0),
        "dilation": (2, 1),
        "groups": 2,
    }
    narrow = {
        "shape": (3, 3, 3),
        "weight": rng.integers(-40, 50, (3, 4, 1, 2)),
        "stride": (1, 2),
        "padding": 0,
        "dilation": 1,
        "groups": 1,
    }
    image = ("input", {"shape": (2, 7, 7), "weight": 60, "bias": 5}, ("LOIHI", 70, 300, 2048))
    flatten = ("flatten", {"shape": (27,)}, None)
    out = ("dense", {"shape": (4,), "weight": rng.integers(-60, 60, (4, 6))}, None)
    dense = {"shape": (6, 1, 1), "weight": rng.integers(-90, 120, (6, 27)).ravel()}
    maps = [
        image,
        ("conv", conv, ("CUBA", 90, 1000, 3000)),
        ("conv", narrow, ("CUBA", 60, 0, 1)),
        flatten,
        ("dense", dense, ("CUBA", 500, 128, 4096)),
        out,
    ]
    vector = ("input", {"shape": (12,), "weight": -50, "bias": 90}, ("CUBA", 60, 0, 4096))
    late = {"shape": (7,), "weight": rng.integers(-60, 90, (7, 12))}
    later = {"shape": (5,), "weight": rng.integers(-60, 90, (5, 7))}
    fire, slow = ("CUBA", 80, 256, 2048), ("LOIHI", 120, 0, 4096)
    delays = [
        vector,
        ("dense", {**late, "delay": rng.integers(0, 9, (7, 12))}, fire),
        ("dense", {**later, "delay": rng.integers(0, 5, 5).astype(np.float32)}, slow),
        ("dense", {"shape": (3,), "weight": rng.integers(-60, 90, (3, 5)), "delay": 3}, fire),
        (
            "dense",
            {"shape": (9,), "weight": rng.integers(-60, 90, (9, 3)), "delay": [0, 1, 62]},
            ("CUBA", 131071, 0, 4096),
        ),
    ]
    fed = [
        ("input", {"shape": (2, 7, 7)}, None),
        ("conv", conv, ("CUBA", 900, 0, 4096)),
        ("conv", narrow, ("CUBA", 60, 5, 4095)),
    ]
    flat = [
        ("input", {"shape": (2, 3, 2)}, None),
        ("flatten", {"shape": (12,)}, None),
        ("dense", late, ("CUBA", 3000, 4095, 4096)),
        ("dense", {**later, "bias": rng.integers(-9, 30, 5)}, fire),
    ]
    jobs = [
        by_hand(tmp_path / "maps.net", maps, rng, steps=16),
        by_hand(tmp_path / "delays.net", delays, rng, steps=40, streamed=False, samples=2),
        by_hand(tmp_path / "fed.net", fed, rng, steps=8, levels=15),
        by_hand(tmp_path / "flat.net", flat, rng, steps=8, levels=255),
    ]
    compared = differences(lava_dl, tmp_path, jobs)
    for name, (differing, spikes) in compared.items():
        assert set(differing.values()) == {0}, (name, differing)
        assert min(spikes.values()) > 0, (name, spikes)


def test_weights_that_lava_dl_changes_are_imported_as_it_delivers_them(lava_dl, tmp_path):
    """All negative, with and without a zero, at the powers of two; too large; odd."""
    matrices = {
        "half": [[-128, -3, -7], [-1, -2, -9]],
        "quarter": [[-64, -32, -16], [-64, -48, -16]],
        "zero": [[-128, 0, -64], [0, 0, -64]],
        "whole": [[-256, -255, -254], [-1, -3, -256]],
        "odd": [[3, -4, 5], [7, -128, 127]],
        "clipped": [[300, -400, 255], [1, 1, 1]],
        "large": [[255, 253, 1], [0, 3, 5]],
        "one": [[-1, -1, -1], [-1, -1, -1]],
    }
    rng = np.random.default_rng(1)
    jobs = []
    for name, weight in matrices.items():
        layers = [
            ("input", {"shape": (3,)}, None),
            ("dense", {"shape": (2,), "weight": weight}, ("CUBA", 1 << 17, 0, 4096)),
        ]
        jobs.append(by_hand(tmp_path / name, layers, rng, steps=1, levels=1, samples=8))
    compared = differences(lava_dl, tmp_path, jobs)
    assert {name: differing for name, (differing, _) in compared.items()} == {
        name: {"logits": 0} for name in matrices
    }


def exported(seed):
    """Return a random program that netx can express, and codes for it.

    Odd seeds drive neurons by the image; half of them accumulate; each third delays, and then
    has no positive bias, with which a layer could spike before the first sample reaches it.
    """
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(4, 7)), int(rng.integers(4, 7)))
    levels = int(rng.choice([1, 15, 255]))
    zero_point = np.full(shape[0], rng.integers(0, levels + 1))
    coding = ImageInput(shape=shape, levels=levels, zero_point=integers(zero_point))
    layers = []
    if seed % 2:
        unit = np.full((shape[0], 1, 1, 1), rng.choice([-1, 1]))
        kind = Convolution(stride=(1, 1), padding=(0, 0), groups=shape[0])
        bias = np.full(shape[0], int(rng.integers(levels // 2, levels + 2)))
        layers.append(population("pixels", INPUT, shape, [(0, unit)], kind, bias, levels, rng))
    for i in range(int(rng.integers(1, 3))):
        source = layers[-1].name if layers else INPUT
        shape = layers[-1].shape if layers else shape
        peak, highest = 1 if layers else levels, 20 if seed % 3 else 1
        layers.append(convolution(f"conv{i}", source, shape, rng, peak, highest))
    inputs = int(np.prod(layers[-1].shape))
    weight = sprinkled((6, inputs), rng)
    late = rng.integers(0, 4, weight.shape) if seed % 3 == 0 else np.zeros_like(weight)
    parts = [(int(d), np.where(late == d, weight, 0)) for d in np.unique(late)]
    bias = rng.integers(-9, 20, 6)
    kind = FullyConnected()
    layers.append(population("hidden", layers[-1].name, (6,), parts, kind, bias, 1, rng))
    last = [(0, sprinkled((4, 6), rng))]
    bias = rng.integers(-9, 20, 4)
    out = population("out", "hidden", (4,), last, FullyConnected(), bias, 1, rng)
    readout = SpikeCount()
    if seed % 4 < 2:
        readout = Accumulator(
            name="out", shape=(4,), synapses=out.synapses, bias=out.bias, scale=2.5
        )
    program = Program(
        input=coding,
        layers=tuple(layers) if seed % 4 < 2 else (*layers, out),
        readout=readout,
        steps=8,
        provenance={"seed": seed},
    )
    codes = rng.integers(0, levels + 1, (2, *coding.shape)) - zero_point.reshape(-1, 1, 1)
    return check_program(program), integers(codes)


def convolution(name, source, shape, rng, peak, highest):
    groups = int(rng.choice([g for g in (1, 2, 3) if shape[0] % g == 0]))
    kernel = sprinkled((groups * 2, shape[0] // groups, 2, 3), rng)
    kind = Convolution(stride=(1, 2), padding=(0, 1), groups=groups)
    size = (groups * 2, shape[1] - 1, (shape[2] - 1) // 2 + 1)
    bias = rng.integers(-9, highest, size[0])
    return population(name, source, size, [(0, kernel)], kind, bias, peak, rng)


def sprinkled(shape, rng):
    """Return weights of both signs, many of them zero."""
    weight = rng.integers(-60, 90, shape) * (rng.random(shape) < 0.7)
    weight.flat[:2] = 1, -1
    return weight


def population(name, source, shape, parts, kind, bias, peak, rng):
    """Return a layer of hard resets whose threshold some neurons reach."""
    synapses = tuple(
        Synapses(
            name=f"{name}.{delay}",
            source=source,
            weight=pack(integers(weight)) if rng.random() < 0.5 else Dense(integers(weight)),
            kind=kind,
            delay=delay,
        )
        for delay, weight in parts
    )
    return Layer(
        name=name,
        shape=shape,
        synapses=synapses,
        bias=integers(bias),
        threshold=64 * int(rng.integers(5, 40) * peak) + 1,
        decay=int(rng.choice([0, 1, 300, 2048])),
        reset=Reset.ZERO,
        scale=1.5,
        current_decay=int(rng.choice([FORGET, FORGET, 3000, 512])),
    )


def test_exported_programs_run_on_lava_dl_with_equal_spikes_and_come_back_as_they_were(
    lava_dl, tmp_path
):
    jobs = []
    for seed in range(8):
        program, codes = exported(seed)
        path = tmp_path / f"program{seed}.net"
        write_netx(program, path, force=False)
        assert program_bytes(read_netx(path)) == program_bytes(program)
        jobs.append(Job(name=path.name, program=program, codes=codes, streamed=bool(seed % 3)))
    compared = differences(lava_dl, tmp_path, jobs)
    for name, (differing, _) in compared.items():
        assert set(differing.values()) == {0}, (name, differing)
    fired = [count for _, spikes in compared.values() for count in spikes.values()]
    assert np.mean(np.array(fired) > 0) > 0.8
