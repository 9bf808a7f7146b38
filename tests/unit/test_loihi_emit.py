"""The files of a loihi build, without running Lava."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    Accumulator,
    Convolution,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    Synapses,
)
from snnc.ir.weights import Dense, integers, sparse
from snnc.semantics.encode import encode
from snnc.semantics.network import incoming
from snnc.simulate.currents import currents
from snnc_targets.loihi import emit
from snnc_targets.loihi.target import TARGET


def convolution(name, source, weight, *, stride=(1, 1), padding=(0, 0), groups=1):
    kind = Convolution(stride=stride, padding=padding, groups=groups)
    return Synapses(name=name, source=source, weight=Dense(integers(weight)), kind=kind)


def neurons(name, shape, *synapses, reset=Reset.ZERO):
    return Layer(
        name=name,
        shape=shape,
        synapses=synapses,
        bias=integers(np.arange(shape[0])),
        threshold=641,
        decay=0,
        reset=reset,
        scale=1.0,
    )


def network(first="conv1", second="conv2", last="fc"):
    rng = np.random.default_rng(3)
    draw = lambda *shape: rng.integers(-127, 128, shape) * (rng.random(shape) < 0.3)
    matrix = sparse(draw(3, 12).astype(np.int32))
    fully = Synapses(name=last, source=second, weight=matrix, kind=FullyConnected())
    return Program(
        input=ImageInput(shape=(1, 4, 4), levels=15, zero_point=integers([7])),
        layers=(
            neurons(first, (2, 4, 4), convolution(first, INPUT, draw(2, 1, 3, 3), padding=(1, 1))),
            neurons(second, (3, 2, 2), convolution(second, first, draw(3, 2, 2, 2), stride=(2, 2))),
        ),
        readout=Accumulator(
            name=last, shape=(3,), synapses=(fully,), bias=integers([1, 2, 3]), scale=1.0
        ),
        steps=4,
    )


def emitted(directory: Path, program: Program) -> dict[str, bytes]:
    directory.mkdir()
    TARGET.emit(program, directory)
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def host():
    """The module host.py of the template: it needs Lava only when it simulates."""
    path = Path(emit.__file__).parent / "template" / "host.py"
    spec = importlib.util.spec_from_file_location("host_of_the_template", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_build_is_self_contained(tmp_path):
    files = emitted(tmp_path / "build", network())
    assert set(files) == {
        "README.txt",
        "host.py",
        "inproc.py",
        "lifetime.py",
        "mapping.svg",
        "network.json",
        "network.py",
        "procs/snnc_processes.py",
        "requirements.txt",
        "weights.npz",
    }
    assert files["requirements.txt"] == b"lava-nc==0.10.0\n"
    own = {path.removeprefix("procs/")[: -len(".py")] for path in files if path.endswith(".py")}
    for name in (path for path in files if path.endswith(".py")):
        for node in ast.walk(ast.parse(files[name])):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                root = module.split(".")[0]
                assert root in {"numpy", "scipy", "lava", *own} or (root in sys.stdlib_module_names)


def test_equal_programs_give_equal_bytes(tmp_path):
    assert emitted(tmp_path / "a", network()) == emitted(tmp_path / "b", network())


def test_the_generated_program_names_the_users_layers(tmp_path):
    text = emitted(tmp_path / "build", network())["network.py"].decode()
    assert "conv2 = Conv(" in text
    assert 'conv2_neurons = LIFReset(\n        name="conv2",' in text
    assert "fc = Sparse(" in text
    assert 'fc_neurons = Readout(\n        name="fc",' in text
    for line in text.splitlines()[:2]:  # Python may take these for a declaration of an encoding
        assert "conv" not in line


@pytest.mark.parametrize(
    "names",
    [
        ("features.0", "features_0", "features-0"),
        ("class", "None", "3x3"),
        ("main", "w", "Conv"),
        ('"""\nimport os', "\\", "'"),
        ("é", "層", " "),
        ("x", "x_current", "x_neurons"),
        ("logits", "status", "T"),
    ],
)
def test_any_names_give_a_valid_program_with_one_variable_each(tmp_path, names):
    files = emitted(tmp_path / "build", network(*names))
    tree = ast.parse(files["network.py"])
    build = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
    targets = [n.targets[0].id for n in build.body if isinstance(n, ast.Assign)]
    assert len(targets) == len(set(targets)) == 8  # 3 synapses or currents, 3 neurons, 2 records
    given = {
        keyword.value.value
        for n in build.body
        if isinstance(n, ast.Assign)
        for keyword in n.value.keywords
        if keyword.arg == "name"
    }
    assert set(names) <= given  # Lava's processes keep the user's own spelling


