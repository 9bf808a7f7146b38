"""Generated Lava programs do what the specification says, spike for spike."""

import json
import subprocess
import tempfile
from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidSetting, TargetFailed
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
from snnc.ir.weights import Dense, integers, sparse, unpack
from snnc.semantics import neuron
from snnc.semantics.encode import encode
from snnc.semantics.network import incoming, specified
from snnc.targets.api import legalize
from snnc.testing.conformance import agree, run_on
from snnc_targets.loihi import runner
from snnc_targets.loihi.target import TARGET

pytestmark = [pytest.mark.lava, pytest.mark.usefixtures("lava")]


def integer_weights(rng, shape, density=1.0):
    return rng.integers(-127, 128, shape).astype(np.int32) * (rng.random(shape) < density)


def convolution(name, source, weight, *, stride=(1, 1), padding=(0, 0), groups=1):
    kind = Convolution(stride=stride, padding=padding, groups=groups)
    return Synapses(name=name, source=source, weight=Dense(integers(weight)), kind=kind)


def matrix(name, source, weight, *, csr=False):
    weight = np.asarray(weight, dtype=np.int32)
    stored = sparse(weight) if csr else Dense(integers(weight))
    return Synapses(name=name, source=source, weight=stored, kind=FullyConnected())


def layer(name, shape, *synapses, threshold, bias=None, decay=0, reset=Reset.ZERO):
    return Layer(
        name=name,
        shape=shape,
        synapses=synapses,
        bias=integers(np.zeros(shape[0]) if bias is None else bias),
        threshold=threshold,
        decay=decay,
        reset=reset,
        scale=1.0,
    )


def flat_input(size, levels=1):
    return ImageInput(shape=(size,), levels=levels, zero_point=integers(np.zeros(size)))


def everything():
    """One network with every kind of synapse, delay, reset and layout, and 7 samples for it."""
    rng = np.random.default_rng(5)
    w = lambda *shape, density=1.0: integer_weights(rng, shape, density)
    bias = lambda size, most: rng.integers(-most, most + 1, size)
    program = Program(
        input=ImageInput(shape=(2, 6, 5), levels=15, zero_point=integers([3, 0])),
        layers=(
            layer(
                "conv1",
                (4, 6, 5),
                convolution("conv1", INPUT, w(4, 2, 3, 3), padding=(1, 1)),
                threshold=64 * 2000 + 1,
                bias=bias(4, 9000),
            ),
            layer(
                "features.1",
                (4, 3, 4),
                convolution(
                    "strided", "conv1", w(4, 2, 3, 2), stride=(2, 1), padding=(1, 0), groups=2
                ),
                threshold=64 * 100 + 1,
                bias=bias(4, 60),
                decay=300,
            ),
            layer(
                "sum",
                (4, 3, 4),
                convolution("point", "features.1", w(4, 4, 1, 1)),
                convolution("skip", "conv1", w(4, 4, 3, 2), stride=(2, 1), padding=(1, 0)),
                convolution("again", INPUT, w(4, 2, 2, 2), stride=(2, 1)),
                threshold=64 * 200 + 1,
                bias=bias(4, 60),
            ),
            layer(
                "soft",
                (9,),
                matrix("soft", "sum", w(9, 48)),
                matrix("sparse skip", "conv1", w(9, 120, density=0.2), csr=True),
                threshold=20_001,
                bias=bias(9, 4000),
                decay=5,
                reset=Reset.SUBTRACT,
            ),
            layer(
                "eager",
                (7,),
                matrix("eager", "soft", w(7, 9, density=0.5), csr=True),
                threshold=1,
            ),
        ),
        readout=Accumulator(
            name="out",
            shape=(3,),
            synapses=(
                matrix("out", "eager", w(3, 7)),
                matrix("out.image", INPUT, w(3, 60)),
                matrix("out.skip", "sum", w(3, 48)),
            ),
            bias=integers([1, -2, 300]),
            scale=1.0,
        ),
        steps=5,
    )
    pixels = rng.integers(0, 16, (7, 2, 6, 5)).astype(np.int32)
    return check_program(program), pixels - integers([3, 0])[:, None, None]


