"""Programs become netx files and come back as they were, or every reason is listed."""

import json
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from snnc.cli.export import export
from snnc.cli.import_ import import_
from snnc.errors import (
    InvalidFile,
    InvalidSetting,
    Issue,
    MissingDependency,
    OutputExists,
    Refusal,
    SnncError,
    UnknownName,
    Unsupported,
)
from snnc.frontend.netx.load import FROM_FILE, read_netx
from snnc.ir.check_program import check_program
from snnc.ir.graph import Reset
from snnc.ir.program import (
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
from snnc.ir.store import load_program, program_bytes, save_program
from snnc.ir.weights import Dense, integers, sparse
from snnc.targets import registry
from snnc.targets.api import Exporter, Usage
from snnc.targets.build import load_build
from snnc.testing.programs import generate
from snnc_targets.loihi.plan import message_bits
from snnc_targets.netx import usage, write_netx
from snnc_targets.netx_limits import issues

ONE = Convolution(stride=(1, 1), padding=(0, 0), groups=2)


def bundle(source, weight, *, name=None, kind=None, delay=0, stored=Dense):
    return Synapses(
        name=name or f"from {source}",
        source=source,
        weight=stored(integers(weight)),
        kind=kind or FullyConnected(),
        delay=delay,
    )


def layer(name, shape, *synapses, **changed):
    standard = {
        "bias": integers(np.arange(shape[0]) - 1),
        "threshold": 641,
        "decay": 7,
        "reset": Reset.ZERO,
        "scale": 12.5,
        "current_decay": 3000,
    }
    return Layer(name=name, shape=shape, synapses=synapses, **{**standard, **changed})


def program(*layers, readout=None, levels=15, zero_point=(3, 3), shape=(2, 2, 2)):
    image = ImageInput(shape=shape, levels=levels, zero_point=integers(zero_point))
    return check_program(
        Program(
            input=image,
            layers=layers,
            readout=readout or SpikeCount(),
            steps=8,
            class_names=("yes", "no") if (readout or layers[-1]).size == 2 else (),
            provenance={"recipe": "none", "seed": 3},
        )
    )


def pixels(**changed):
    own = bundle(INPUT, np.ones((2, 1, 1, 1)), kind=ONE)
    same = {"bias": integers([4, 4]), "current_decay": 4096}
    return layer("pixels", (2, 2, 2), own, **{**same, **changed})


def everything():
    """Use an input layer, both kinds of synapses, both ways to store them, delays and a sum."""
    kernel = bundle("pixels", [[[[2, -3]]], [[[0, 5]]]], kind=ONE, stored=sparse)
    maps = layer("maps", (2, 2, 1), kernel)
    now = bundle("maps", [[1, 0, 0, -4], [0, 0, 0, 9]], name="now", stored=sparse)
    later = bundle("maps", [[0, 3, 0, 0], [0, -1, 0, 0]], name="later", delay=5)
    hidden = layer("hidden", (2,), now, later)
    out = Accumulator(
        name="out",
        shape=(2,),
        synapses=(bundle("hidden", [[1, -2], [3, 4]]),),
        bias=integers([5, -6]),
        scale=2.0,
    )
    return program(pixels(), maps, hidden, readout=out)


def exported(tmp_path, source):
    path = tmp_path / "exported.net"
    write_netx(source, path, force=False)
    return path


def codes_of(caught):
    return [(issue.layer, issue.code) for issue in caught.value.issues]


def test_a_program_comes_back_as_it_was_to_the_byte(tmp_path):
    again = read_netx(exported(tmp_path, everything()))
    assert program_bytes(again) == program_bytes(everything())


def test_a_program_without_an_input_layer_comes_back_as_it_was(tmp_path):
    first = bundle(INPUT, np.arange(16).reshape(2, 8) - 7)
    for zero_point in ((0, 0), (3, 9)):
        fed = program(layer("out", (2,), first), zero_point=zero_point)
        path = tmp_path / f"{zero_point}.net"
        write_netx(fed, path, force=False)
        assert program_bytes(read_netx(path)) == program_bytes(fed)


def test_the_file_holds_what_lava_dl_reads(tmp_path):
    with h5py.File(exported(tmp_path, everything())) as file:
        kinds = [file[f"layer/{i}/type"][0] for i in range(len(file["layer"]))]
        assert kinds == [b"input", b"conv", b"flatten", b"dense", b"dense"]
        assert file["layer/0/weight"][()] == 15
        assert file["layer/0/bias"][()] == 4 - 3  # the code of black goes into the bias
        assert file["layer/3/weight"][()].tolist() == [[1, 3, 0, -4], [0, -1, 0, 9]]
        assert file["layer/3/delay"][()].tolist() == [[0, 5, 0, 0], [0, 5, 0, 0]]
        neuron = {name: value[()] for name, value in file["layer/3/neuron"].items()}
        assert neuron["type"] == b"CUBA"
        assert (neuron["vThMant"], neuron["vDecay"], neuron["iDecay"]) == (10, 7, 3000)
        last = {name: value[()] for name, value in file["layer/4/neuron"].items()}
        assert (last["vThMant"], last["vDecay"], last["iDecay"]) == (131071, 0, 4096)
        assert file["simulation/tSample"][()] == 8


def test_equal_programs_give_equal_bytes(tmp_path):
    for name in ("a.net", "b.net"):
        write_netx(everything(), tmp_path / name, force=False)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_the_usage_says_how_lava_dl_gets_the_same_spikes():
    biased = usage(everything())
    assert biased["network"] == {
        "input_message_bits": 0,
        "reset_interval": 8,
        "reset_offset": 0,
    }
    assert biased["lag"] == 4
    fed = usage(program(layer("out", (2,), bundle(INPUT, np.ones((2, 8))))))
    assert fed["network"]["input_message_bits"] == 5  # codes -3 to 12
    assert (fed["network"]["reset_offset"], fed["lag"]) == (1, 2)


@pytest.mark.parametrize(
    "changed",
    [{"current_decay": 3000}, {"bias": integers([4, 5])}],
)
def test_a_first_layer_that_a_bias_cannot_drive_is_fed_by_graded_spikes(tmp_path, changed):
    fed = program(pixels(**changed))
    path = exported(tmp_path, fed)
    assert program_bytes(read_netx(path)) == program_bytes(fed)
    with h5py.File(path) as file:
        assert "neuron" not in file["layer/0"]


def test_everything_that_netx_cannot_express_is_listed_at_once(tmp_path):
    soft = layer("soft", (2,), bundle(INPUT, np.ones((2, 8))), reset=Reset.SUBTRACT, threshold=640)
    twice = layer(
        "twice",
        (2,),
        bundle("soft", [[1, 2], [3, -4]], name="now"),
        bundle("soft", [[1, 0], [0, 0]], name="later", delay=1),
    )
    same = layer(
        "same", (2,), bundle("twice", [[1, 0], [0, 2]], name="a"), bundle("twice", [[0, 1], [1, 0]])
    )
    skip = layer("skip", (2,), bundle("same", [[1, 1], [1, 2]]), bundle("soft", [[1, 2], [3, 4]]))
    late = layer("late", (2,), bundle("skip", [[1, 2], [3, 4]], name="slow", delay=63))
    zero = layer("zero", (2,), bundle("late", [[0, 0], [0, 0]]), bias=integers([0, 1 << 15]))
    lowest = layer("lowest", (2,), bundle("zero", [[-128, -1], [-3, -4]]), threshold=64 << 18 | 1)
    out = layer("out", (2,), bundle("lowest", [[1 << 17, 2], [3, 4]]))
    refused = program(soft, twice, same, skip, late, zero, lowest, out)
    with pytest.raises(Refusal, match="netx cannot express this program") as caught:
        write_netx(refused, tmp_path / "a.net", force=False)
    assert codes_of(caught) == [
        ("soft", "soft-reset"),
        ("soft", "threshold-form"),
        ("twice", "several-delays"),
        ("same", "several-bundles"),
        ("from soft", "not-a-chain"),
        ("skip", "several-bundles"),
        ("slow", "delay-range"),
        ("zero", "all-zero"),
        ("zero", "bias-range"),
        ("lowest", "weight-rounding"),
        ("lowest", "threshold-form"),
        ("out", "weight-range"),
        ("out", "current-range"),
    ]
    assert not (tmp_path / "a.net").exists()


def test_a_convolution_has_no_delay_and_small_geometry(tmp_path):
    first = layer("first", (2, 2, 2), bundle(INPUT, [[[[2]]], [[[3]]]], kind=ONE))
    far = Convolution(stride=(1, 1), padding=(200, 0), groups=2)
    kernel = bundle("first", [[[[2]]], [[[3]]]], kind=far, delay=2, name="kernel")
    with pytest.raises(Refusal) as caught:
        write_netx(program(first, layer("far", (2, 402, 2), kernel)), tmp_path / "a", force=False)
    assert codes_of(caught) == [("kernel", "conv-delay"), ("far", "conv-range")]


def test_an_existing_file_is_kept(tmp_path):
    path = exported(tmp_path, everything())
    with pytest.raises(OutputExists):
        write_netx(program(pixels()), path, force=False)
    write_netx(program(pixels()), path, force=True)
    assert len(read_netx(path).layers) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_notes_that_do_not_fit_the_file_are_one_clear_error(tmp_path):
    path = exported(tmp_path, everything())
    with h5py.File(path) as file:
        notes = json.loads(file["snnc"][()])
    changes = {
        "are damaged": {"steps": "eight"},
        "are about 5 layers": {"populations": [*notes["populations"], notes["populations"][0]]},
        "do not fit layer/3": {
            "populations": [{**p, "bundles": p["bundles"][:1]} for p in notes["populations"]]
        },
    }
    for text, change in changes.items():
        with h5py.File(path, "a") as file:
            file["snnc"][()] = json.dumps({**notes, **change})
        with pytest.raises(InvalidFile, match=f"exported.net: the notes that snnc left.* {text}"):
            read_netx(path)


def test_a_changed_weight_of_an_exported_file_is_imported(tmp_path):
    path = exported(tmp_path, everything())
    with h5py.File(path, "a") as file:
        file["layer/4/weight"][0, 0] = 33
    readout = read_netx(path).readout
    assert readout.synapses[0].weight.values.tolist() == [[33, -2], [3, 4]]


def test_the_caller_may_run_an_exported_file_for_other_steps(tmp_path):
    path = exported(tmp_path, everything())
    assert read_netx(path, replace(FROM_FILE, steps=3)).steps == 3


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = exported(tmp_path, everything())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependency, match=r"pip install 'snnc\[netx\]'"):
        read_netx(path)
    with pytest.raises(MissingDependency, match=r"pip install 'snnc\[netx\]'"):
        write_netx(everything(), tmp_path / "b.net", force=False)


