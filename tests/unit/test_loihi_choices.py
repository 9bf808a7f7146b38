"""How the choices of the target loihi change what is emitted, asked of formats, and reported."""

import ast
import re
from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import UnknownName
from snnc.ir.check import check_graph
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
from snnc.ir.weights import Dense, floats, integers, unpack
from snnc.passes.compile import compile_graph
from snnc.semantics.neuron import CURRENT_MAX, V_MAX
from snnc.testing.programs import generate
from snnc_targets.loihi import limits, plan
from snnc_targets.loihi.lowering import Convolutions
from snnc_targets.loihi.target import LOIHI2, TARGET
from snnc_targets.loihi.unrolled import MATRIX_MAX, unrolling


def neurons(name, shape, *synapses):
    return Layer(
        name=name,
        shape=shape,
        synapses=synapses,
        bias=integers(np.arange(shape[0])),
        threshold=641,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )


def convolution(name, source, weight, **geometry):
    kind = Convolution(**{"stride": (1, 1), "padding": (1, 1), "groups": 1, **geometry})
    return Synapses(name=name, source=source, weight=Dense(integers(weight)), kind=kind)


def network(density=1.0):
    """Two convolutions of 3 x 3 and a readout that reads spikes and the image."""
    rng = np.random.default_rng(3)
    draw = lambda *shape: rng.integers(1, 4, shape) * (rng.random(shape) < density)
    matrix = lambda name, source, weight: Synapses(
        name=name, source=source, weight=Dense(integers(weight)), kind=FullyConnected()
    )
    out = (matrix("fc", "b", draw(3, 4 * 64)), matrix("fc.image", INPUT, draw(3, 2 * 64)))
    return Program(
        input=ImageInput(shape=(2, 8, 8), levels=15, zero_point=integers([7, 0])),
        layers=(
            neurons("a", (4, 8, 8), convolution("a", INPUT, np.full((4, 2, 3, 3), 2))),
            neurons("b", (4, 8, 8), convolution("b", "a", draw(4, 4, 3, 3))),
        ),
        readout=Accumulator(
            name="fc", shape=(3,), synapses=out, bias=integers([1, 2, 3]), scale=1.0
        ),
        steps=4,
    )


def emitted(directory, program, **options):
    """Return network.py and the mapping report."""
    mapping = TARGET.configured(options).emit(program, directory)
    return (directory / "network.py").read_text(), mapping


def test_what_is_chosen_is_what_the_target_says():
    assert dict(TARGET.options) == {"image": "host", "convolutions": "auto"}
    assert dict(LOIHI2.options) == {"image": "bias", "convolutions": "conv"}
    chosen = TARGET.configured({"image": "graded"})
    assert dict(chosen.options) == {"image": "graded", "convolutions": "auto"}
    assert chosen.configured(chosen.options) == chosen
    assert TARGET.options["image"] == "host"  # which stayed as it was
    with pytest.raises(UnknownName, match="did you mean 'graded'"):
        TARGET.configured({"image": "grade"})


def test_formats_follow_the_image_and_the_chip():
    numbers = TARGET.numbers
    assert (numbers.input_bias_max, numbers.accumulator_max) == (CURRENT_MAX, V_MAX)
    assert TARGET.configured({"image": "graded"}).numbers.input_bias_max == 4095
    assert LOIHI2.numbers.accumulator_max == CURRENT_MAX


def joined(source):
    """Return the text with every call on one line."""
    return re.sub(r"\s+", " ", source).replace("( ", "(").replace(" )", ")")


def test_graded_spikes_enter_through_synapses_a_step_early(tmp_path):
    source, _ = emitted(tmp_path, network(), image="graded")
    assert 'return {"image": codes}' in source
    assert '# "a" (4, 8, 8), lag 2\n' in source
    made = (
        'ImageSource(name="{} image", shape=(8, 8, 2), path=run.values("image"), steps=T, start={})'
    )
    assert f"a_neurons_image = {made.format('a', 1)}" in joined(source)
    assert f"fc_neurons_image = {made.format('fc', 3)}" in joined(source)
    assert "a_neurons_image.s_out.connect(a.s_in)" in source
    assert source.count("num_message_bits=5") == 2  # codes reach from -7 to 15: 4 bits and a sign