def test_every_kind_of_layer_runs_as_specified():
    program, codes = everything()
    want = specified(program, codes)
    assert all(0.02 < raster.mean() < 0.98 for raster in want.rasters.values())  # it does something
    agree(run_on(TARGET, program, codes), want)


def test_a_membrane_saturates_at_both_ends(monkeypatch):
    """`brake` drives `floor` far below 24 bits, then `trigger` swaps it for `lift`.

    Without a floor, floor would need three steps more to recover; without a ceiling, `ceiling`
    would keep enough after its first spike to fire again at once.
    """
    ones = lambda post, pre, value: np.full((post, pre), value)
    program = check_program(
        Program(
            input=flat_input(1),
            layers=(
                layer("trigger", (3,), matrix("trigger", INPUT, ones(3, 1, 1)), threshold=321),
                layer(
                    "brake",
                    (472,),
                    matrix("brake.on", INPUT, ones(472, 1, 1)),
                    matrix("brake.off", "trigger", ones(472, 3, -127)),
                    threshold=1,
                ),
                layer(
                    "lift",
                    (500,),
                    matrix("lift", "trigger", ones(500, 3, 127)),
                    threshold=64,
                    reset=Reset.SUBTRACT,
                ),
                layer(
                    "floor",
                    (1,),
                    matrix("floor.brake", "brake", ones(1, 472, -127)),
                    matrix("floor.lift", "lift", ones(1, 500, 127)),
                    threshold=64 * 100_000 + 1,
                ),
                layer(
                    "ceiling",
                    (1,),
                    matrix("ceiling.lift", "lift", ones(1, 500, 127)),
                    matrix("ceiling.brake", "brake", ones(1, 472, 127)),
                    threshold=64 * 130_000,
                    reset=Reset.SUBTRACT,
                ),
            ),
            readout=SpikeCount(),
            steps=11,
        )
    )
    codes = integers([[1], [0], [1]])
    want = specified(program, codes)
    with monkeypatch.context() as endless:
        endless.setattr(neuron, "V_MAX", 1 << 40)
        unclipped = specified(program, codes)
    for name in ("floor", "ceiling"):  # so the program tells a clipped membrane from another
        assert (unclipped.rasters[name] != want.rasters[name]).any()
    agree(run_on(TARGET, program, codes), want)


@pytest.mark.parametrize("reset", Reset)
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_membrane_one_unit_around_the_threshold_fires_as_specified(reset, excess):
    """Current 100 for three steps reaches 300 * 64; a hard reset knows 64 n + 1 only."""
    level = 300 * 64 - excess if reset is Reset.SUBTRACT else 64 * (300 - excess) + 1
    program = check_program(
        Program(
            input=flat_input(1),
            layers=(layer("a", (1,), matrix("a", INPUT, [[100]]), threshold=level, reset=reset),),
            readout=SpikeCount(),
            steps=7,
        )
    )
    want = specified(program, integers([[1]]))
    early = excess > 0 or (excess == 0 and reset is Reset.SUBTRACT)
    assert want.rasters["a"][0, 2, 0] == early  # the third step decides
    agree(run_on(TARGET, program, integers([[1]])), want)


def test_biases_of_both_signs_and_both_exponents_do_not_run_ahead_of_the_data():
    rng = np.random.default_rng(0)
    small, large = [4095, -4096, 1, -1, 0], [8190, -8192, 2, -2, 0]
    program = check_program(
        Program(
            input=flat_input(4, levels=3),
            layers=(
                layer("a", (5,), matrix("a", INPUT, integer_weights(rng, (5, 4))), threshold=641),
                layer(
                    "b",
                    (5,),
                    matrix("b", "a", integer_weights(rng, (5, 5))),
                    threshold=64 * 9000 + 1,
                    bias=small,
                ),
                layer(
                    "c",
                    (5,),
                    matrix("c", "b", integer_weights(rng, (5, 5))),
                    threshold=64 * 20_000 + 1,
                    bias=large,
                ),
            ),
            readout=Accumulator(
                name="out",
                shape=(2,),
                synapses=(matrix("out", "c", integer_weights(rng, (2, 5))),),
                bias=integers([50_000, -7]),
                scale=1.0,
            ),
            steps=7,
        )
    )
    codes = rng.integers(0, 4, (5, 4)).astype(np.int32)
    agree(run_on(TARGET, program, codes), specified(program, codes))


