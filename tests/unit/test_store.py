"""Files round-trip, are deterministic, and refuse everything they should not read."""

import io
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from snnc.errors import CannotWrite, InvalidFile, OutputExists
from snnc.ir.graph import (
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Readout,
    Reset,
)
from snnc.ir.show import show, show_program
from snnc.ir.store import (
    JSON,
    TENSORS,
    graph_bytes,
    load_graph,
    load_program,
    program_bytes,
    save_graph,
    save_program,
)
from snnc.ir.weights import Csr, Dense, floats, pack, unpack
from snnc.testing.programs import programs


def small_graph():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 1, 3, 3)) * (rng.random((4, 1, 3, 3)) < 0.3)
    matrix = rng.normal(size=(3, 64))
    return Graph(
        nodes=(
            Node("input", Input(shape=(1, 4, 4)), ()),
            Node(
                "conv1",
                Conv2d(
                    weight=pack(kernel),
                    bias=floats(np.ones(4)),
                    stride=(1, 1),
                    padding=(1, 1),
                    groups=1,
                ),
                ("input",),
            ),
            Node(
                "fire1",
                Fire(
                    threshold=floats([1.0, 2.0, 0.1, 1 / 3]),
                    granularity=Granularity.CHANNEL,
                    reset=Reset.SUBTRACT,
                    keep=0.9,
                ),
                ("conv1",),
            ),
            Node("flat", Flatten(), ("fire1",)),
            Node("fc", Linear(weight=Dense(floats(matrix)), bias=floats(np.zeros(3))), ("flat",)),
            Node("out", Readout(decision=Decision.MEMBRANE), ("fc",)),
        ),
        steps=8,
        class_names=("a", "b", "ç"),
        provenance={"seed": 1, "metrics": {"accuracy": 0.5}},
    )


def test_a_graph_comes_back_as_it_was(tmp_path):
    graph = small_graph()
    save_graph(tmp_path / "m.snn", graph, force=False)
    loaded = load_graph(tmp_path / "m.snn")
    assert show(loaded) == show(graph)
    assert isinstance(loaded["conv1"].op.weight, Csr)
    for name in ("conv1", "fc"):
        np.testing.assert_array_equal(unpack(loaded[name].op.weight), unpack(graph[name].op.weight))
    np.testing.assert_array_equal(loaded["fire1"].op.threshold, graph["fire1"].op.threshold)
    assert loaded.provenance == graph.provenance
    assert loaded.class_names == graph.class_names
    assert graph_bytes(loaded) == graph_bytes(graph)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_a_program_comes_back_as_it_was(tmp_path_factory, program):
    path = tmp_path_factory.mktemp("program") / "p.snnx"
    save_program(path, program, force=False)
    loaded = load_program(path)
    assert program_bytes(loaded) == path.read_bytes() == program_bytes(program)
    assert show_program(loaded) == show_program(program)


def test_a_single_threshold_keeps_its_shape(tmp_path):
    graph = small_graph()
    fire = replace(graph["fire1"].op, threshold=floats(0.5), granularity=Granularity.LAYER)
    nodes = tuple(replace(node, op=fire) if node.name == "fire1" else node for node in graph.nodes)
    save_graph(tmp_path / "m.snn", replace(graph, nodes=nodes), force=False)
    loaded = load_graph(tmp_path / "m.snn")["fire1"].op.threshold
    assert loaded.shape == () and loaded == 0.5


def test_loaded_arrays_cannot_be_changed(tmp_path):
    save_graph(tmp_path / "m.snn", small_graph(), force=False)
    with pytest.raises(ValueError, match="read-only"):
        load_graph(tmp_path / "m.snn")["conv1"].op.bias[0] = 2.0


def test_an_existing_file_is_replaced_only_when_told(tmp_path):
    path = tmp_path / "m.snn"
    path.write_text("precious")
    with pytest.raises(OutputExists, match="--force"):
        save_graph(path, small_graph(), force=False)
    assert path.read_text() == "precious"
    save_graph(path, small_graph(), force=True)
    assert load_graph(path).steps == 8
    assert os.listdir(tmp_path) == ["m.snn"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        save_graph(tmp_path / "m.snn", small_graph(), force=False)
    assert os.listdir(tmp_path) == []


def test_a_path_under_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotWrite, match="is not a directory"):
        save_graph(tmp_path / "file" / "m.snn", small_graph(), force=False)


