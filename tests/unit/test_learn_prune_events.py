"""Budgets of synaptic events: how many synapses a spike meets, and what is measured."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from snnc.errors import Refusal
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Conv2d, Linear
from snnc.learn.adapt import Adapt
from snnc.learn.balance import Balance
from snnc.learn.convert import Convert, convert, spiking
from snnc.learn.fit import Training
from snnc.learn.machine import Machine
from snnc.learn.objectives import Standard
from snnc.learn.prune import Harp, choose, prunable
from snnc.learn.prune.events import Meter, spike_counts
from snnc.learn.prune.fan_outs import _pattern, fan_outs
from snnc.learn.prune.harp import Budgeted
from snnc.learn.prune.magnitude import prune
from snnc.learn.snapshots import Snapshots
from snnc.learn.stage import Context, Samples, State, TrainingData
from snnc.passes import PREPARE, apply
from snnc.simulate.activity import fan_out
from torch import nn

CONVERT = Convert(
    steps=4,
    reset="zero",
    keep=1.0,
    granularity="layer",
    surrogate="triangle",
    width=1.0,
    thresholds="learned",
    restart=False,
    balance=Balance(steps=4, percentile=90.0, scale=0.5, batches=1, batch=24),
    adapt=Adapt(epochs=1, batch=24),
)
SCORES = Training(
    epochs=4,
    batch=16,
    rate=0.1,
    momentum=0.9,
    decay=1e-4,
    validate_every=1,
    accumulate=1,
    precision="float32",
    objective=Standard(),
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


def data(samples=48):
    draw = torch.Generator().manual_seed(5)
    everything = Samples(
        pixels=torch.rand(samples + 24, 1, 8, 8, generator=draw),
        white=1.0,
        labels=torch.randint(3, (samples + 24,), generator=draw),
    )
    rows = torch.arange(samples + 24)
    return TrainingData(
        train=everything.rows(rows[:samples]),
        validation=everything.rows(rows[samples:]),
        augment=(),
    )


def graph_of(module, shape):
    return from_torch(spiking(module.eval(), CONVERT, shape), input_shape=shape)


def counted(graph, dense):
    return fan_outs(graph, [node.name for node in graph.nodes], dense=dense)


def meter(module, context=None):
    return Meter(module, CONVERT, data(), context or Context(seed=1), batch=10)


@pytest.mark.parametrize(
    ("size", "factor"), [(32, 0.959), (16, 0.918), (8, 0.840), (4, 0.694), (2, 0.444)]
)
def test_a_spike_at_the_border_meets_fewer_synapses(size, factor):
    module = nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * size**2, 2),
    )
    (reached,) = counted(graph_of(module, (1, size, size)), dense=True)["2"].values()
    assert reached.shape == (2, size, size)
    # the reference is written with three digits
    assert reached.sum() / (2 * 5 * 9 * size**2) == pytest.approx(factor, abs=5e-4)
    assert reached[0, 0, 0] == 5 * 4 and reached[1, size // 2, 0] == 5 * (6 if size > 2 else 4)


@pytest.mark.parametrize("level", [0.0, 0.6])
def test_a_pooled_spike_meets_what_it_meets_once_pooling_is_folded(level):
    graph = graph_of(prune(network(), sparsity=level), (1, 8, 8))
    found = counted(graph, dense=False)
    assert list(found) == ["0", "4", "7", "9"]
    folded = {node.name: node for node in apply(PREPARE, graph).nodes}
    for name, sources in found.items():
        node = folded[name]
        assert isinstance(node.op, Conv2d | Linear)
        ((source, reached),) = sources.items()
        expected = fan_out(_pattern(node, node.op, False), _shape(source, reached, node))
        assert (source, reached.reshape(-1).tolist()) == (
            node.inputs[0] if name != "7" else "5",
            expected.reshape(-1).tolist(),
        )


def test_dense_counts_the_weights_that_are_zero_too():
    pruned = graph_of(prune(network(), sparsity=0.6), (1, 8, 8))
    dense = graph_of(network(), (1, 8, 8))
    for name, sources in counted(pruned, dense=True).items():
        for source, reached in counted(dense, dense=False)[name].items():
            assert np.array_equal(sources[source], reached)


class Residual(nn.Module):
    """A convolution that reads a sum of spikes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.third = nn.Conv2d(2, 3, 2)
        self.readout = nn.Linear(27, 2)

    def forward(self, images):
        one = F.relu(self.first(images))
        other = F.relu(self.second(one))
        return self.readout(F.relu(self.third(one + other)).flatten(1))