def test_a_network_of_one_readout_and_one_step_runs():
    program = check_program(
        Program(
            input=flat_input(3, levels=255),
            layers=(),
            readout=Accumulator(
                name="fc",
                shape=(2,),
                synapses=(matrix("fc", INPUT, [[1, -2, 3], [0, 0, 0]]),),
                bias=integers([-5, 7]),
                scale=1.0,
            ),
            steps=1,
        )
    )
    codes = integers([[10, 20, 255]])
    assert run_on(TARGET, program, codes).logits.tolist() == [[10 - 40 + 765 - 5, 7]]


def test_bundles_without_a_single_weight_are_silent():
    zeros = np.zeros((4, 4))
    program = check_program(
        Program(
            input=flat_input(4),
            layers=(
                layer("a", (4,), matrix("a", INPUT, np.eye(4)), threshold=1),
                layer(
                    "b", (4,), matrix("b", "a", zeros, csr=True), threshold=65, bias=[1, 2, 3, 0]
                ),
                layer(
                    "c",
                    (4,),
                    matrix("c", "b", zeros),
                    matrix("c.late", "a", zeros, csr=True),
                    threshold=1,
                    bias=[1, 0, 0, 0],
                ),
            ),
            readout=SpikeCount(),
            steps=3,
        )
    )
    codes = integers([[1, 1, 0, 1], [0, 0, 1, 0]])
    agree(run_on(TARGET, program, codes), specified(program, codes))


def lasting_and_late():
    """Lasting currents and delays of synapses, in sums, in a convolution and in the readout."""
    rng = np.random.default_rng(8)
    w = lambda *shape: integer_weights(rng, shape, 0.7)
    bias = lambda size: rng.integers(-20, 60, size)
    late = lambda bundle, delay: replace(bundle, delay=delay)
    image = layer("a", (3, 4, 5), convolution("a", INPUT, w(3, 1, 2, 2)), threshold=64 * 300 + 1)
    b = (
        late(convolution("b", "a", w(3, 3, 3, 3), padding=(1, 1)), 2),
        convolution("b.now", "a", w(3, 3, 1, 1)),
    )
    c = (
        matrix("c", "b", w(6, 60), csr=True),
        late(matrix("c.late", "a", w(6, 60)), 3),
        late(matrix("c.image", INPUT, w(6, 30)), 0),
    )
    program = Program(
        input=ImageInput(shape=(1, 5, 6), levels=7, zero_point=integers([2])),
        layers=(
            replace(image, bias=integers(bias(3)), current_decay=900),
            layer("b", (3, 4, 5), *b, threshold=64 * 90 + 1, bias=bias(3), decay=200),
            replace(
                layer("c", (6,), *c, threshold=64 * 350, bias=bias(6), reset=Reset.SUBTRACT),
                current_decay=1,
            ),
        ),
        readout=Accumulator(
            name="out",
            shape=(3,),
            synapses=(
                late(matrix("out", "c", w(3, 6)), 1),
                late(matrix("out.b", "b", w(3, 60)), 4),
            ),
            bias=integers([1, -2, 3]),
            scale=1.0,
        ),
        steps=6,
    )
    pixels = rng.integers(0, 8, (6, 1, 5, 6)).astype(np.int32)
    return check_program(program), pixels - 2


def test_lasting_currents_and_delays_run_as_specified():
    program, codes = lasting_and_late()
    want = specified(program, codes)
    assert all(0.02 < raster.mean() < 0.98 for raster in want.rasters.values())
    agree(run_on(TARGET, program, codes), want)