def test_missing_empty_and_directory_are_told_apart(tmp_path):
    (tmp_path / "empty.snn").write_bytes(b"")
    with pytest.raises(InvalidFile, match="is empty"):
        load_graph(tmp_path / "empty.snn")
    with pytest.raises(InvalidFile, match="is a directory"):
        load_graph(tmp_path)
    with pytest.raises(InvalidFile, match="does not exist"):
        load_graph(tmp_path / "none.snn")


def test_a_program_is_not_a_graph(tmp_path):
    save_graph(tmp_path / "m.snn", small_graph(), force=False)
    with pytest.raises(InvalidFile, match="holds 'snnc graph', not 'snnc program'"):
        load_program(tmp_path / "m.snn")


def test_every_truncation_is_refused(tmp_path):
    content = graph_bytes(small_graph())
    path = tmp_path / "m.snn"
    for length in range(1, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidFile, match=r"m\.snn"):
            load_graph(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    content = graph_bytes(small_graph())
    path = tmp_path / "m.snn"
    refused = 0
    for position in range(0, len(content), 31):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(damaged))
        try:
            assert graph_bytes(load_graph(path)) == content
        except InvalidFile:
            refused += 1
    assert refused > 0.9 * len(range(0, len(content), 31))


def edited(change):
    """Return a graph file whose JSON was changed by hand, tensors and checksum intact."""
    with zipfile.ZipFile(io.BytesIO(graph_bytes(small_graph()))) as archive:
        head, tensors = json.loads(archive.read(JSON)), archive.read(TENSORS)
    change(head)
    return zipped({JSON: json.dumps(head).encode(), TENSORS: tensors})


def zipped(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=99), "has version 99, this snnc reads 1"),
        (lambda h: h.update(semantics=0), "has semantics 0"),
        (lambda h: h["body"].update(stepz=1), "unknown field 'stepz'; did you mean 'steps'"),
        (lambda h: h["body"].pop("steps"), "lacks steps"),
        (lambda h: h["body"].update(steps="8"), "steps is str, not int"),
        (lambda h: h["body"].update(steps=True), "steps is bool, not int"),
        (lambda h: h["body"].update(steps=0), "run at least one step"),
        (lambda h: h["body"].update(coding="direkt"), "did you mean 'direct'"),
        (
            lambda h: h["body"]["nodes"][1]["op"].update(type="Conv3d"),
            "unknown type 'Conv3d'; did you mean 'Conv2d'",
        ),
        (
            lambda h: h["body"]["nodes"][1]["op"]["bias"].update(tensor="nowhere"),
            "names a tensor 'nowhere'",
        ),
        (
            lambda h: h["body"]["nodes"][2]["op"].update(
                threshold=h["body"]["nodes"][1]["op"]["weight"]["indptr"]
            ),
            "holds int8, not float64",
        ),
        (lambda h: h["body"]["nodes"].append(h["body"]["nodes"][1]), "2 nodes have this name"),
        (lambda h: h["body"]["nodes"][1].update(inputs=["fc"]), "a cycle or a wrong order"),
        (lambda h: h.update(tensors_sha256="0"), "do not match their checksum"),
    ],
)
def test_a_graph_edited_by_hand_is_refused(tmp_path, change, message):
    (tmp_path / "m.snn").write_bytes(edited(change))
    with pytest.raises(InvalidFile, match=message):
        load_graph(tmp_path / "m.snn")


def test_a_bomb_a_foreign_member_and_deep_json_are_refused(tmp_path):
    path = tmp_path / "m.snn"
    path.write_bytes(zipped({JSON: b"0" * 10_000_000, TENSORS: b""}, zipfile.ZIP_DEFLATED))
    with pytest.raises(InvalidFile, match="compressed"):
        load_graph(path)
    path.write_bytes(zipped({JSON: b"{}", "../../evil.py": b"boom"}))
    with pytest.raises(InvalidFile, match="does not hold exactly"):
        load_graph(path)
    path.write_bytes(zipped({JSON: b"[" * 200_000, TENSORS: b""}))
    with pytest.raises(InvalidFile, match="damaged"):
        load_graph(path)