def test_matrices_from_different_sources_and_of_different_delays_are_no_chain(tmp_path):
    near = layer("near", (3,), bundle(INPUT, np.ones((3, 8))))
    far = layer("far", (4,), bundle("near", np.ones((4, 3))))
    both = layer(
        "out", (2,), bundle("far", np.ones((2, 4))), bundle("near", np.ones((2, 3)), delay=2)
    )
    with pytest.raises(Refusal) as refused:
        write_netx(program(near, far, both), tmp_path / "a.net", force=False)
    assert codes_of(refused)[-1] == ("from near", "not-a-chain")


def test_any_program_has_a_netx_file_or_reasons():
    assert [len(issues(generate(seed)[0])) > 0 for seed in range(300)].count(True) > 100


def test_graded_spikes_of_a_file_are_as_wide_as_those_of_a_build(tmp_path):
    for levels, zero_point in ((1, 0), (15, 3), (255, 128), (7, 0)):
        first = bundle(INPUT, np.ones((2, 8)))
        fed = program(layer("out", (2,), first), levels=levels, zero_point=[zero_point] * 2)
        bits = usage(fed)["network"]["input_message_bits"]
        assert bits == message_bits(fed.input)
        largest = max(levels - zero_point, zero_point)
        assert -(2 ** (bits - 1)) <= -largest and largest <= 2 ** (bits - 1) - 1


