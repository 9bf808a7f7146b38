"""Finetuning through the integers: what is trained is what is deployed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from snnc.data import digits
from snnc.errors import TrainingFailed, UnknownName
from snnc.ir.check import check_graph
from snnc.ir.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Decision,
    Fire,
    Flatten,
    Granularity,
    Graph,
    Input,
    Linear,
    Node,
    Normalize,
    Readout,
    Reset,
)
from snnc.ir.program import Layer
from snnc.ir.weights import floats, pack, unpack
from snnc.learn.fit import Training
from snnc.learn.objectives import Rfgsm, Standard
from snnc.learn.quantization_aware import Deployment, IntegerNetwork, finetune_integers
from snnc.learn.stage import Context, training_data
from snnc.learn.surrogates import TRIANGLE
from snnc.passes import PREPARE, apply
from snnc.passes.compile import compile_graph
from snnc.passes.numbers import Bits, Numbers
from snnc.quantization.search import search
from snnc.semantics.encode import encode
from snnc.semantics.neuron import CURRENT_MAX
from snnc.simulate import reference

NUMBERS = Numbers()
BITS = Bits(others=3, layers={"conv1": 4})


def network(seed=0, *, decision=Decision.MEMBRANE, reset=Reset.ZERO, keep=1.0):
    """Return a residual network for the digits, with pooling, groups and pruned weights."""
    rng = np.random.default_rng(seed)

    def conv(out, into, groups=1):
        weight = rng.normal(size=(out, into // groups, 3, 3)) / 2
        return Conv2d(
            weight=pack(weight * (rng.random(weight.shape) < 0.4)),
            bias=floats(rng.normal(size=out) * 0.1),
            stride=(1, 1),
            padding=(1, 1),
            groups=groups,
        )

    def fire(threshold):
        return Fire(
            threshold=floats(threshold), granularity=Granularity.LAYER, reset=reset, keep=keep
        )

    two = (2, 2)
    nodes = [
        Node("input", Input(shape=(1, 8, 8)), ()),
        Node("norm", Normalize(mean=floats([0.3]), std=floats([0.4])), ("input",)),
        Node("conv1", conv(4, 1), ("norm",)),
        Node("fire1", fire(0.9), ("conv1",)),
        Node("conv2", conv(4, 4, groups=2), ("fire1",)),
        Node("sum", Add(), ("conv2", "fire1")),
        Node("fire2", fire(1.1), ("sum",)),
        Node("pool", AvgPool2d(kernel=two, stride=two), ("fire2",)),
        Node("flat", Flatten(), ("pool",)),
        Node(
            "fc",
            Linear(weight=pack(rng.normal(size=(10, 64)) / 4), bias=floats(np.zeros(10))),
            ("flat",),
        ),
    ]
    if decision is Decision.SPIKES:
        nodes.append(Node("fire3", fire(0.5), ("fc",)))
    nodes.append(Node("out", Readout(decision=decision), (nodes[-1].name,)))
    return apply(PREPARE, check_graph(Graph(nodes=tuple(nodes), steps=4)))


@pytest.fixture(scope="module")
def dataset():
    return digits.load_digits(None).subset(160)


def deployed(graph, dataset, bits=BITS):
    """Return the graph and the deployment that a search on a few images finds."""
    found = search(graph, NUMBERS, dataset.train.images[:20], bits=bits)
    return found.graph, Deployment(
        numbers=NUMBERS,
        levels=255,
        bits=bits,
        scales=found.scales,
        exponents=found.exponents,
    )


def settings(**changed):
    plain = {
        "epochs": 2,
        "batch": 32,
        "rate": 0.02,
        "momentum": 0.9,
        "decay": 0.0,
        "validate_every": 1,
        "accumulate": 1,
        "precision": "float32",
        "objective": Standard(),
    }
    return Training(**{**plain, **changed})


def same_integers(one, other):
    for a, b in zip(one.populations, other.populations, strict=True):
        assert (a.name, a.scale) == (b.name, b.scale)
        np.testing.assert_array_equal(a.bias, b.bias)
        if isinstance(a, Layer):
            assert (a.threshold, a.decay, a.reset) == (b.threshold, b.decay, b.reset)
        for x, y in zip(a.synapses, b.synapses, strict=True):
            np.testing.assert_array_equal(unpack(x.weight), unpack(y.weight))


@pytest.mark.parametrize(
    ("decision", "reset", "keep"),
    [
        (Decision.MEMBRANE, Reset.ZERO, 1.0),
        (Decision.SPIKES, Reset.SUBTRACT, 1.0),
        (Decision.MEMBRANE, Reset.ZERO, 0.75),
    ],
)
def test_the_forward_pass_is_that_of_the_deployed_integers(dataset, decision, reset, keep):
    graph = network(1, decision=decision, reset=reset, keep=keep)
    graph, deployment = deployed(graph, dataset)
    integer = IntegerNetwork(graph, deployment, TRIANGLE)
    images = dataset.test.images[:30]
    program = compile_graph(
        graph, NUMBERS, bits=BITS, scales=deployment.scales, exponents=deployment.exponents
    )
    trace = reference.run(program, encode(program.input, images), raster=False)
    scale = program.readout.scale if decision is Decision.MEMBRANE else 1.0
    logits = integer(torch.tensor(images)).detach().numpy()
    np.testing.assert_array_equal(logits, trace.logits / (scale * 4))


def test_moving_weights_into_their_formats_changes_no_integer(dataset):
    graph, deployment = deployed(network(0), dataset)
    integer = IntegerNetwork(graph, deployment, TRIANGLE)
    integer.restore()
    same_integers(deployment.program(integer.graph()), deployment.program(graph))


def test_the_result_compiles_to_the_integers_that_were_trained(dataset):
    graph, deployment = deployed(network(0), dataset)
    context = Context(seed=3)
    tuned = finetune_integers(
        graph, deployment, settings(), training_data(dataset), context, surrogate=TRIANGLE
    )
    again = compile_graph(
        tuned.graph, NUMBERS, bits=BITS, scales=deployment.scales, exponents=deployment.exponents
    )
    same_integers(again, tuned.program)
    integer = IntegerNetwork(tuned.graph, deployment, TRIANGLE)
    images = dataset.validation.images[:50]
    trace = reference.run(again, encode(again.input, images), raster=False)
    logits = integer(torch.tensor(images)).detach().numpy()
    np.testing.assert_array_equal(logits, trace.logits / (again.readout.scale * 4))
    before = deployment.program(graph).readout.synapses[0]
    assert (unpack(again.readout.synapses[0].weight) != unpack(before.weight)).any()


def test_training_lowers_the_loss_of_the_integers_and_keeps_zeros(dataset):
    graph, deployment = deployed(network(0), dataset)
    data = training_data(dataset)
    still, tuned = (
        finetune_integers(
            graph,
            deployment,
            settings(rate=rate, epochs=4),
            data,
            Context(seed=0),
            surrogate=TRIANGLE,
        )
        for rate in (1e-9, 0.1)
    )
    same_integers(still.program, deployment.program(graph))
    assert tuned.metrics["validation_loss"] < 0.8 * still.metrics["validation_loss"]
    for node in tuned.graph.nodes:
        if isinstance(node.op, Conv2d | Linear):
            was_zero = unpack(graph[node.name].op.weight) == 0
            assert (unpack(node.op.weight)[was_zero] == 0).all()


def test_an_adversarial_objective_attacks_the_integers(dataset):
    graph, deployment = deployed(network(0), dataset)
    objective = Rfgsm(epsilon=0.1, beta=1.0)
    tuned = finetune_integers(
        graph,
        deployment,
        settings(epochs=1, objective=objective),
        training_data(dataset),
        Context(seed=0),
        surrogate=TRIANGLE,
    )
    assert np.isfinite(tuned.metrics["validation_loss"])


def test_gradients_reach_every_weight_in_units_of_the_float_network(dataset):
    """Straight through: d loss / d weight = scale * d loss / d integer."""
    graph, deployment = deployed(network(0), dataset)
    integer = IntegerNetwork(graph, deployment, TRIANGLE)
    images = torch.tensor(dataset.train.images[:40])
    logits = integer(images)
    logits.square().sum().backward()
    for weight in integer.weights:
        assert weight.grad.shape == weight.shape and weight.grad.abs().sum() > 0
    # the readout is linear: its bias adds itself to every logit
    expected = (2 * logits.detach()).sum(0)
    # 1e-5: the twin may sum the gradient in float32
    torch.testing.assert_close(integer.biases[-1].grad, expected, rtol=1e-5, atol=1e-8)


def test_what_leaves_its_format_comes_back(dataset):
    graph, deployment = deployed(network(0), dataset)
    integer = IntegerNetwork(graph, deployment, TRIANGLE)
    with torch.no_grad():
        for weight in integer.weights:
            weight.mul_(1e4)
        for bias in integer.biases:
            bias.mul_(1e6).add_(1e4)
    integer.restore()
    program = deployment.program(integer.graph())  # refuses whatever leaves a format
    largest = [
        max(int(np.abs(unpack(bundle.weight)).max()) for bundle in population.synapses)
        for population in program.populations
    ]
    for bundle in program.layers[1].synapses:
        assert np.abs(unpack(bundle.weight)).max() == 3 << deployment.exponents[bundle.name]
    assert largest[2:] == [3]
    assert np.abs(program.layers[1].bias).max() == NUMBERS.bias_max


CHIP = Numbers(accumulator_max=CURRENT_MAX)  # the readout is a neuron


def readout(bias, *, weight=1.0, steps=40):
    """Return pixels -> spikes -> logits; 40 steps leave a logit a current of 131071 // 40."""
    fire = Fire(threshold=floats(1.0), granularity=Granularity.LAYER, reset=Reset.ZERO, keep=1.0)
    matrix = np.full((2, 4), weight)
    nodes = (
        Node("input", Input(shape=(4,)), ()),
        Node("fc0", Linear(weight=pack(np.eye(4)), bias=floats(np.zeros(4))), ("input",)),
        Node("fire", fire, ("fc0",)),
        Node("fc1", Linear(weight=pack(matrix), bias=floats([bias, -bias])), ("fire",)),
        Node("out", Readout(decision=Decision.MEMBRANE), ("fc1",)),
    )
    graph = check_graph(Graph(nodes=nodes, steps=steps))
    scales = {"fc0": 100.0, "fc1": 100.0}
    return graph, Deployment(
        numbers=CHIP, levels=1, bits=None, scales=scales, exponents={"fc0": 0, "fc1": 0}
    )