def test_a_bias_is_written_before_each_sample_and_the_host_adds_to_its_readout(tmp_path):
    source, _ = emitted(tmp_path, network(), image="bias")
    values = 'Samples(run.values("a_neurons"), late=0)'
    writer = f"StateDataloader(dataset={values}, interval=T, offset=0)"
    assert f"a_neurons_bias = {writer}" in joined(source)
    assert "a_neurons_bias.connect_var(a_neurons.bias_mant)" in source
    assert "bias_exp=6, reset_interval=T, reset_offset=2" in joined(source)
    assert 'ImageSource(name="fc current", shape=(3,), path=run.values("fc_neurons")' in joined(
        source
    )


def test_a_bias_of_even_numbers_is_halved_and_gets_the_larger_exponent(tmp_path):
    program = network()
    first = replace(
        program.layers[0],
        bias=integers([2, 4, 6, 8]),
        synapses=(convolution("a", INPUT, np.full((4, 2, 3, 3), 20)),),
    )
    source, _ = emitted(tmp_path, replace(program, layers=(first, program.layers[1])), image="bias")
    assert "    a_neurons //= 2" in source
    assert "bias_exp=7" in source


def trained(steps=8):
    """A graph with weights of all sizes, biases wide for its image layer, and a readout."""
    rng = np.random.default_rng(4)
    fire = Fire(threshold=floats(1.0), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0)
    conv = Conv2d(
        weight=Dense(floats(rng.normal(size=(4, 1, 3, 3)))),
        bias=floats(rng.normal(size=4)),
        stride=(1, 1),
        padding=(1, 1),
        groups=1,
    )
    linear = lambda post, pre: Linear(
        weight=Dense(floats(rng.normal(size=(post, pre)) / 9)), bias=floats(rng.normal(size=post))
    )
    nodes = (
        Node("input", Input(shape=(1, 6, 6)), ()),
        Node("conv", conv, ("input",)),
        Node("fire", fire, ("conv",)),
        Node("flat", Flatten(), ("fire",)),
        Node("fc", linear(20, 144), ("flat",)),
        Node("fire2", fire, ("fc",)),
        Node("last", linear(3, 20), ("fire2",)),
        Node("out", Readout(decision=Decision.MEMBRANE), ("last",)),
    )
    return check_graph(Graph(nodes=nodes, steps=steps, class_names=("a", "b", "c")))


@pytest.mark.parametrize(
    ("target", "image"),
    [(TARGET, "host"), *((target, i) for target in (TARGET, LOIHI2) for i in ("bias", "graded"))],
)
def test_what_is_quantized_for_a_target_is_legal_there(target, image):
    chosen = target.configured({"image": image})
    assert chosen.issues(compile_graph(trained(), chosen.numbers)) == ()


def test_no_chip_takes_a_current_from_the_host():
    with pytest.raises(UnknownName, match="no value of option 'image' of target 'loihi2' named"):
        LOIHI2.configured({"image": "host"})


def test_an_image_of_255_levels_as_a_bias_needs_numbers_of_its_own():
    usual = compile_graph(trained(), TARGET.numbers)
    bias = TARGET.configured({"image": "bias"})
    assert [issue.code for issue in bias.issues(usual)] == ["image-bias-range"]


@pytest.mark.parametrize("image", ["host", "bias", "graded"])
@pytest.mark.parametrize("convolutions", ["conv", "sparse"])
def test_any_generated_program_is_written_as_python_with_one_variable_for_each_process(
    tmp_path, image, convolutions
):
    target = TARGET.configured({"image": image, "convolutions": convolutions})
    cases = [program for program, _ in map(generate, range(30)) if not target.issues(program)]
    assert len(cases) > 5
    for number, program in enumerate(cases):
        directory = tmp_path / str(number)
        directory.mkdir()
        target.emit(program, directory)
        tree = ast.parse((directory / "network.py").read_text())
        build = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
        names = [n.targets[0].id for n in build.body if isinstance(n, ast.Assign)]
        assert len(names) == len(set(names))


def test_names_of_files_do_not_depend_on_choices():
    program = network()
    variables = [
        [(place.variable, [bundle.variable for bundle in place.bundles]) for place in placed]
        for placed in (
            plan.plan(program, TARGET.configured({"image": image, "convolutions": form}).how)
            for image in ("host", "bias", "graded")
            for form in ("conv", "sparse")
        )
    ]
    assert variables == [variables[0]] * 6


def test_a_convolution_of_few_weights_becomes_a_sparse_matrix_and_the_report_says_why(tmp_path):
    source, mapping = emitted(tmp_path, network(density=0.05))
    (bundle,) = mapping["choices"]["convolutions"]["bundles"]
    assert bundle["process"] == "Sparse"
    assert bundle["multiplications_as_conv"] == 64 * 4 * 4 * 9
    assert bundle["multiplications_as_sparse"] * 10 < bundle["multiplications_as_conv"]
    assert "are faster than" in bundle["reason"]
    assert "b_matrix = unroll(" in source