def test_zero_weights_are_zero_in_the_file(tmp_path):
    program = network()
    emitted(tmp_path / "build", program)
    with np.load(tmp_path / "build" / "weights.npz") as file:
        for name, population in (("conv1", 0), ("conv2", 1)):
            weight = program.layers[population].synapses[0].weight.values
            assert file[name].dtype == np.int8
            np.testing.assert_array_equal(file[name], weight)
        sparse_weight = program.readout.synapses[0].weight
        np.testing.assert_array_equal(file["fc.data"], sparse_weight.data)
        assert (file["fc.data"] != 0).all()
        np.testing.assert_array_equal(file["fc.indices"], sparse_weight.indices)


def test_the_checksum_in_the_file_of_facts_is_that_of_the_weights(tmp_path, host):
    files = emitted(tmp_path / "build", network())
    facts = json.loads(files["network.json"])
    weights = host.load_weights(tmp_path / "build" / "weights.npz", facts["weights_sha256"])
    assert set(weights) == {
        "conv1",
        "conv1_neurons.bias",
        "conv2",
        "conv2_neurons.bias",
        "fc",
        "fc_neurons.bias",
    }
    with pytest.raises(host.Broken, match="not the file that was compiled"):
        host.load_weights(tmp_path / "build" / "weights.npz", "0" * 64)


@pytest.mark.parametrize(
    ("shape", "source", "stride", "padding", "groups"),
    [
        ((4, 3, 3, 3), (3, 5, 4), (1, 1), (1, 1), 1),
        ((4, 1, 3, 2), (2, 5, 7), (2, 1), (0, 1), 2),
        ((6, 2, 1, 1), (6, 3, 3), (1, 3), (0, 0), 3),
        ((1, 1, 4, 2), (1, 4, 4), (1, 2), (2, 0), 1),
    ],
)
def test_the_host_convolves_and_unrolls_like_the_toolchain(
    host, shape, source, stride, padding, groups
):
    rng = np.random.default_rng(1)
    weight = rng.integers(-127, 128, shape) * (rng.random(shape) < 0.6)
    bundle = convolution("c", INPUT, weight, stride=stride, padding=padding, groups=groups)
    codes = rng.integers(-255, 256, (3, *source)).astype(np.int32)
    want = currents(bundle, source, codes)
    how = {"stride": stride, "padding": padding, "groups": groups}
    np.testing.assert_array_equal(host.convolve(codes, weight, **how), want)
    matrix = host.unroll(weight, source, **how)
    np.testing.assert_array_equal(host.multiply(codes, matrix).reshape(want.shape), want)
    assert matrix.nnz == sum(len(synapses) for synapses in incoming(bundle, source, want.shape[1:]))


def test_the_host_encodes_images_like_the_toolchain(host):
    coding = ImageInput(shape=(2, 3, 3), levels=255, zero_point=integers([10, 130]))
    images = np.random.default_rng(2).random((5, 2, 3, 3)).astype(np.float32)
    images[0, 0, 0, :3] = [0.5 / 255, 1.5 / 255, 1.0]  # halves go to even
    facts = {"shape": [2, 3, 3], "levels": 255, "zero_point": [10, 130]}
    np.testing.assert_array_equal(host.encode(images, facts), encode(coding, images))
    codes = encode(coding, images)
    np.testing.assert_array_equal(host.encode(codes, facts), codes)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.full((1, 2), 1.5), "pixels must be in"),
        (np.full((1, 2), np.nan), "pixels must be in"),
        (np.full((1, 2), 300), "outside what an image can become"),
        (np.zeros((1, 3)), r"the network reads \(samples, \*\(2,\)\)"),
        (np.zeros((0, 2)), r"the network reads \(samples"),
    ],
)
def test_the_host_refuses_input_that_is_no_image(host, values, problem):
    with pytest.raises(host.Broken, match=problem):
        host.encode(values, {"shape": [2], "levels": 255, "zero_point": [0, 0]})