def test_a_spike_on_its_way_at_the_end_of_a_sample_does_not_reach_the_next(tmp_path):
    """`source` fires at every step of the first sample only, `eager` even before any.

    Two steps of delay would bring the last two spikes of a sample into the next one.
    """
    late = lambda bundle: replace(bundle, delay=2)
    program = check_program(
        Program(
            input=flat_input(1),
            layers=(
                layer("source", (1,), matrix("source", INPUT, [[1]]), threshold=1),
                layer("eager", (1,), matrix("eager", "source", [[0]]), threshold=1, bias=[1]),
                layer("after", (1,), late(matrix("after", "source", [[1]])), threshold=1),
                layer("last", (1,), late(matrix("last", "eager", [[1]])), threshold=1),
            ),
            readout=Accumulator(
                name="out",
                shape=(2,),
                synapses=(
                    late(matrix("out.after", "after", [[1], [0]])),
                    late(matrix("out.last", "last", [[0], [1]])),
                ),
                bias=integers([0, 0]),
                scale=1.0,
            ),
            steps=4,
        )
    )
    codes = integers([[1], [0], [1]])
    want = specified(program, codes)
    assert want.rasters["after"][:, :, 0].tolist() == [[0, 0, 1, 1], [0] * 4, [0, 0, 1, 1]]
    assert want.rasters["last"][:, :, 0].tolist() == [[0, 0, 1, 1]] * 3
    assert want.logits.tolist() == [[0, 0]] * 3
    agree(run_on(TARGET, program, codes), want)
    TARGET.emit(program, tmp_path)
    source = (tmp_path / "network.py").read_text()
    assert source.count("late=2") == 4
    (tmp_path / "network.py").write_text(source.replace("late=2", "late=0"))
    leaking = TARGET.execute(program, tmp_path, codes, raster=True)
    assert leaking.layers[2].raster[:, :, 0].tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]]
    assert leaking.layers[3].raster[:, :, 0].tolist() == [[0, 1, 1, 1], [1] * 4, [1] * 4]


def image_readers():
    """A network in which every later layer, and the readout, reads the image again."""
    rng = np.random.default_rng(11)
    w = lambda most, *shape: rng.integers(-most, most + 1, shape).astype(np.int32)
    again = (
        convolution("b", "a", w(90, 4, 3, 2, 2)),
        convolution("b.image", INPUT, w(3, 4, 2, 4, 4)),
    )
    program = Program(
        input=ImageInput(shape=(2, 6, 6), levels=15, zero_point=integers([3, 0])),
        layers=(
            layer(
                "a",
                (3, 4, 4),
                convolution("a", INPUT, w(9, 3, 2, 3, 3)),
                threshold=64 * 200 + 1,
                bias=w(40, 3),
            ),
            layer("b", (4, 3, 3), *again, threshold=64 * 150 + 1, bias=w(50, 4), decay=100),
            layer(
                "c",
                (5,),
                matrix("c", "b", w(90, 5, 36)),
                matrix("c.image", INPUT, w(2, 5, 72) * 2, csr=True),
                threshold=64 * 150,
                bias=2 * w(30, 5),
                reset=Reset.SUBTRACT,
            ),
        ),
        readout=Accumulator(
            name="out",
            shape=(3,),
            synapses=(matrix("out", "c", w(99, 3, 5)), matrix("out.image", INPUT, w(9, 3, 72))),
            bias=integers([70_000, 0, -9]),
            scale=1.0,
        ),
        steps=2,  # so that a bias is written before the first sample reaches `b`
    )
    codes = rng.integers(0, 16, (7, 2, 6, 6)).astype(np.int32) - integers([3, 0])[:, None, None]
    return check_program(program), codes


@pytest.mark.parametrize("image", ["host", "bias", "graded"])
def test_every_way_for_the_image_gives_the_specified_spikes(image):
    program, codes = image_readers()
    target = TARGET.configured({"image": image})
    want = specified(program, codes)
    assert all(0.02 < raster.mean() < 0.98 for raster in want.rasters.values())
    agree(run_on(target, program, codes), want)


