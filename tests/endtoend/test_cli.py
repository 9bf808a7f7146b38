"""The command line, from a checkpoint to a priced and attacked build."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from snnc.cli import COMMANDS, main
from snnc.ir.store import load_graph, load_program


def call(capsys, *arguments):
    """Run a command; return its status, its output and what it told people."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def answer(capsys, *arguments):
    """Run a command with --json and return the JSON of its standard output."""
    status, out, err = call(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(capsys, name):
    status, out, _ = call(capsys, name, "--help")
    assert status == 0
    assert "Example: snnc" in " ".join(out.split())


def test_compile_works_as_the_readme_writes_it(capsys, run_directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(run_directory / "model.pt", tmp_path)
    status, out, _ = call(capsys, "compile", "model.pt", "--target", "loihi")
    assert status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-loihi", "model.pt"]
    assert "conv1" in out and "snnc simulate model-loihi" in out
    assert load_program(tmp_path / "model-loihi" / "program.snnx").steps == 3


def test_dump_shows_the_graph_between_passes(capsys, run_directory, tmp_path):
    model = run_directory / "model.pt"
    _, _, err = call(
        capsys, "compile", model, "--target", "reference", "-o", tmp_path / "b", "--dump"
    )
    for name in ("input", "after fold_batchnorm", "after unit_thresholds", "after quantize"):
        assert f"# {name}" in err


def test_a_network_passes_the_check_of_a_target(capsys, run_directory):
    found = answer(capsys, "check", run_directory / "model.pt", "--target", "loihi")
    assert (found["target"], found["legal"], found["issues"]) == ("loihi", True, [])


@pytest.mark.parametrize("engine", ["fast", "numpy", "torch"])
def test_every_host_engine_says_the_same(capsys, build, engine):
    found = answer(capsys, "simulate", build, "--engine", engine, "--samples", 50)
    again = answer(capsys, "simulate", build, "--samples", 50)
    assert found["accuracy"] == again["accuracy"]
    assert found["layers"] == again["layers"]
    assert found["samples"] == 50


def test_a_build_runs_on_its_own_target_and_agrees(capsys, build):
    found = answer(capsys, "simulate", build, "--engine", "target", "--samples", 20)
    assert found["agreement"]["predictions"] == 1.0
    assert set(found["agreement"]["layers"].values()) == {1.0}


def test_an_attack_on_the_integers_lowers_accuracy(capsys, build, run_directory):
    found = answer(
        capsys, "attack", build, "--model", run_directory / "model.pt",
        "--eps", 0, "--eps", 0.3, "--steps", 3, "--samples", 60,
    )  # fmt: skip
    clean, attacked = found["curves"]["deployed"]
    simulated = answer(capsys, "simulate", build, "--samples", 60)
    assert clean["correct"] == simulated["accuracy"]["correct"]
    assert attacked["correct"] < clean["correct"]
    for key in ("transfer", "adaptive"):
        assert found["curves"][key][1]["correct"] >= attacked["correct"]


def test_a_checkpoint_is_attacked_itself(capsys, run_directory):
    victim = run_directory / "model.pt"
    found = answer(capsys, "attack", victim, "--eps", 0.1, "--attack", "fgsm", "--samples", 40)
    assert list(found["curves"]) == ["float"]
    assert found["attack"]["name"] == "fgsm"
    assert found["attack"]["estimators"] == "triangle 1, exp_damped 2"
    assert "quantiser" not in found["attack"]["threat"]


def test_signs_of_masking_are_looked_for_when_asked(capsys, build):
    words = ["attack", build, "--eps", 0.2, "--steps", 3, "--samples", 20]
    found = answer(capsys, *words, "--checks")
    assert [each["name"] for each in found["checks"]] == [
        "zero-gradient",
        "one-step",
        "unbounded",
        "random-noise",
    ]
    assert answer(capsys, *words)["checks"] == []


def test_energy_prices_every_profile_and_never_hides_a_gap(capsys, build, run_directory):
    ann = run_directory / "checkpoints" / "03-recover.pt"
    found = answer(capsys, "energy", build, "--samples", 30, "--ann", ann)
    estimates = {each["profile"]: each for each in found["estimates"]}
    assert set(estimates) >= {"cmos45-fp32-ops", "loihi1-davies2018", "loihi2-opsproxy"}
    assert "total" not in estimates["loihi1-davies2018"]
    assert estimates["loihi1-davies2018"]["unpriced"]
    assert estimates["cmos45-fp32-ops"]["total"]["nominal"] > 0


def test_a_target_that_places_neurons_on_cores_knows_the_hops(capsys, run_directory, tmp_path):
    model, here = run_directory / "model.pt", tmp_path / "build"
    assert main(["compile", str(model), "--target", "loihi1", "-o", str(here)]) == 0
    capsys.readouterr()
    arguments = ("energy", here, "--samples", 30, "--profile", "loihi1-davies2018")
    found = answer(capsys, *arguments)
    assert found["counts"]["routing"] == {"hops_ew": 0.0, "hops_ns": 0.0}  # one tile holds all
    assert not any("hop" in each for each in found["estimates"][0]["unpriced"])
    assert (here / "mapping.svg").read_text().startswith("<svg")


def test_energy_counts_what_the_target_made_of_the_program(capsys, run_directory, tmp_path):
    model = str(run_directory / "model.pt")
    ways = {"host": ["-O", "convolutions=conv"], "graded": ["-O", "convolutions=sparse"]}
    priced = {}
    for image, others in ways.items():
        here = tmp_path / image
        chosen = ["-O", f"image={image}", *others]
        assert main(["compile", model, "--target", "loihi", "-o", str(here), *chosen]) == 0
        capsys.readouterr()
        arguments = ("energy", here, "--samples", 5, "--profile", "loihi2-opsproxy")
        priced[image] = answer(capsys, *arguments)
    stored = {
        image: {each["name"]: each["encoding"] for each in found["counts"]["bundles"]}
        for image, found in priced.items()
    }
    assert (stored["host"]["conv2"], stored["graded"]["conv2"]) == ("conv", "sparse")
    once, each_step = (found["estimates"][0]["input"] for found in priced.values())
    assert (once["image_passes"], each_step["image_passes"]) == ("once", "per_step")


def test_a_check_that_finds_something_ends_with_status_1(capsys, run_directory):
    model = str(run_directory / "model.pt")
    assert main(["check", model, "--target", "loihi2"]) == 1  # 3 steps are no power of two
    assert main(["check", model, "--target", "loihi"]) == 0
    capsys.readouterr()


def test_inspect_reads_every_kind_of_file(capsys, build, run_directory):
    graph = answer(capsys, "inspect", run_directory / "model.pt")
    program = answer(capsys, "inspect", build / "program.snnx")
    whole = answer(capsys, "inspect", build)
    assert graph["kind"] == "graph" and 0.45 < graph["sparsity"] < 0.55
    assert program["show"] == whole["show"]
    assert whole["target"] == "reference"


def test_zero_weights_of_the_checkpoint_are_zero_in_graph_and_program(build, run_directory):
    import numpy as np
    from snnc.frontend.checkpoint import load_checkpoint
    from snnc.ir.weights import unpack

    state = load_checkpoint(run_directory / "model.pt").state
    graph = load_graph(build / "graph.snn")
    program = load_program(build / "program.snnx")
    bundles = {b.name: b for p in program.populations for b in p.synapses}
    for name, bundle in bundles.items():
        trained = next(v for k, v in state.items() if k.endswith(f"{name}.weight")).numpy()
        in_graph = unpack(graph[name].op.weight)
        np.testing.assert_array_equal(trained == 0, in_graph == 0)
        in_program = unpack(bundle.weight)
        if in_program.shape == trained.shape:
            assert (in_program[trained == 0] == 0).all()
        else:  # pooling was folded in: every weight became a window
            taps = in_program.size // trained.size
            assert np.count_nonzero(in_program) <= taps * np.count_nonzero(trained)


def test_targets_are_listed(capsys):
    names = [each["name"] for each in answer(capsys, "targets")["targets"]]
    assert names == ["loihi", "loihi1", "loihi2", "reference"]


WRONG = {
    "a missing model": (["compile", "none.pt", "--target", "loihi"], "none.pt does not exist"),
    "a directory": (["compile", ".", "--target", "loihi"], ". is a directory"),
    "an empty file": (["compile", "empty.pt", "--target", "loihi"], "empty.pt is empty"),
    "a misspelt target": (
        ["compile", "model.pt", "--target", "lohi"],
        "no target named 'lohi'; did you mean 'loihi'?",
    ),
    "a misspelt data set": (
        ["simulate", "build", "--data", "digitz"],
        "no data set named 'digitz'; did you mean 'digits'?",
    ),
    "a misspelt profile": (
        ["energy", "build", "--profile", "loihi1-davies"],
        "no energy profile named 'loihi1-davies'; did you mean 'loihi1-davies2018'?",
    ),
    "a misspelt engine": (["simulate", "build", "--engine", "fats"], "did you mean 'fast'?"),
    "a misspelt attack": (
        ["attack", "build", "--eps", "0.1", "--attack", "pdg"],
        "did you mean 'pgd'?",
    ),
    "a misspelt recipe": (["train", "digit"], "no recipe named 'digit'; did you mean 'digits'?"),
    "an unknown key": (
        ["train", "digits", "-o", "r", "--set", "train.epoch=3"],
        "did you mean 'epochs'?",
    ),
    "zero steps": (["train", "digits", "-o", "r", "--set", "convert.steps=0"], "convert.steps"),
    "a negative epsilon": (["attack", "build", "--eps", "-0.1"], "eps is -0.1"),
    "too many samples": (
        ["simulate", "build", "--samples", "99999"],
        "99999 samples were asked for",
    ),
    "an output that exists": (
        ["compile", "model.pt", "--target", "reference", "-o", "build"],
        "build exists; choose another path, or replace it with --force",
    ),
    "settings of another attack": (
        ["attack", "build", "--eps", "0.1", "--attack", "fgsm", "--steps", "5"],
        "belong to pgd",
    ),
    "a directory that is no build, even by force": (
        ["compile", "model.pt", "--target", "reference", "-o", "precious", "--force"],
        "precious is not a build, so --force does not replace it",
    ),
    "too many levels": (
        ["compile", "model.pt", "--target", "reference", "--levels", "10000000000"],
        "levels is 10000000000",
    ),
    "Lava for another target": (
        ["simulate", "build", "--engine", "lava"],
        "was made for 'reference'",
    ),
    "a program where a network belongs": (
        ["compile", "build/program.snnx", "--target", "loihi"],
        "is a compiled program",
    ),
    "an ordinary network": (
        ["compile", "ann.pt", "--target", "reference"],
        "ordinary network without spiking layers",
    ),
}


@pytest.fixture
def workplace(tmp_path, monkeypatch, build, run_directory):
    """Go to a directory with a model, an ordinary network, a build and an empty file."""
    shutil.copy(run_directory / "model.pt", tmp_path)
    shutil.copy(run_directory / "checkpoints" / "03-recover.pt", tmp_path / "ann.pt")
    shutil.copytree(build, tmp_path / "build")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(directory):
    return {str(p.relative_to(directory)): p.stat().st_mtime_ns for p in directory.rglob("*")}


@pytest.mark.parametrize("name", WRONG)
def test_refuses(capsys, workplace, name):
    arguments, message = WRONG[name]
    before = contents(workplace)
    status, out, err = call(capsys, *arguments)
    assert status == 1
    assert message in err and "Traceback" not in err
    assert out == ""
    assert contents(workplace) == before, "something was left behind"


def test_a_refusal_is_json_too(capsys, workplace):
    status, out, _ = call(capsys, "compile", "ann.pt", "--target", "reference", "--json")
    assert status == 1
    assert json.loads(out)["issues"][0]["code"] == "not-spiking"


def test_wrong_usage_leaves_with_2(capsys):
    assert call(capsys, "compile")[0] == 2
    status, _, err = call(capsys, "compil")
    assert status == 2 and "did you mean 'compile'?" in err


def test_a_changed_build_is_refused(capsys, workplace):
    path = workplace / "build" / "program.snnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    status, _, err = call(capsys, "simulate", "build")
    assert status == 1 and "program.snnx changed since the build was made" in err


def test_a_pickle_that_would_run_code_is_refused(capsys, workplace):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {workplace / 'owned'}",))

    import torch

    torch.save({"weights": Evil()}, workplace / "evil.pt")
    status, _, err = call(capsys, "compile", "evil.pt", "--target", "reference")
    assert status == 1 and "evil.pt" in err
    assert not (workplace / "owned").exists()


def test_a_truncated_checkpoint_is_refused(capsys, workplace):
    path = workplace / "model.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, _, err = call(capsys, "compile", "model.pt", "--target", "reference")
    assert status == 1 and "model.pt" in err and not zipfile.is_zipfile(path)


def test_a_path_that_cannot_be_written_is_refused(capsys, workplace):
    before = contents(workplace)
    out = workplace / "model.pt" / "build"
    status, _, err = call(capsys, "compile", "model.pt", "--target", "reference", "-o", out)
    assert status == 1 and "cannot write" in err and "is not a directory" in err
    assert contents(workplace) == before


# A shell says 130 to both. Python ends itself by the signal, whatever the program returned, if
# the interruption fell into a string that C code was executing, as imports of torch do.
INTERRUPTED = (130, -signal.SIGINT)


def snnc(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "snnc", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_full_standard_output_is_one_sentence(build):
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "snnc", "inspect", str(build)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr == "snnc: error: cannot print the result: No space left on device\n"


def test_a_pipe_in_place_of_a_file_is_refused_at_once(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe.snn")
    status, _, err = call(capsys, "inspect", tmp_path / "pipe.snn")
    assert status == 1 and "is not a regular file" in err


def test_another_network_than_the_one_that_was_built_is_refused(capsys, build, run_directory):
    from snnc.frontend.checkpoint import from_module, save_checkpoint
    from snnc_models.small import small_conv

    other = run_directory.parent / "other.pt"
    arguments = {"channels": [4], "pool_after": []}
    checkpoint = from_module(
        small_conv(**arguments),
        architecture="small_conv",
        arguments=arguments,
        input_shape=(1, 8, 8),
        class_names=(),
        provenance={},
    )
    save_checkpoint(other, checkpoint, force=True)
    status, _, err = call(capsys, "energy", build, "--ann", other, "--samples", 5)
    assert status == 1 and "pass the network that the build was made of" in err


def test_a_request_to_end_is_an_interruption(tmp_path, tiny):
    process = snnc("train", "digits", "-o", "run", *tiny, cwd=tmp_path)
    wait_for(tmp_path / "run" / "run.json", process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED and out.endswith("snnc: interrupted\n"), out


def wait_for(path: Path, process):
    deadline = time.monotonic() + 60
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)  # the tiny training takes a second or two
    assert path.exists(), process.communicate()[0]


def test_an_interrupted_training_leaves_130_and_resumes_to_the_same_weights(
    tmp_path, run_directory, capsys, tiny
):
    process = snnc("train", "digits", "-o", "run", *tiny, cwd=tmp_path)
    wait_for(tmp_path / "run" / "checkpoints" / "01-train.json", process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED, out
    assert not (tmp_path / "run" / "model.pt").exists()
    status, _, err = call(capsys, "train", "digits", "-o", tmp_path / "run", *tiny)
    assert status == 1 and "resume" in err
    assert call(capsys, "train", "digits", "-o", tmp_path / "run", *tiny, "--resume")[0] == 0
    again = answer(capsys, "inspect", tmp_path / "run" / "model.pt")
    assert again["show"] == answer(capsys, "inspect", run_directory / "model.pt")["show"]
    status, _, err = call(
        capsys, "train", "digits", "-o", tmp_path / "run", *tiny, "--set", "seed=9", "--resume"
    )
    assert status == 1 and "seed: 0 before, 9 now" in err