@pytest.mark.parametrize("bias", [50.0, 32.76, 32.75, 1e6])
def test_a_bias_above_the_current_of_a_readout_gives_way_and_leaves_weights_alive(bias):
    integer = IntegerNetwork(*readout(bias), TRIANGLE)
    most = CURRENT_MAX // 40
    assert most < CHIP.bias_max
    integer.restore()
    program = integer.deployment.program(integer.graph())  # refuses what leaves a format
    assert (integer.weights[1] > 0).all()  # no sign turned, no row died
    weight = np.abs(unpack(program.readout.synapses[0].weight)).sum(axis=1)
    assert (np.abs(program.readout.bias) + weight <= most).all()
    assert np.sign(program.readout.bias).tolist() == [1, -1]
    assert (np.abs(program.readout.bias) >= 0.97 * most).all()


def test_weights_that_round_to_0_stay_beside_a_bias_that_gives_way():
    integer = IntegerNetwork(*readout(50.0, weight=0.001), TRIANGLE)
    integer.restore()
    assert integer.weights[1].tolist() == [0.001] * 8
    assert (integer.biases[1] * 100).round().tolist() == [CURRENT_MAX // 40, -(CURRENT_MAX // 40)]


def test_a_bias_that_fits_beside_its_weights_stays_to_the_last_unit():
    graph, deployment = readout(32.70, weight=0.01)  # 3270 + 4 * 1 of 3276
    integer = IntegerNetwork(graph, deployment, TRIANGLE)
    integer.restore()
    same_integers(deployment.program(integer.graph()), deployment.program(graph))


def test_moving_currents_ends_with_an_error_where_it_does_not_help(monkeypatch):
    integer = IntegerNetwork(*readout(0.0), TRIANGLE)
    monkeypatch.setattr(IntegerNetwork, "_move_currents", lambda self, weights: True)
    with pytest.raises(TrainingFailed, match="too large for its format; train with a lower rate"):
        integer.restore()


def test_a_deployment_without_all_scales_is_refused(dataset):
    graph, deployment = deployed(network(0), dataset)
    few = replace(deployment, scales={"conv1": deployment.scales["conv1"]})
    with pytest.raises(UnknownName, match="scale"):
        IntegerNetwork(graph, few, TRIANGLE)