@pytest.fixture
def offered(monkeypatch):
    """Offer the exporter, whether or not the installed package says so."""
    points = [
        EntryPoint("netx", "snnc_targets.netx:EXPORTER", registry.EXPORTERS),
        EntryPoint("reference", "snnc_targets.reference:TARGET", registry.GROUP),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: [each for each in points if each.group == group]
    )


def run(command, *arguments):
    """Run a command; return what it printed, or raise what it raised."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, SnncError):
        raise result.exception
    return result


@pytest.mark.usefixtures("offered")
def test_the_commands_export_and_import(tmp_path):
    source, net, build = tmp_path / "a.snnx", tmp_path / "a.net", tmp_path / "build"
    save_program(source, everything(), force=False)
    done = run(export, source, "-o", net, "--json")
    assert json.loads(done.stdout)["network"]["reset_interval"] == 8
    assert "reset_offset=0" in run(export, source, "-o", net, "--force").stdout
    done = run(import_, net, "-o", build, "--json")
    assert json.loads(done.stdout)["layers"] == ["pixels", "maps", "hidden", "out"]
    loaded = load_build(build)
    assert (loaded.target, loaded.graph) == ("reference", None)
    assert program_bytes(loaded.program) == program_bytes(everything())
    again = tmp_path / "b.snnx"
    run(import_, net, "-o", again, "--steps", 4)
    assert load_program(again).steps == 4
    for place in (source, build / "c.net"):
        with pytest.raises(InvalidSetting, match="which is read; choose another path"):
            run(export, source if place == source else build, "-o", place, "--force")
    run(export, build, "-o", tmp_path / "c.net")
    assert (tmp_path / "c.net").read_bytes() == net.read_bytes()


class Upper(Exporter):
    """A format of another package, which says nothing about lava-dl."""

    name = "upper"
    summary = "for this test"

    def issues(self, program):
        return [Issue("hidden", "is there", "remove it", "hidden")] if program.steps == 3 else []

    def write(self, program, path, *, force):
        path.write_text("UPPER")
        return Usage(facts={"letters": 5}, lines=("read it aloud",))


def test_any_exporter_says_in_its_own_words_how_its_file_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_exporter", lambda name: Upper())
    source, out = tmp_path / "a.snnx", tmp_path / "a.up"
    save_program(source, everything(), force=False)
    done = run(export, source, "--format", "upper", "-o", out, "--json")
    assert json.loads(done.stdout) == {"file": str(out), "format": "upper", "letters": 5}
    done = run(export, source, "--format", "upper", "-o", out)
    assert done.stdout == f"wrote {out}\nread it aloud\n"
    save_program(source, replace(everything(), steps=3), force=True)
    with pytest.raises(Refusal, match="upper cannot express this program"):
        run(export, source, "--format", "upper", "-o", tmp_path / "b.up")
    assert not (tmp_path / "b.up").exists()


@pytest.mark.usefixtures("offered")
def test_the_import_command_passes_every_choice_on(tmp_path):
    source, net = tmp_path / "a.snnx", tmp_path / "a.net"
    fed = program(
        layer("out", (2,), bundle(INPUT, np.ones((2, 4)))), shape=(4,), zero_point=[0] * 4
    )
    save_program(source, fed, force=False)
    run(export, source, "-o", net)
    with h5py.File(net, "a") as file:
        del file["snnc"]
    with pytest.raises(Unsupported, match="--input constant"):
        run(import_, net, "-o", source, "--force")
    run(import_, net, "-o", source, "--force", "--input", "constant", "--shape", "1,2,2")
    assert load_program(source).input.shape == (1, 2, 2)
    assert load_program(source).input.levels == 255
    run(import_, net, "-o", source, "--force", "--input", "constant", "--levels", 3)
    assert load_program(source).input.levels == 3
    with pytest.raises(Unsupported, match="its membrane is no sum"):
        run(import_, net, "-o", source, "--force", "--input", "constant", "--readout", "membrane")
    with pytest.raises(Unsupported, match="need no range"):
        run(import_, net, "-o", source, "--force", "--input", "constant", "--pixels", "-1", "1")


def test_the_commands_refuse_what_contradicts_itself(tmp_path):
    net = exported(tmp_path, everything())
    wrong = {
        "--levels belongs to --input constant": ["-o", "b", "--levels", "3"],
        "'1,2' is not C,H,W": ["-o", "b", "--shape", "1,2"],
        "a program file is for no target": ["-o", "b.snnx", "--target", "reference"],
    }
    for text, arguments in wrong.items():
        result = run(import_, net, *arguments)
        assert result.exit_code == 2
        assert text in result.output
    with pytest.raises(UnknownName, match="no format named 'nets'"):
        run(export, net, "--format", "nets", "-o", tmp_path / "c.net")