@pytest.mark.parametrize("image", ["host", "bias", "graded"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_deep_network_gets_the_image_in_time_however_few_steps_a_sample_has(image, steps):
    program, codes = image_readers()
    target = TARGET.configured({"image": image, "convolutions": "sparse"})
    program = check_program(replace(program, steps=steps))
    agree(run_on(target, program, codes), specified(program, codes))


def test_a_stride_and_a_padding_beyond_seven_bits_run_as_specified():
    far = convolution("b", "a", [[[[3, 5]]]], stride=(1, 130), padding=(0, 129))
    program = check_program(
        Program(
            input=ImageInput(shape=(1, 1, 132), levels=1, zero_point=integers([0])),
            layers=(
                layer("a", (1, 1, 132), convolution("a", INPUT, [[[[1]]]]), threshold=1),
                layer("b", (1, 1, 3), far, threshold=64 * 2 + 1),
            ),
            readout=SpikeCount(),
            steps=2,
        )
    )
    codes = np.zeros((2, 1, 1, 132), dtype=np.int32)
    codes[0, 0, 0, [1, 131]] = 1  # one window lies in the padding, the others begin here
    want = specified(program, codes)
    assert want.logits.tolist() == [[0, 2, 2], [0, 0, 0]]
    agree(run_on(TARGET, program, codes), want)


def test_graded_spikes_carry_images_of_sixteen_bits():
    program = check_program(
        Program(
            input=flat_input(2, levels=65535),
            layers=(
                layer("a", (2,), matrix("a", INPUT, [[1, 0], [0, -1]]), threshold=64 * 65534 + 1),
                layer(
                    "b",
                    (1,),
                    matrix("b", INPUT, [[1, -1]]),
                    matrix("b.a", "a", [[0, 0]]),
                    threshold=1,
                ),
            ),
            readout=SpikeCount(),
            steps=2,
        )
    )
    codes = integers([[65535, 65534], [65534, 65535]])
    want = specified(program, codes)
    assert want.rasters["a"][:, 0, 0].tolist() == [True, False]
    assert want.rasters["b"][:, 0, 0].tolist() == [True, False]
    agree(run_on(TARGET.configured({"image": "graded"}), program, codes), want)


@pytest.mark.parametrize("network", [everything, lasting_and_late])
def test_samples_in_a_stream_equal_samples_on_their_own(tmp_path, network):
    program, codes = network()
    TARGET.emit(program, tmp_path)
    together = TARGET.execute(program, tmp_path, codes[:3], raster=True)
    for n in range(3):
        alone = TARGET.execute(program, tmp_path, codes[n : n + 1], raster=True)
        np.testing.assert_array_equal(alone.logits[0], together.logits[n])
        for one, all_ in zip(alone.layers, together.layers, strict=True):
            np.testing.assert_array_equal(one.raster[0], all_.raster[n])


def test_chunks_change_no_result_and_progress_reaches_the_end(tmp_path, monkeypatch):
    program, codes = everything()
    TARGET.emit(program, tmp_path)
    monkeypatch.setattr(runner, "chunk_size", lambda program: 3)  # three runs of Lava
    monkeypatch.setattr(runner, "batch_size", lambda program: 2)  # the first two read in two parts
    seen = []
    trace = TARGET.execute(
        program, tmp_path, codes, raster=True, progress=lambda *done: seen.append(done)
    )
    agree(trace, specified(program, codes))
    assert seen[-1] == (7, 7) and {3, 6} <= {done for done, _ in seen}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_lavas_own_slower_models_give_the_same_spikes(tmp_path):
    program, codes = everything()
    TARGET.emit(program, tmp_path)
    host = (tmp_path / "host.py").read_text()
    stock = host.replace("exception_proc_model_map=faster", "exception_proc_model_map={}")
    assert stock != host
    (tmp_path / "host.py").write_text(stock)
    trace = TARGET.execute(program, tmp_path, codes, raster=True)
    agree(trace, specified(program, codes))


PRINT_WEIGHTS = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import network
from host import Run, load_weights

made = {}
def remember(process):
    def make(**arguments):
        made[arguments["name"]] = process(**arguments)
        return made[arguments["name"]]
    return make
for name in ("Conv", "Dense", "Sparse", "DelaySparse"):
    setattr(network, name, remember(getattr(network, name)))

import json
from pathlib import Path
here, work = Path(sys.argv[1]), Path(sys.argv[2])
digest = json.loads((here / "network.json").read_text())["weights_sha256"]
run = Run(work, network.T)
run.expect(1)
network.build(load_weights(here / "weights.npz", digest), run)
arrays = {}
for name, process in made.items():
    held = (process.weight if hasattr(process, "weight") else process.weights).init
    arrays[name] = held.toarray() if hasattr(held, "toarray") else held
np.savez(work / "held.npz", **arrays)
"""


def test_lavas_processes_hold_the_programs_weights_and_no_zero_became_a_weight(lava, tmp_path):
    program, _ = everything()
    build, work = tmp_path / "build", tmp_path / "work"
    build.mkdir()
    work.mkdir()
    TARGET.emit(program, build)
    subprocess.run([lava, "-c", PRINT_WEIGHTS, build, work], check=True, cwd=work)
    with np.load(work / "held.npz") as held:
        weights = {
            bundle.name: unpack(bundle.weight)
            for population in program.populations
            for bundle in population.synapses
        }
        for name in ("strided", "point"):
            np.testing.assert_array_equal(
                held[name].transpose(0, 3, 2, 1)[:, :, ::-1, ::-1], weights[name]
            )
        for name in ("soft", "sparse skip", "eager", "out", "out.skip"):
            np.testing.assert_array_equal(held[name], 2 * weights[name])
        skip = program.layers[2].synapses[1]  # it waits, so it is unrolled to a matrix
        unrolled = np.zeros((48, 120), dtype=np.int64)
        for post, synapses in enumerate(incoming(skip, (4, 6, 5), (4, 3, 4))):
            for pre, weight in synapses:
                unrolled[post, pre] = 2 * weight
        np.testing.assert_array_equal(held["skip"], unrolled)
        assert set(held.files) == {*weights} - {"conv1", "again", "out.image"}


def test_the_program_runs_by_hand_on_images(lava, tmp_path):
    program, _ = everything()
    build, results = tmp_path / "build", tmp_path / "results"
    build.mkdir()
    TARGET.emit(program, build)
    images = np.random.default_rng(1).random((4, 2, 6, 5)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    command = [lava, build / "network.py", "--input", tmp_path / "images.npy", "--output", results]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    want = specified(program, encode(program.input, images))
    np.testing.assert_array_equal(np.load(results / "logits.npy"), want.logits)
    spikes = np.unpackbits(np.load(results / "soft_neurons.npy"), axis=2, count=9)
    np.testing.assert_array_equal(spikes, want.rasters["soft"])
    assert json.loads((results / "status.json").read_text())["state"] == "done"
    assert not list(build.rglob("__pycache__"))  # a build stays as it was written


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The directory for temporary files, of which a failed run leaves its log."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_weights_that_were_changed_are_refused(tmp_path, temporary):
    program, codes = everything()
    build = tmp_path / "build"
    build.mkdir()
    TARGET.emit(program, build)
    weights = bytearray((build / "weights.npz").read_bytes())
    weights[-200] ^= 1
    (build / "weights.npz").write_bytes(bytes(weights))
    with pytest.raises(TargetFailed, match=r"weights.npz is not the file that was compiled"):
        TARGET.execute(program, build, codes, raster=False)


def test_an_error_inside_a_lava_process_comes_back_with_its_last_line_and_a_log(
    tmp_path, temporary
):
    program, codes = everything()
    build = tmp_path / "build"
    build.mkdir()
    TARGET.emit(program, build)
    processes = build / "procs" / "snnc_processes.py"
    broken = processes.read_text().replace(
        "        spikes = self.s_in.recv()\n        sample",
        "        raise ArithmeticError('on purpose')\n        sample",
    )
    processes.write_text(broken)
    with pytest.raises(TargetFailed, match="ArithmeticError: on purpose") as failed:
        TARGET.execute(program, build, codes, raster=False)
    (log,) = (path for path in temporary.rglob("*") if path.is_file())  # nothing else was kept
    assert f"the log is {log}" in str(failed.value)
    assert "Traceback" in log.read_text()


def test_codes_that_no_image_becomes_are_refused(tmp_path):
    program, codes = everything()
    with pytest.raises(InvalidSetting, match="which no image in \\[0, 1\\] becomes"):
        TARGET.execute(program, tmp_path, codes + 13, raster=False)
    with pytest.raises(InvalidSetting, match="there is no sample"):
        TARGET.execute(program, tmp_path, codes[:0], raster=False)


def test_the_network_of_this_file_is_one_the_target_accepts():
    program, _ = everything()
    assert legalize(TARGET, program) is program
