"""Hundreds of generated programs on Lava's models, with every choice: 0 differing spikes.

Starting Lava takes most of a second, so many programs run in one interpreter: Lava's own process
models, without its runtime (`template/inproc.py`). Programs on the runtime are elsewhere
(`tests/conformance/test_targets.py`).
"""

import subprocess
from itertools import count, islice

import numpy as np
import pytest
from snnc.ir.program import FORGET, INPUT, Accumulator, Convolution
from snnc.semantics.network import specified
from snnc.testing.conformance import agree
from snnc.testing.programs import generate
from snnc_targets.loihi import plan
from snnc_targets.loihi.mantissas import weight_exponent
from snnc_targets.loihi.plan import Form
from snnc_targets.loihi.runner import read_trace
from snnc_targets.loihi.target import LOIHI2, TARGET

pytestmark = [pytest.mark.lava, pytest.mark.usefixtures("lava")]

RUN_ALL = """
import json, runpy, sys
from pathlib import Path

import numpy as np

builds = [Path(line) for line in Path(sys.argv[1]).read_text().splitlines()]
sys.path[:0] = [str(builds[0]), str(builds[0] / "procs")]  # they are the same in every build
from host import Run, count_spikes, load_weights, simulate, start_in_process, write_values

for build in builds:
    network = runpy.run_path(str(build / "network.py"), run_name="network")
    facts = json.loads((build / "network.json").read_text())
    weights = load_weights(build / "weights.npz", facts["weights_sha256"])
    codes = np.load(build / "codes.npy")
    run = Run(build / "results", network["T"])
    run.expect(len(codes))
    write_values(run, codes, weights, network["image_values"])
    advance = start_in_process(network["build"](weights, run), None)
    simulate(advance, run, network["LAG"])
    if facts["readout"] == "spike-count":
        count_spikes(run, facts["layers"][-1])
"""


def run_all(python, target, runs, place):
    """Return the trace of each program on its codes, with all spikes."""
    builds = []
    for number, (program, codes) in enumerate(runs):
        build = place / str(number)
        build.mkdir()
        target.emit(program, build)
        (build / "results").mkdir()
        np.save(build / "codes.npy", codes)
        builds.append(build)
    (place / "builds").write_text("\n".join(map(str, builds)))
    command = [python, "-c", RUN_ALL, place / "builds"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return [
        read_trace(program, build, build / "results", codes, raster=True)
        for build, (program, codes) in zip(builds, runs, strict=True)
    ]


AT_ONCE = {"current_decays": (FORGET,)}  # a lasting current cannot come as a bias


def accepted(target, first, programs, **kinds):
    """Return generated programs that a target accepts, from a seed on, with codes."""
    drawn = (generate(seed, **kinds) for seed in count(first))
    return list(islice((run for run in drawn if not target.issues(run[0])), programs))


def forms(target, programs):
    """Return every form that carries a bundle of some program, with what it carries."""
    return {
        (bundle.form, isinstance(bundle.synapses.kind, Convolution), bundle.message_bits > 0)
        for program in programs
        for place in plan.plan(program, target.how)
        for bundle in place.bundles
    }


@pytest.mark.parametrize(
    ("options", "seed", "programs", "kinds", "used"),
    [
        ({}, 1000, 110, {}, (Form.CONV, True, False)),
        ({"convolutions": "sparse"}, 2000, 50, {}, (Form.SPARSE, True, False)),
        ({"image": "graded"}, 3000, 60, {}, (Form.CONV, True, True)),
        (
            {"image": "graded", "convolutions": "sparse"},
            4000,
            30,
            {},
            (Form.SPARSE, True, True),
        ),
        ({"image": "bias"}, 5000, 60, AT_ONCE, (Form.BIAS, True, False)),
    ],
)
def test_generated_programs_do_on_lava_what_the_specification_says(
    lava, tmp_path, options, seed, programs, kinds, used
):
    target = TARGET.configured(options)
    runs = accepted(target, seed, programs, **kinds)
    assert used in forms(target, [program for program, _ in runs])
    traces = run_all(lava, target, runs, tmp_path)
    for (program, codes), trace in zip(runs, traces, strict=True):
        agree(trace, specified(program, codes))


def test_the_generated_programs_have_all_that_they_should():
    """Else agreement on them says little; counted over the seeds of the first case above."""
    runs = accepted(TARGET, 1000, 110)
    programs = [program for program, _ in runs]
    layers = [layer for program in programs for layer in program.layers]
    bundles = [s for program in programs for p in program.populations for s in p.synapses]
    spiking = [s for s in bundles if s.source != INPUT]
    found = {
        "streamed samples": sum(len(codes) > 1 for _, codes in runs),
        "lasting currents": sum(layer.current_decay < FORGET for layer in layers),
        "leaks": sum(layer.decay > 0 for layer in layers),
        "sums": sum(len(layer.synapses) > 1 for layer in layers),
        "delays": sum(s.delay > 0 for s in spiking),
        "exponents": sum(bool(weight_exponent(s)) for s in spiking),
        "delays in a readout": sum(
            s.delay > 0
            for program in programs
            if isinstance(program.readout, Accumulator)
            for s in program.readout.synapses
        ),
        "image into a later layer": sum(
            s.source == INPUT
            for program in programs
            for layer in program.layers[1:]
            for s in layer.synapses
        ),
        "strides and groups": sum(
            isinstance(s.kind, Convolution) and (s.kind.groups > 1 or s.kind.stride != (1, 1))
            for s in spiking
        ),
    }
    assert {name: number for name, number in found.items() if number < 10} == {}


def test_generated_programs_that_a_chip_could_run_do_the_same_in_its_simulation(lava, tmp_path):
    runs = accepted(LOIHI2, 6000, 20, steps=(4, 8), delays=(0,), **AT_ONCE)
    traces = run_all(lava, LOIHI2, runs, tmp_path)
    for (program, codes), trace in zip(runs, traces, strict=True):
        assert program.steps in (4, 8)
        agree(trace, specified(program, codes))