def test_a_convolution_of_many_weights_stays_one(tmp_path):
    _, mapping = emitted(tmp_path, network())
    (bundle,) = mapping["choices"]["convolutions"]["bundles"]
    assert bundle["process"] == "Conv"
    assert "take no longer than" in bundle["reason"]


def one_weight(side=8):
    weight = np.zeros((4, 4, 3, 3))
    weight[1, 2, 0, 0] = 5  # the tap above and to the left
    return convolution("c", "a", weight), (4, side, side), (4, side, side)


def test_the_cost_of_a_matrix_counts_the_synapses_inside_the_map():
    made = unrolling(*one_weight(), Convolutions.AUTO, needed=None)
    assert (made.unrolled, made.synapses) == (True, 7 * 7)
    assert made.dense_products == 64 * 4 * 4 * 9
    assert (made.kernel_bytes, made.matrix_bytes) == (144, 49 * 8 + 4 * 257)


def test_a_convolution_is_what_the_option_says_unless_its_spikes_wait():
    chosen = lambda how, needed: unrolling(*one_weight(), how, needed=needed).unrolled
    assert chosen(Convolutions.SPARSE, None)
    assert not chosen(Convolutions.CONV, None)
    assert chosen(Convolutions.CONV, "Conv has no delays")


@pytest.mark.parametrize("target", [TARGET, LOIHI2], ids=["loihi", "loihi2"])
def test_a_convolution_with_an_exponent_is_a_matrix_on_every_target(target, tmp_path):
    plain = network()
    (bundle,) = plain.layers[1].synapses
    far = convolution("far", "a", unpack(bundle.weight) * 127)  # 127 to 381: no multiples
    even = convolution("even", "a", unpack(bundle.weight) * 4 * 31)
    for beyond, found in ((far, {"weight-range"}), (even, set())):
        summed = replace(plain.layers[1], synapses=(bundle, beyond))
        program = replace(plain, layers=(plain.layers[0], summed))
        assert {issue.code for issue in limits.issues(program, target.how, delay_max=0)} == found
    stays, becomes = plan.plan(program, target.how)[1].bundles
    assert (stays.form, becomes.form) == (plan.Form.CONV, plan.Form.SPARSE)
    assert "beyond 8 bits, and Conv has no weight exponent" in becomes.unrolling.reason
    source, mapping = emitted(tmp_path, program, image="host")
    stored = {each["name"]: each for each in mapping["partition"]["layers"][1]["stored"]}
    assert stored["even"]["encoding"] in ("dense", "sparse")
    cheapest = mapping["partition"]["cheapest"]["other_encodings"]
    assert not any((each["name"], each["encoding"]) == ("even", "conv") for each in cheapest)
    assert [each["exponent"] for each in mapping["layers"][1]["synapses"]] == [0, 2]
    assert "weights=2 * even_matrix, weight_exp=1," in joined(source)
    with np.load(tmp_path / "weights.npz") as held:
        np.testing.assert_array_equal(held["even"].astype(int) * 4, unpack(even.weight))


def test_a_matrix_too_large_for_memory_is_not_chosen():
    made = unrolling(*one_weight(2100), Convolutions.AUTO, needed=None)
    assert made.matrix_bytes > MATRIX_MAX and not made.unrolled
    assert f"more than {MATRIX_MAX}" in made.reason


def test_the_report_prices_each_way_for_the_image(tmp_path):
    readers = {}
    for image in ("host", "bias", "graded"):
        (tmp_path / image).mkdir()
        _, mapping = emitted(tmp_path / image, network(), image=image)
        assert mapping["choices"]["image"]["chosen"] == image
        first, last = mapping["choices"]["image"]["readers"]
        assert (first["name"], last["name"]) == ("a", "fc")
        readers[image] = first
    synapses = 4 * 2 * (8 + 7 + 7) ** 2  # three taps along a side of 8, two at either border
    assert {reader["synapses"] for reader in readers.values()} == {synapses}
    assert readers["host"]["messages"] == 4 * 64 * 4  # to each neuron at each of 4 steps
    assert readers["bias"]["messages"] == 4 * 64
    assert readers["bias"]["largest_bias"] == 2 * 9 * (8 + 15) + 3  # codes -7..8 and 0..15
    assert readers["bias"]["bits_of_precision"] == 10
    assert readers["graded"]["synaptic_operations_at_most"] == 4 * synapses
    assert readers["graded"]["message_bits"] == 5
