"""The report of a conversion, and the ReLU form it compares with."""

import copy
import json
from math import ceil, sqrt

import pytest
import torch
from snnc.errors import InvalidSetting
from snnc.ir.graph import Granularity, Reset
from snnc.learn.conversion_report import at_steps, conversion_report
from snnc.learn.neurons import THRESHOLD_FLOOR
from snnc.learn.relu_form import relu_form
from snnc.learn.spiking import to_spiking
from snnc.learn.stage import Samples, accuracy
from snnc.learn.surrogates import TRIANGLE
from torch import nn


class Shared(nn.Module):
    """Two layers with a batch norm; the second ReLU is a function."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.hidden = nn.Linear(64, 6)
        self.readout = nn.Linear(6, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        return self.readout(torch.relu(self.hidden(x.flatten(1))))


def network():
    torch.manual_seed(0)
    made = Shared()
    for layer in (made.hidden, made.readout):  # so that images differ in their classes
        nn.init.normal_(layer.weight)
    made(images(40))  # running statistics that are not 0 and 1
    return made.eval()


def images(count, seed=1):
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def labelled(pixels):
    labels = torch.arange(len(pixels)) % 3
    return Samples(pixels=pixels, white=1.0, labels=labels)


def spiking(ann, steps=5, reset=Reset.ZERO, shape=(1, 4, 4), granularity=Granularity.LAYER):
    return to_spiking(
        ann,
        input_shape=shape,
        steps=steps,
        reset=reset,
        keep=1.0,
        granularity=granularity,
        surrogate=TRIANGLE,
    )


def currents(*values):
    """Return a network whose neurons get these constant currents, and one black image."""
    ann = nn.Sequential(nn.Linear(1, len(values)), nn.ReLU(), nn.Linear(len(values), 3))
    with torch.no_grad():
        ann[0].weight.zero_()
        ann[0].bias.copy_(torch.tensor(values))
    return ann, labelled(torch.zeros(1, 1))


# The ReLU form


def test_the_relu_form_of_a_fresh_conversion_is_the_network_it_came_from():
    ann = network()
    converted = spiking(ann)
    assert torch.equal(relu_form(converted)(images(20)), ann(images(20)))
    assert len(converted.fires) == 2 and converted.steps == 5


def test_the_relu_form_follows_the_weights_and_ignores_thresholds():
    converted = spiking(network())
    form = relu_form(converted)
    before = form(images(20))
    with torch.no_grad():
        for fire in converted.fires.values():
            fire.threshold.fill_(7)
    assert torch.equal(form(images(20)), before)
    with torch.no_grad():
        converted.body.get_submodule("readout").weight.mul_(2)
    assert not torch.equal(form(images(20)), before)


# The report


def test_rate_and_silence_are_those_of_counted_spikes():
    ann, data = currents(0.6, 0.3, -1.0, 2.0)  # hard reset at 1: every 2nd, every 4th, no, every
    (layer,) = conversion_report(ann, spiking(ann, 8, shape=(1,)), data, steps=()).layers
    assert (layer.layer, layer.neurons) == ("1", 4)
    assert layer.rate == (1 / 2 + 1 / 4 + 0 + 1) / 4
    assert layer.silent == 1 / 4


def test_a_constant_current_is_not_uneven_whatever_the_reset_makes_of_it():
    ann, data = currents(0.6, 0.3, -1.0, 2.0)
    for reset in Reset:
        converted = spiking(ann, 8, reset, shape=(1,))
        (layer,) = conversion_report(ann, converted, data, steps=()).layers
        assert layer.unevenness == 0


def test_correlation_and_error_are_their_definitions():
    values = (0.6, 0.3, 0.0, 2.0)
    ann, data = currents(*values)
    (layer,) = conversion_report(ann, spiking(ann, 12, shape=(1,)), data, steps=()).layers
    a = torch.tensor(values, dtype=torch.float64)
    r = torch.tensor([0.0 if x == 0 else 1 / ceil(1 / x) for x in values], dtype=torch.float64)
    expected = torch.corrcoef(torch.stack([a, r]))[0, 1].item()
    assert layer.correlation == pytest.approx(expected, rel=1e-6)  # activations are float32
    scales = torch.linspace(0, 5, 5001, dtype=torch.float64)
    errors = (a - scales[:, None] * r).norm(dim=1) / a.norm()
    assert layer.error == pytest.approx(errors.min().item(), abs=1e-6)  # grid of 0.001
    assert layer.error == pytest.approx(
        sqrt(1 - float(a @ r) ** 2 / float(a @ a) / float(r @ r)), rel=1e-6
    )


def test_spikes_that_come_unevenly_are_seen():
    ann = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 3))
    with torch.no_grad():
        ann[0].weight.zero_()
        ann[0].bias.fill_(0.5)
        ann[2].weight.fill_(3.0)
        ann[2].bias.zero_()
    converted, data = spiking(ann, 4, shape=(1,)), labelled(torch.zeros(1, 1))
    first, second = conversion_report(ann, converted, data, steps=()).layers
    assert first.rate == 0.5 and first.unevenness == 0
    # currents 0, 3, 0, 3: a spike at every second step, the rest is reset away; their mean
    # of 1.5 at every step would make every step spike
    assert second.rate == 0.5 and second.unevenness == 0.5


def test_accuracies_are_those_of_the_networks_run_with_each_number_of_steps():
    ann = network()
    converted = spiking(ann)
    with torch.no_grad():
        for fire in converted.fires.values():
            fire.threshold.fill_(0.2)
    data = labelled(images(90))
    report = conversion_report(ann, converted, data, steps=(1, 2, 16))
    assert report.ann == report.relu == accuracy(ann, data)
    assert [steps for steps, _ in report.sweep] == [1, 2, 16]
    for steps, found in report.sweep:
        other = spiking(ann, steps)
        other.load_state_dict(converted.state_dict())
        assert found == accuracy(other, data)
        assert torch.equal(at_steps(converted, steps)(data.images), other(data.images))
    assert len({value for _, value in report.sweep}) > 1
    assert report.steps == 5 and report.samples == 90


def test_thresholds_are_those_that_neurons_run_with():
    ann = network()
    converted = spiking(ann, granularity=Granularity.CHANNEL)
    with torch.no_grad():
        converted.fires["relu"].threshold.copy_(torch.tensor([0.5, 1.0, 1.5, -3.0]))
    layer = conversion_report(ann, converted, labelled(images(4)), steps=()).layers[0]
    assert layer.threshold_least == pytest.approx(THRESHOLD_FLOOR)
    assert layer.threshold_most == 1.5
    assert layer.threshold_mean == pytest.approx((3 + THRESHOLD_FLOOR) / 4)


def test_many_samples_are_measured_in_parts_with_the_same_result():
    ann = network()
    converted, data = spiking(ann), labelled(images(130))
    whole = conversion_report(ann, converted, data, steps=())
    parts = [
        conversion_report(ann, converted, data.rows(rows), steps=()).layers[0].rate
        for rows in torch.arange(130).split(65)
    ]
    assert whole.layers[0].rate == pytest.approx(sum(parts) / 2, rel=1e-12)


def test_both_networks_stay_as_they_are():
    ann = network().train()
    converted = spiking(ann).train()
    kept = copy.deepcopy(converted.state_dict()), copy.deepcopy(ann.state_dict())
    conversion_report(ann, converted, labelled(images(4)), steps=(2,))
    for before, after in zip(kept, (converted, ann), strict=True):
        assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.items())
    assert all(part.training for part in (*ann.modules(), *converted.body.modules()))
    assert converted.steps == 5 and {fire.steps for fire in converted.fires.values()} == {5}


def test_the_report_is_json_and_text():
    ann, data = currents(-1.0, -2.0)  # nothing ever spikes, no activation
    report = conversion_report(ann, spiking(ann, 4, shape=(1,)), data, steps=(2, 16))
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(content["accuracy"]["by_steps"]) == {"2", "16"}
    (layer,) = content["layers"]
    assert layer["silent"] == 1 and layer["correlation"] is None and layer["error"] is None
    assert report.to_text().splitlines()[:4] == [
        "1 samples; layers at T = 4",
        "",
        "layer  neurons  threshold   rate  silent  correlation  error  uneven",
        "1            2      1.000  0.000  100.0%            -      -   0.000",
    ]
    assert "T = 16" in report.to_text()


def test_another_network_than_the_source_is_refused():
    other = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 3))
    with pytest.raises(InvalidSetting, match="has the layers relu, relu_1, and a conversion"):
        conversion_report(other, spiking(network()), labelled(images(4)), steps=())


@pytest.mark.parametrize(("count", "steps"), [(0, (4,)), (3, (4, 0))])
def test_no_samples_or_no_steps_are_refused(count, steps):
    ann = network()
    with pytest.raises(InvalidSetting, match=f"report of {count} samples at T"):
        conversion_report(ann, spiking(ann), labelled(images(count)), steps=steps)
