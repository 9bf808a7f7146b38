"""snnc check: all reasons at once, or what a network takes of a chip."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from importlib.metadata import EntryPoint

import click
import numpy as np
import pytest
from click.testing import CliRunner
from snnc.cli.check import check
from snnc.errors import InvalidSetting, OutputExists
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
from snnc.ir.store import save_graph, save_program
from snnc.ir.weights import floats, pack
from snnc.passes.compile import compile_graph
from snnc.targets import registry
from snnc.targets.build import write_build
from snnc_targets.loihi.cores import chip
from snnc_targets.loihi.cores.chip import Constant

PLACES = {
    "reference": "snnc_targets.reference:TARGET",
    "loihi": "snnc_targets.loihi.target:TARGET",
    "loihi1": "snnc_targets.loihi.loihi1:TARGET",
}


@pytest.fixture(autouse=True)
def targets(monkeypatch):
    points = [EntryPoint(name, place, registry.GROUP) for name, place in PLACES.items()]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points)


def network(*, hidden=40, reset=Reset.ZERO, bias=0.5):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(hidden, 6)), rng.normal(size=(3, hidden))
    weights[1][:, ::2] = 0.0
    fire = Fire(threshold=floats(1.0), granularity=Granularity.LAYER, reset=reset, keep=1.0)
    nodes = (
        Node("input", Input(shape=(6,)), ()),
        Node(
            "fc1",
            Linear(weight=pack(weights[0]), bias=floats(np.full(hidden, bias))),
            ("input",),
        ),
        Node("fire1", fire, ("fc1",)),
        Node("fc2", Linear(weight=pack(weights[1]), bias=floats(np.zeros(3))), ("fire1",)),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc2",)),
    )
    return check_graph(Graph(nodes=nodes, steps=4, class_names=("a", "b", "c")))


@pytest.fixture
def model(tmp_path):
    save_graph(tmp_path / "model.snn", network(), force=False)
    return tmp_path / "model.snn"


def call(*arguments):
    """Run the command; return its status and output, or raise what it raises."""
    result = CliRunner().invoke(check, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def answer(*arguments):
    status, out = call(*arguments, "--json")
    return status, json.loads(out)


def test_a_network_that_fits_gets_a_table_of_its_layers(model):
    status, out = call(model, "--target", "loihi1")
    assert status == 0
    head, _, columns, first, second, *_ = out.splitlines()
    assert head == f"loihi1 can run {model}"
    assert columns.split()[:5] == ["layer", "stored", "neurons", "not", "zero"]
    assert first.split()[:3] == ["fc1", "none", "40"]
    assert second.split()[0] == "fc2" and second.split()[2:5] == ["3", "60", "1"]
    assert "2 cores on 1 loihi1 chip of 128" in out
    assert "with every zero stored" in out
    assert "Loihi 1's limits are public" in out


def test_the_answer_for_machines_holds_the_whole_mapping(model):
    status, found = answer(model, "--target", "loihi1")
    assert (status, found["legal"], found["issues"], found["options"]) == (0, True, [], {})
    assert found["mapping"]["partition"]["cores"] == 2
    assert {each["evidence"] for each in found["mapping"]["partition"]["certificate"]} == {"fact"}


def test_a_target_without_cores_lists_layers_only(model):
    status, out = call(model, "--target", "reference")
    assert status == 0
    assert out.splitlines()[2].split() == ["layer", "neurons", "weights", "not", "zero"]
    assert out.splitlines()[4].split() == ["fc2", "3", "120", "60"]


def test_a_program_and_a_build_are_checked_as_they_are(model, tmp_path):
    target = registry.load("loihi1")
    graph = network()
    program = compile_graph(graph, target.numbers)
    save_program(tmp_path / "model.snnx", program, force=False)
    write_build(tmp_path / "build", target, program, graph, force=False)
    answers = [
        answer(path, "--target", "loihi1")[1]
        for path in (model, tmp_path / "model.snnx", tmp_path / "build")
    ]
    assert answers[0] == answers[1] == answers[2]


def test_every_reason_is_listed_with_need_limit_and_remedy(tmp_path):
    graph = network(hidden=4100)
    save_program(
        tmp_path / "wide.snnx",
        compile_graph(graph, registry.load("reference").numbers),
        force=False,
    )
    status, out = call(tmp_path / "wide.snnx", "--target", "loihi1")
    assert status == 1
    head, columns, *rows = out.splitlines()
    assert head == f"loihi1 cannot run {tmp_path / 'wide.snnx'}, {len(rows)} reasons:"
    assert columns.split() == ["code", "layer", "need", "limit", "problem", "remedy"]
    codes = {row.split()[0]: row for row in rows}
    assert {"image-bias-range", "dendrite-range"} <= set(codes)
    assert "32767" in codes["dendrite-range"] and "prune the layer" in codes["dendrite-range"]


def test_what_compiling_refuses_is_reported_in_the_same_shape(tmp_path):
    save_graph(tmp_path / "model.snn", network(bias=1e12), force=False)
    status, found = answer(tmp_path / "model.snn", "--target", "loihi1")
    assert (status, found["legal"], found["mapping"]) == (1, False, {})
    for issue in found["issues"]:
        assert set(issue) == {"layer", "problem", "remedy", "code", "need", "limit"}
    assert [issue["layer"] for issue in found["issues"]][0] == "fc1"


def test_chips_are_counted_against_what_is_there(model, monkeypatch):
    assert call(model, "--target", "loihi1", "--chips", 1)[0] == 0
    loihi1 = chip.load("loihi1")
    one_core = replace(loihi1.constants[Constant.CORES_PER_CHIP], value=1)
    constants = {**loihi1.constants, Constant.CORES_PER_CHIP: one_core}
    monkeypatch.setattr(chip, "load", lambda name: replace(loihi1, constants=constants))
    status, found = answer(model, "--target", "loihi1", "--chips", 1)
    (issue,) = found["issues"]
    assert (status, issue["code"], issue["need"], issue["limit"]) == (1, "chips", 2, 1)


def test_a_picture_is_written_whole_and_never_over_another_file(model, tmp_path):
    path = tmp_path / "cores.svg"
    assert call(model, "--target", "loihi1", "--picture", path)[0] == 0
    ElementTree.parse(path)
    with pytest.raises(OutputExists, match="cores.svg exists"):
        call(model, "--target", "loihi1", "--picture", path)
    assert call(model, "--target", "loihi1", "--picture", path, "--force")[0] == 0
    with pytest.raises(InvalidSetting, match="which is read; choose another path"):
        call(model, "--target", "loihi1", "--picture", model, "--force")


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [("--chips", 1, "has no chips"), ("--picture", "x.svg", "nothing to draw")],
)
def test_a_target_without_cores_refuses_what_only_chips_have(
    model, tmp_path, monkeypatch, option, value, complaint
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSetting, match=complaint):
        call(model, "--target", "reference", option, value)


def test_integers_cannot_be_narrowed_after_the_fact(tmp_path):
    program = compile_graph(network(), registry.load("reference").numbers)
    save_program(tmp_path / "model.snnx", program, force=False)
    with pytest.raises(InvalidSetting, match="--bits cannot change them"):
        call(tmp_path / "model.snnx", "--target", "loihi1", "--bits", 4)


def test_levels_are_refused_where_nothing_is_quantized(model, tmp_path):
    target = registry.load("loihi1")
    program = compile_graph(network(), target.numbers)
    write_build(tmp_path / "build", target, program, None, force=False)
    save_program(tmp_path / "model.snnx", program, force=False)
    for integers in (tmp_path / "build", tmp_path / "model.snnx"):
        with pytest.raises(InvalidSetting, match="--levels cannot change them"):
            call(integers, "--target", "loihi1", "--levels", 15)
    assert call(model, "--target", "loihi1", "--levels", 15)[0] == 0


def test_a_build_is_checked_as_it_was_made_unless_options_are_given(tmp_path):
    made = registry.load("loihi", {"image": "graded"})
    program = compile_graph(network(), made.numbers)
    build = tmp_path / "build"
    write_build(build, made, program, None, force=False)

    def image(*arguments):
        return answer(build, "--target", *arguments)[1]["options"].get("image")

    assert image("loihi") == "graded"
    assert image("loihi", "-O", "image=host") == "host"
    assert image("loihi1") is None  # another target has options of its own


def test_a_target_draws_what_its_build_holds(model, tmp_path):
    target = registry.load("loihi")
    program = compile_graph(network(), target.numbers)
    write_build(tmp_path / "build", target, program, None, force=False)
    call(model, "--target", "loihi", "--picture", tmp_path / "cores.svg")
    built = (tmp_path / "build" / "mapping.svg").read_bytes()
    assert (tmp_path / "cores.svg").read_bytes() == built


def test_fewer_bits_take_less_memory(model):
    wide, narrow = (
        answer(model, "--target", "loihi1", "--bits", bits)[1]["mapping"]["partition"]
        for bits in (8, 2)
    )
    words = [each["layers"][1]["synapse_words"] for each in (wide, narrow)]
    assert words[1] < words[0]


def test_the_command_has_help_with_an_example():
    out = CliRunner().invoke(check, ["--help"]).output
    assert isinstance(check, click.Command)
    assert "Example: snnc check" in out
