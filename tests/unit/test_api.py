"""The toolchain in a few words: load, compile, run, count. And importing it costs nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import snnc
import torch
from snnc.energy.ann import ann_counts_of_program
from snnc.energy.count import count
from snnc.energy.record import counts_to_json
from snnc.errors import (
    InvalidFile,
    InvalidGraph,
    InvalidSetting,
    OutputExists,
    UnknownName,
)
from snnc.frontend.checkpoint import from_module, save_checkpoint
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Granularity, Reset
from snnc.ir.store import graph_bytes, program_bytes, save_graph, save_program
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc_models.small import small_conv

ARGUMENTS = {"channels": [3, 4], "pool_after": [1], "size": 4, "classes": 3}
SHAPE = (1, 4, 4)


def ordinary():
    torch.manual_seed(0)
    return small_conv(**ARGUMENTS).eval()


def spiking():
    return to_spiking(
        ordinary(),
        input_shape=SHAPE,
        steps=4,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    ).eval()


def checkpoint(network):
    return from_module(
        network,
        architecture="small_conv",
        arguments=ARGUMENTS,
        input_shape=SHAPE,
        class_names=("a", "b", "c"),
        provenance={"seed": 0},
    )


def images(count=5):
    return np.random.default_rng(0).random((count, *SHAPE), dtype=np.float32)


@pytest.fixture
def program():
    return snnc.compile(spiking(), target="reference")


def test_a_graph_file_loads(tmp_path):
    graph = from_torch(spiking(), input_shape=SHAPE, steps=4)
    save_graph(tmp_path / "m.snn", graph, force=False)
    assert graph_bytes(snnc.load(tmp_path / "m.snn")) == graph_bytes(graph)
    assert graph_bytes(snnc.load(str(tmp_path / "m.snn"))) == graph_bytes(graph)


@pytest.mark.parametrize(("make", "steps"), [(ordinary, 1), (spiking, 4)])
def test_a_checkpoint_loads_as_the_graph_of_its_network(tmp_path, make, steps):
    network = make()
    save_checkpoint(tmp_path / "m.pt", checkpoint(network), force=False)
    wanted = from_torch(
        network,
        input_shape=SHAPE,
        steps=steps,
        class_names=("a", "b", "c"),
        provenance={"seed": 0},
    )
    assert graph_bytes(snnc.load(tmp_path / "m.pt")) == graph_bytes(wanted)


def test_a_directory_a_program_and_a_missing_file_are_told_apart(tmp_path, program):
    save_program(tmp_path / "p.snnx", program, force=False)
    with pytest.raises(InvalidFile, match="is a directory; pass a checkpoint"):
        snnc.load(tmp_path)
    with pytest.raises(InvalidFile, match="is a compiled program; pass the network it came from"):
        snnc.load(tmp_path / "p.snnx")
    for name in ("none.snn", "none.pt"):
        with pytest.raises(InvalidFile, match="does not exist"):
            snnc.load(tmp_path / name)


def test_a_graph_and_the_module_it_came_from_compile_alike(program):
    graph = from_torch(spiking(), input_shape=SHAPE, steps=4)
    assert program_bytes(snnc.compile(graph, target="reference")) == program_bytes(program)


def test_a_directory_gets_a_build_that_holds_the_program(tmp_path):
    program = snnc.compile(spiking(), target="loihi", directory=tmp_path / "build")
    build = snnc.load_build(tmp_path / "build")
    assert build.target == "loihi"
    assert program_bytes(build.program) == program_bytes(program)
    with pytest.raises(OutputExists):
        snnc.compile(spiking(), target="loihi", directory=tmp_path / "build")
    snnc.compile(spiking(), target="reference", directory=tmp_path / "build", force=True)
    assert snnc.load_build(tmp_path / "build").target == "reference"


def test_the_levels_of_grey_reach_the_program():
    assert snnc.compile(spiking(), target="reference", levels=15).input.levels == 15


def test_what_cannot_be_compiled_is_refused(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'loihi'"):
        snnc.compile(spiking(), target="lohi", directory=tmp_path / "build")
    with pytest.raises(InvalidSetting, match=r"pass input_shape=\(C, H, W\)"):
        snnc.compile(ordinary(), target="reference")
    with pytest.raises(InvalidGraph, match="an ordinary network without spiking layers"):
        snnc.compile(
            ordinary(), target="reference", input_shape=SHAPE, directory=tmp_path / "build"
        )
    assert not (tmp_path / "build").exists()


def test_every_engine_runs_the_same_integers(tmp_path, program):
    snnc.compile(spiking(), target="reference", directory=tmp_path / "build")
    build = snnc.load_build(tmp_path / "build")
    traces = [snnc.run(program, images(), engine=name) for name in ("fast", "numpy", "torch")]
    traces += [snnc.run(build, images(), engine=name) for name in ("fast", "numpy", "target")]
    for trace in traces:
        np.testing.assert_array_equal(trace.logits, traces[0].logits)
        np.testing.assert_array_equal(trace.predictions, traces[0].predictions)
        assert [layer.raster for layer in trace.layers] == [None, None]
        for bundle, wanted in zip(trace.synapses, traces[0].synapses, strict=True):
            np.testing.assert_array_equal(bundle.events, wanted.events)
    assert traces[0].logits.any()


@pytest.mark.parametrize("engine", ["fast", "numpy", "torch"])
def test_spikes_are_kept_when_asked_for(program, engine):
    trace = snnc.run(program, images(2), engine=engine, raster=True)
    assert [layer.raster.shape for layer in trace.layers] == [(2, 4, 3, 4, 4), (2, 4, 4, 2, 2)]


def test_an_engine_that_is_not_there_is_refused(program):
    with pytest.raises(UnknownName, match="no engine named 'nunpy'; did you mean 'numpy'"):
        snnc.run(program, images(), engine="nunpy")
    with pytest.raises(InvalidSetting, match="runs the files of a build"):
        snnc.run(program, images(), engine="target")  # a program alone has no target


def test_images_that_do_not_fit_are_refused(program):
    with pytest.raises(InvalidSetting, match=r"the program reads \(1, 4, 4\)"):
        snnc.run(program, np.zeros((2, 4, 4)))
    with pytest.raises(InvalidSetting, match=r"reads \[0, 1\]"):
        snnc.run(program, 255 * images())


def test_count_is_the_count_of_the_energy_model(program):
    trace = snnc.run(program, images())
    wanted = count(program, trace, ann=ann_counts_of_program(program))
    assert counts_to_json(snnc.count(program, trace)) == counts_to_json(wanted)
    assert len(snnc.count(program, trace).bundles) == 3


def test_the_package_lists_its_functions_and_no_others():
    assert {"load", "compile", "run", "count", "load_build", "Build"} <= set(dir(snnc))
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        snnc.lod  # noqa: B018


HEAVY = ("numpy", "torch", "scipy", "numba", "rich", "sklearn", "pydantic", "matplotlib")


def modules_after(code):
    """Return which heavy packages a fresh interpreter holds after running some code."""
    script = (
        f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_snnc_imports_nothing_heavy():
    assert modules_after("import snnc; snnc.__version__") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_first_look_at_the_command_line_imports_nothing_heavy(arguments):
    code = f"from snnc.cli import main\nassert main({arguments}) == 0"
    assert modules_after(code) == []


def test_running_integers_needs_no_torch():
    code = "import snnc; snnc.run; snnc.count"
    assert "torch" not in modules_after(code)
