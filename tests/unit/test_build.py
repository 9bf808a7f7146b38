"""A build comes back as it was written, and is refused when anything in it is off."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from snnc.errors import InvalidFile, Issue, NotLegal, OutputExists
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Decision,
    Fire,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Reset,
)
from snnc.ir.store import digest, graph_bytes, program_bytes
from snnc.ir.weights import floats, pack
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers
from snnc.semantics.encode import encode
from snnc.targets.api import Target
from snnc.targets.build import GRAPH, MANIFEST, MAPPING, PROGRAM, load_build, write_build
from snnc_targets.loihi.target import TARGET as LOIHI
from snnc_targets.reference import TARGET as REFERENCE


def network(seed=0):
    rng = np.random.default_rng(seed)
    fire = Fire(threshold=floats(1.0), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0)
    nodes = (
        Node("input", Input(shape=(6,)), ()),
        Node(
            "fc1", Linear(weight=pack(rng.normal(size=(5, 6))), bias=floats(np.ones(5))), ("input",)
        ),
        Node("fire1", fire, ("fc1",)),
        Node(
            "fc2",
            Linear(weight=pack(rng.normal(size=(3, 5))), bias=floats(np.zeros(3))),
            ("fire1",),
        ),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc2",)),
    )
    return check_graph(Graph(nodes=nodes, steps=4, class_names=("a", "b", "c")))


def written(directory, target=REFERENCE, seed=0, force=False):
    graph = network(seed)
    program = compile_graph(graph, target.numbers)
    write_build(directory, target, program, graph, force=force)
    return graph, program


def files(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


class Failing(Target):
    """Refuses every program, or breaks while it writes."""

    name = "failing"
    summary = "for these tests"
    numbers = Numbers()

    def __init__(self, refuses):
        self.refuses = refuses

    def issues(self, program):
        return [Issue("fc1", "has weights", "remove them", "weights")] if self.refuses else []

    def emit(self, program, directory):
        (Path(directory) / "half").write_text("written")
        raise OSError(28, "No space left on device")

    def execute(self, program, directory, codes, *, raster, progress=None):
        raise AssertionError("never runs")


@pytest.mark.parametrize("target", [REFERENCE, LOIHI], ids=lambda target: target.name)
def test_a_build_comes_back_as_it_was(tmp_path, target):
    graph, program = written(tmp_path / "build", target)
    build = load_build(tmp_path / "build")
    assert build.target == target.name
    assert build.directory == tmp_path / "build"
    assert graph_bytes(build.graph) == graph_bytes(graph)
    assert program_bytes(build.program) == program_bytes(program)
    assert [layer["name"] for layer in build.mapping["layers"]] == ["fc1", "fc2"]
    assert build.manifest["target"] == target.name


def test_a_build_of_imported_integers_has_no_float_graph(tmp_path):
    program = written(tmp_path / "first")[1]
    write_build(tmp_path / "build", REFERENCE, program, None, force=False)
    build = load_build(tmp_path / "build")
    assert build.graph is None
    assert GRAPH not in files(tmp_path / "build")
    assert program_bytes(build.program) == program_bytes(program)


def test_the_manifest_names_every_other_file_with_its_checksum(tmp_path):
    written(tmp_path / "build", LOIHI)
    named = load_build(tmp_path / "build").manifest["files"]
    assert sorted(named) == [f for f in files(tmp_path / "build") if f != MANIFEST]
    assert {PROGRAM, GRAPH, MAPPING} < set(named)
    for name, sha in named.items():
        assert digest((tmp_path / "build" / name).read_bytes()) == sha


def test_a_loaded_build_runs(tmp_path):
    written(tmp_path / "build")
    build = load_build(tmp_path / "build")
    codes = encode(build.program.input, np.random.default_rng(1).random((4, 6)))
    trace = REFERENCE.execute(build.program, build.directory, codes, raster=False)
    assert trace.predictions.shape == (4,)


def test_equal_networks_give_equal_builds(tmp_path):
    written(tmp_path / "a", LOIHI)
    written(tmp_path / "b", LOIHI)
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_build_may_be_moved(tmp_path):
    _, program = written(tmp_path / "a", LOIHI)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert program_bytes(load_build(tmp_path / "b").program) == program_bytes(program)


def every_file():
    return [PROGRAM, GRAPH, MAPPING, "network.py", "weights.npz", "procs/snnc_processes.py"]


@pytest.mark.parametrize("name", every_file())
def test_a_changed_file_is_refused_by_name(tmp_path, name):
    written(tmp_path / "build", LOIHI)
    path = tmp_path / "build" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InvalidFile, match=f"build: {name} changed since the build was made"):
        load_build(tmp_path / "build")


@pytest.mark.parametrize("name", every_file())
def test_a_missing_file_is_refused_by_name(tmp_path, name):
    written(tmp_path / "build", LOIHI)
    (tmp_path / "build" / name).unlink()
    with pytest.raises(InvalidFile, match=f"build: {name} changed .* or is missing"):
        load_build(tmp_path / "build")


def test_every_changed_file_is_named_at_once(tmp_path):
    written(tmp_path / "build")
    (tmp_path / "build" / GRAPH).write_bytes(b"x")
    (tmp_path / "build" / PROGRAM).unlink()
    with pytest.raises(InvalidFile, match="build: graph.snn, program.snnx changed"):
        load_build(tmp_path / "build")


def test_a_file_of_another_build_is_refused(tmp_path):
    written(tmp_path / "a", seed=0)
    written(tmp_path / "b", seed=1)
    shutil.copy(tmp_path / "b" / PROGRAM, tmp_path / "a" / PROGRAM)
    with pytest.raises(InvalidFile, match="a: program.snnx changed"):
        load_build(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="cake"), "has format 'cake' version 2, this snnc reads"),
        (lambda m: m.update(version=3), "has format 'snnc build' version 3"),
        (lambda m: m.pop("files"), "is damaged; compile again"),
        (lambda m: m.update(target=3), "is damaged; compile again"),
        (lambda m: m["files"].pop(PROGRAM), "program.snnx changed since"),
        (lambda m: m["files"].update({"more.txt": "0"}), "more.txt changed .* or is missing"),
    ],
)
def test_a_manifest_edited_by_hand_is_refused(tmp_path, change, message):
    written(tmp_path / "build")
    path = tmp_path / "build" / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidFile, match=message):
        load_build(tmp_path / "build")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_manifest_is_refused(tmp_path, content):
    written(tmp_path / "build")
    (tmp_path / "build" / MANIFEST).write_bytes(content)
    with pytest.raises(InvalidFile, match="manifest.json"):
        load_build(tmp_path / "build")


def test_what_is_not_a_build_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("file", "nowhere"):
        with pytest.raises(InvalidFile, match="is not a directory; pass a build made by"):
            load_build(tmp_path / name)
    with pytest.raises(InvalidFile, match=r"is not a build: it has no manifest\.json"):
        load_build(tmp_path)


def test_an_existing_directory_is_replaced_only_with_force(tmp_path):
    written(tmp_path / "build", LOIHI, seed=0)
    before = (tmp_path / "build" / PROGRAM).read_bytes()
    with pytest.raises(OutputExists, match="--force"):
        written(tmp_path / "build", REFERENCE, seed=1)
    assert (tmp_path / "build" / PROGRAM).read_bytes() == before
    _, program = written(tmp_path / "build", REFERENCE, seed=1, force=True)
    build = load_build(tmp_path / "build")
    assert build.target == "reference"
    assert program_bytes(build.program) == program_bytes(program)
    assert files(tmp_path / "build") == sorted([GRAPH, MANIFEST, MAPPING, PROGRAM])
    assert os.listdir(tmp_path) == ["build"]


def test_a_program_the_target_refuses_leaves_nothing(tmp_path):
    with pytest.raises(NotLegal, match="target 'failing' cannot run this program:\n  fc1: has"):
        written(tmp_path / "build", Failing(refuses=True))
    assert os.listdir(tmp_path) == []


def test_a_target_that_breaks_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(Exception, match="No space left on device"):
        written(tmp_path / "build", Failing(refuses=False))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [{"image": 5}, {"image": ["host"]}, {"image": None}, ["x"]])
def test_options_that_are_no_texts_are_damage(tmp_path, options):
    written(tmp_path / "build", LOIHI)
    manifest = json.loads((tmp_path / "build" / MANIFEST).read_text())
    (tmp_path / "build" / MANIFEST).write_text(json.dumps({**manifest, "options": options}))
    with pytest.raises(InvalidFile, match="manifest.json is damaged; compile again"):
        load_build(tmp_path / "build")
