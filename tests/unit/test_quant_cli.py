"""snnc compile with widths, calibration and choices of the target."""

import json
from pathlib import Path

import numpy as np
import pytest
from snnc.cli import main
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Add,
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
from snnc.ir.store import load_program, save_graph
from snnc.ir.weights import floats, pack, unpack
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Numbers


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Write model.snn, a small network for the digits, into a directory of its own."""
    rng = np.random.default_rng(0)
    fire = Fire(threshold=floats(0.8), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0)
    conv = Conv2d(
        weight=pack(rng.normal(size=(3, 1, 3, 3)) / 2),
        bias=floats(np.zeros(3)),
        stride=(1, 1),
        padding=(0, 0),
        groups=1,
    )
    matrix = Linear(weight=pack(rng.normal(size=(10, 108)) / 5), bias=floats(np.zeros(10)))
    nodes = (
        Node("input", Input(shape=(1, 8, 8)), ()),
        Node("conv", conv, ("input",)),
        Node("fire", fire, ("conv",)),
        Node("flat", Flatten(), ("fire",)),
        Node("fc", matrix, ("flat",)),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc",)),
    )
    graph = check_graph(Graph(nodes=nodes, steps=4))
    save_graph(tmp_path / "model.snn", graph, force=False)
    monkeypatch.chdir(tmp_path)
    return graph


def call(capsys, *words):
    status = main(["compile", "model.snn", "--target", "reference", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def largest(program):
    """Return the largest mantissa of each layer."""
    weights = [unpack(population.synapses[0].weight) for population in program.populations]
    return [int(np.abs(each).max() // np.gcd.reduce(each, axis=None)) for each in weights]


def test_without_a_width_the_integers_are_those_of_the_compiler(capsys, model):
    status, out, _ = call(capsys, "--json")
    assert status == 0
    found = json.loads(out)["quantization"]
    assert (found["images"], found["worst"]) == (0, None)
    assert [layer["bits"] for layer in found["layers"]] == [8, 8]
    program = load_program(Path("model-reference/program.snnx"))
    for one, other in zip(
        program.populations, compile_graph(model, Numbers()).populations, strict=True
    ):
        np.testing.assert_array_equal(
            unpack(one.synapses[0].weight), unpack(other.synapses[0].weight)
        )
    assert program.provenance["quantization"] == found


def test_bits_set_all_layers_and_single_ones(capsys, model):
    assert call(capsys, "--bits", "2", "--bits", "fc=6")[0] == 0
    program = load_program(Path("model-reference/program.snnx"))
    assert largest(program) == [1, 31]


def test_calibration_is_told_as_json_and_kept_in_the_build(capsys, model):
    words = ["--bits", 4, "--calibrate", "digits", "--samples", 20, "--json"]
    status, out, err = call(capsys, *words)
    found = json.loads(out)
    assert status == 0 and err == ""
    assert found["quantization"]["images"] == 20
    assert found["quantization"]["worst"] in {"conv", "fc"}
    first, last = found["quantization"]["layers"]
    assert first["rate_error"] <= first["rate_error_before"]
    assert last["logit_error"] > 0 and last["sensitivity"] > 0
    program = load_program(Path("model-reference/program.snnx"))
    assert program.provenance["quantization"] == found["quantization"]


def test_the_table_of_a_calibration_names_the_worst_layer(capsys, model):
    status, out, _ = call(capsys, "--bits", 3, "--calibrate", "digits", "--samples", 10)
    assert status == 0
    assert "error, no search" in out and "hurts most" in out and "10 calibration images" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "four"], "'four' is neither N nor LAYER=N"),
        (["--bits", "=4"], "'=4' is neither N nor LAYER=N"),
        (["--bits", "fc=4"], "give one for all others too"),
        (["--bits", "4", "--bits", "2"], "the width of all layers is given twice"),
        (["--bits", "4", "--bits", "fc=2", "--bits", "fc=3"], "'fc' is given twice"),
        (["--samples", "10"], "--samples and --data-root belong to --calibrate"),
        (["--data-root", "."], "--samples and --data-root belong to --calibrate"),
        (["-O", "image"], "'image' is not NAME=VALUE"),
        (["-O", "a=1", "-O", "a=2"], "'a' is chosen twice"),
    ],
)
def test_words_that_cannot_be_meant_are_wrong_usage(capsys, model, words, message):
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "9"], "weights of 9 bits were asked for; this target has 2 to 8"),
        (["--bits", "1"], "weights of 1 bits were asked for"),
        (["--bits", "4", "--bits", "cnov=8"], "no layer named 'cnov'; did you mean 'conv'?"),
        (["--calibrate", "digitz"], "no data set named 'digitz'; did you mean 'digits'?"),
        (["--calibrate", "digits", "--samples", "0"], "0 samples were asked for"),
        (["-O", "imgae=bias"], "no option of target 'reference' named 'imgae'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_writes_nothing(capsys, model, tmp_path, words, message):
    status, out, err = call(capsys, *words)
    assert (status, out) == (1, "")
    assert message in err
    assert not (tmp_path / "model-reference").exists()


def test_a_network_of_another_shape_is_refused(capsys, model, tmp_path):
    (tmp_path / "wide").mkdir()
    nodes = (
        Node("input", Input(shape=(4,)), ()),
        Node("fc", Linear(weight=pack(np.eye(4)), bias=floats(np.zeros(4))), ("input",)),
        Node("fire", model["fire"].op, ("fc",)),
        Node("out", Readout(decision=Decision.SPIKES), ("fire",)),
    )
    save_graph(tmp_path / "model.snn", check_graph(Graph(nodes=nodes, steps=2)), force=True)
    status, _, err = call(capsys, "--calibrate", "digits")
    assert status == 1 and "images of digits have shape (1, 8, 8)" in err


def shared(first):
    """Return a network whose sum after `first` is read by two, so that `first` is copied."""

    def conv(weight):
        return Conv2d(
            weight=pack(np.asarray(weight)),
            bias=floats(np.zeros(1)),
            stride=(1, 1),
            padding=(0, 0),
            groups=1,
        )

    fire = Fire(threshold=floats(1.0), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0)
    nodes = (
        Node("input", Input(shape=(1, 3, 3)), ()),
        Node("first", conv(first), ("input",)),
        Node("relu1", fire, ("first",)),
        Node("branch", conv(np.full((1, 1, 1, 1), 0.5)), ("relu1",)),
        Node("add", Add(), ("branch", "first")),
        Node("relu2", fire, ("add",)),
        Node("last", conv(np.full((1, 1, 1, 1), 0.5)), ("relu2",)),
        Node("flat", Flatten(), ("last",)),
        Node("out", Readout(decision=Decision.MEMBRANE), ("flat",)),
    )
    return check_graph(Graph(nodes=nodes, steps=4))


def test_copies_of_weights_are_told_in_words_and_as_json(capsys, model, tmp_path):
    save_graph(tmp_path / "model.snn", shared([[[[2.0, 0.0], [1.0, 1.5]]]]), force=True)
    status, out, _ = call(capsys)
    assert status == 0
    # 3 weights of first, as many in its copy, and one each of branch and last
    assert "3 of 8 weights are copies made for sums that several layers read" in out
    status, out, _ = call(capsys, "--force", "--json")
    found = json.loads(out)
    assert (found["copied_weights"], found["weights"]) == (3, 8)


def test_a_network_without_copies_says_nothing_of_them(capsys, model):
    status, out, _ = call(capsys)
    assert status == 0 and "copies" not in out
    assert json.loads(call(capsys, "--force", "--json")[1])["copied_weights"] == 0


def test_weights_that_leave_bits_unused_are_told_with_the_remedy(capsys, model):
    words = ["compile", "model.snn", "--target", "loihi2", "-o", "build"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "conv: weights use " in out and "--levels" in out and "image=graded" in out
    assert main([*words, "--force", "--json"]) == 0
    first, _ = json.loads(capsys.readouterr().out)["quantization"]["layers"]
    assert first["limited_by"] == "image current"
    assert f"{first['bits_used']} of {first['bits']}" in out
    assert main([*words, "--force", "--levels", "7"]) == 0
    assert "weights use" not in capsys.readouterr().out


RECIPE = """
extends = "digits"
name = "short"
[data]
samples = 100
[finetune]
epochs = 2
batch = 50
rate = 0.02
validate_every = 1
objective = { kind = "standard" }
"""


def test_tuned_integers_are_told_with_the_recipe_and_keep_their_zeros(capsys, model):
    Path("short.toml").write_text(RECIPE)
    narrow = ("--bits", 2, "--calibrate", "digits", "--samples", 20)
    assert call(capsys, *narrow, "-o", "searched")[0] == 0
    status, out, err = call(capsys, *narrow, "--tune", "short.toml", "-o", "tuned", "--json")
    assert status == 0
    assert "validation_loss" in err
    searched = load_program(Path("searched/program.snnx"))
    program = load_program(Path("tuned/program.snnx"))
    assert largest(program) == [1, 1]
    assert program.provenance["tuned"]["recipe"] == "short"
    assert json.loads(out)["quantization"] == program.provenance["quantization"]
    zero = unpack(model["fc"].op.weight) == 0
    assert (unpack(program.populations[1].synapses[0].weight)[zero] == 0).all()
    changed = [
        (unpack(a.synapses[0].weight) != unpack(b.synapses[0].weight)).any()
        for a, b in zip(searched.populations, program.populations, strict=True)
    ]
    assert any(changed)


def test_tuning_needs_scales_and_the_recipe_of_the_network(capsys, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SNNC_DATA", str(tmp_path))
    assert call(capsys, "--tune", "digits")[0] == 2
    untuned = RECIPE.replace('extends = "digits"', 'extends = "cifar10_vgg16_dense"')
    Path("other.toml").write_text(untuned)
    status, _, err = call(capsys, "--calibrate", "digits", "--tune", "other.toml")
    assert status == 1 and "cifar-10" in err  # the recipe's data are not there