def test_only_the_layers_that_were_asked_for_are_counted():
    found = fan_outs(graph_of(network(), (1, 8, 8)), ["4", "unused"], dense=True)
    assert list(found) == ["4"]


def test_every_source_of_a_sum_delivers_its_own_spikes():
    found = counted(graph_of(Residual(), (1, 4, 4)), dense=True)
    assert len(found["third"]) == 2
    for reached in found["third"].values():
        assert reached.sum() == 3 * 2 * 4 * 9  # 3 x 3 outputs of 2 x 2 taps, 2 channels to 3


class Twice(nn.Module):
    """A layer that reads the same spikes by two ways."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.readout = nn.Linear(6, 5)

    def forward(self, images):
        spikes = F.relu(self.first(images))
        return self.readout(spikes + spikes)


def test_a_spike_that_comes_by_two_ways_counts_twice():
    (reached,) = counted(graph_of(Twice(), (4,)), dense=True)["readout"].values()
    assert reached.tolist() == [10] * 6


def test_overlapping_windows_deliver_a_spike_twice():
    module = nn.Sequential(
        nn.Conv2d(1, 1, 1),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(9, 5),
    )
    (reached,) = counted(graph_of(module, (1, 4, 4)), dense=True)["4"].values()
    assert reached[0].tolist() == [
        [5, 10, 10, 5],
        [10, 20, 20, 10],
        [10, 20, 20, 10],
        [5, 10, 10, 5],
    ]


def test_layers_that_no_spikes_drive_are_named():
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), nn.Linear(4, 2)
    )
    with pytest.raises(Refusal) as caught:
        counted(graph_of(module, (1, 4, 4)), dense=True)
    assert [issue.layer for issue in caught.value.issues] == ["2", "5"]


def test_spikes_are_counted_over_steps_and_samples_and_nothing_is_left_behind():
    module = spiking(network().eval(), CONVERT, (1, 8, 8))
    seen = []
    images = data().validation.images
    with torch.no_grad():
        first = module.fires["2"]
        current = module.body.get_submodule("1")(module.body.get_submodule("0")(images))
        seen = first(current.repeat(4, 1, 1, 1)).sum(0)
    counts = spike_counts(module, data().validation, batch=7)
    assert list(counts) == list(module.fires) == ["2", "5", "8"]
    assert counts["2"].dtype == torch.int64 and torch.equal(counts["2"], seen.long())
    assert counts["2"].sum() > 0
    assert not any(fire._forward_hooks for fire in module.fires.values())


def delivered(module, masks):
    """Count events by running every layer again on spikes, with weights of 0 and 1."""
    context = meter(module).context
    net = convert(State(network=module), CONVERT, data(), context).network.eval()
    inputs = {}
    for name in ("4", "7", "9"):
        layer = net.body.get_submodule(name)
        layer.register_forward_hook(lambda _m, x, _y, name=name: inputs.__setitem__(name, x[0]))
    images = data().validation.images
    with torch.no_grad():
        net(images)
    first = F.conv2d(torch.ones_like(images), masks["0.weight"], padding=1)
    pooled = inputs["4"] * 4  # spikes of each window
    second = F.conv2d(pooled, masks["4.weight"], stride=2, padding=1)
    third, fourth = (F.linear(inputs[name], masks[f"{name}.weight"]) for name in ("7", "9"))
    return [round(float(events.double().sum())) for events in (first, second, third, fourth)]


def test_dense_events_are_those_of_the_masked_network_s_spikes_and_all_synapses():
    module = prune(network(), sparsity=0.5)
    everything = {name: torch.ones_like(weight) for name, weight in prunable(module).items()}
    expected = delivered(module, everything)
    assert meter(network()).dense_events(module) == expected
    assert min(expected) > 0
    assert expected != meter(network()).dense_events(network())


def test_the_image_counts_once_for_each_synapse_whatever_the_steps():
    # 3 x 3 with padding on 8 x 8 pixels: (3 * 8 - 2) squared, 4 channels, 24 images
    longer = CONVERT.model_copy(update={"steps": 8})
    for settings in (CONVERT, longer):
        measured = Meter(network(), settings, data(), Context(seed=1), batch=10)
        assert measured.dense_events(network())[0] == 24 * 4 * 22**2


def test_metrics_count_surviving_synapses_per_image():
    module, pruned = network(), prune(network(), sparsity=0.5)
    masks = {name: (weight != 0).float() for name, weight in prunable(pruned).items()}
    full = {name: torch.ones_like(mask) for name, mask in masks.items()}
    found = meter(module).metrics(pruned)
    after, dense = sum(delivered(pruned, masks)), sum(delivered(pruned, full))
    assert found == {
        "events.before": sum(delivered(module, full)) / 24,
        "events.after": after / 24,
        "events.share": after / dense,
    }
    assert found["events.after"] < found["events.before"]


def test_a_measurement_is_silent_repeatable_and_alone(tmp_path):
    seen = []
    one_of_two = Machine(rank=1, processes=2)
    snapshots = Snapshots(path=tmp_path / "half", every=0.0)
    context = Context(seed=1, progress=seen.append, machine=one_of_two, snapshots=snapshots)
    measured = meter(network(), context)
    before = torch.get_rng_state()
    first = measured.dense_events(network())
    assert measured.dense_events(network()) == first
    assert seen == [] and torch.equal(torch.get_rng_state(), before)
    assert measured.context.machine == Machine()
    assert measured.context.snapshots == Snapshots() and not list(tmp_path.iterdir())
    assert first == meter(network()).dense_events(network())  # every process finds the same


def test_a_budget_of_events_is_met_by_events_and_not_by_weights():
    settings = Harp(sparsity=0.8, budget="events", least=0.1, start=0.3, gamma=3.0, scores=SCORES)
    result = choose(State(network=network()), settings, data(), Context(seed=1), CONVERT)
    assert result.metrics["events.share"] < 0.25
    assert result.metrics["events.after"] < 0.5 * result.metrics["events.before"]
    counted = Budgeted(network(), settings, meter(network()).dense_events)
    counted.within_budget()
    of_weights = [weight.numel() for weight in prunable(network()).values()]
    assert counted.costs.tolist() != of_weights
    assert float(counted.excess().detach()) == pytest.approx(0.5, abs=1e-5)  # float32


def _shape(source, reached, node):
    """The folded matrix reads the flat map."""
    return (reached.size,) if isinstance(node.op, Linear) else reached.shape


def test_a_layer_that_the_network_does_not_use_costs_nothing():
    module = Residual()
    module.unused = nn.Linear(3, 3)
    small = Samples(pixels=torch.rand(8, 1, 4, 4), white=1.0, labels=torch.zeros(8).long())
    only = TrainingData(train=small, validation=small, augment=())
    plain = CONVERT.model_copy(update={"balance": None, "adapt": None})
    measured = Meter(module, plain, only, Context(seed=1), batch=8)
    events = measured.dense_events(module)
    assert len(events) == 5 and events[-1] == 0 and events[0] > 0
    assert measured.metrics(module)["events.share"] == 1.0
