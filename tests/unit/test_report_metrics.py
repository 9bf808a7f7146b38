"""metrics.json is read strictly: each mistake is one clear error that names its place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from snnc.errors import InvalidFile
from snnc.report.metrics import read_metrics

P = {"correct": 90, "samples": 100, "value": 0.9, "low": 0.826, "high": 0.945}
LAYER = {
    "name": "conv1",
    "neurons": 10,
    "spikes_per_sample": 4.0,
    "spikes_per_neuron": 0.4,
    "per_step": [1.0, 3.0],
}
METRICS: dict[str, Any] = {
    "schema": 1,
    "run": {
        "snnc": "0.1.0",
        "command": "snnc demo",
        "recipe": "digits",
        "seed": 0,
        "commit": None,
        "machine": "x",
        "python": "3.11",
        "torch": "2.13.0",
        "data": {"name": "digits", "digest": "ab", "test": 100},
        "started": "2026-01-01",
        "seconds": 1.5,
        "hardware": "simulated",
    },
    "stages": [{"name": "train", "seconds": 1.0, "metrics": {"clean": 0.9}}],
    "model": {
        "weights": 100,
        "nonzero": 10,
        "sparsity": 0.9,
        "steps": 8,
        "layers": [{"name": "conv1", "weights": 100, "nonzero": 10, "threshold": None}],
    },
    "accuracy": {"ann": P},
    "robustness": {
        "attack": {"name": "pgd", "steps": 20},
        "epsilons": [0.0, 0.1],
        "curves": {"snn": [P, P]},
        "transfer": {},
    },
    "agreement": {"loihi": {"samples": 5, "layers": {"conv1": 1.0}, "predictions": 1.0}},
    "quantization": {"layers": []},
    "activity": {"samples": 5, "layers": [LAYER], "synapses": []},
    "energy": [],
}


def read(path: Path, content: Any) -> Any:
    file = path / "metrics.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_metrics(file)


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return the metrics with one value changed; `...` removes it."""
    content = copy.deepcopy(METRICS)
    *path, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    target: Any = content
    for key in path:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return content


def test_complete_metrics_are_read(tmp_path):
    found = read(tmp_path, METRICS)

    assert found.run.data.test == 100
    assert found.run.commit is None
    assert found.accuracy["ann"].correct == 90
    assert found.robustness.epsilons == (0.0, 0.1)
    assert found.activity.layers[0].per_step == (1.0, 3.0)


@pytest.mark.parametrize("part", ["robustness", "agreement", "quantization", "activity", "energy"])
@pytest.mark.parametrize("value", [..., None])
def test_optional_parts_may_be_left_out_or_null(tmp_path, part, value):
    found = read(tmp_path, changed(part, value))

    assert not getattr(found, part)


@pytest.mark.parametrize(
    "place", ["run", "stages", "model", "accuracy", "run.seed", "run.data.digest", "model.layers"]
)
def test_a_missing_key_is_named(tmp_path, place):
    with pytest.raises(InvalidFile, match=rf"lacks '{place.split('.')[-1]}'"):
        read(tmp_path, changed(place, ...))


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("energies", r"the file has the unknown key 'energies'; did you mean 'energy'\?"),
        ("run.sede", r"run has the unknown key 'sede'; did you mean 'seed'\?"),
        ("accuracy.dnn", "accuracy has the unknown key 'dnn'"),
        ("robustness.curves.lava", "robustness.curves has the unknown key 'lava'"),
        ("model.layers.0.kept", r"model\.layers\[0\] has the unknown key 'kept'"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path, place, error):
    with pytest.raises(InvalidFile, match=error):
        read(tmp_path, changed(place, 1))


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        ("schema", 2, "the file is not of schema 1"),
        ("run.seed", 1.5, "run.seed is not a whole number"),
        ("run.seed", True, "run.seed is not a whole number"),
        ("run.seconds", "1", "run.seconds is not a number"),
        ("run.seconds", -1, "run.seconds is -1, less than 0"),
        ("run.seconds", 10**400, "run.seconds is too large"),
        ("run.machine", None, "run.machine is not a string"),
        ("run", [], "run is not an object"),
        ("stages", {}, "stages is not an array"),
        ("stages.0.metrics.clean", "x", "stages[0].metrics.clean is not a number"),
        ("model.sparsity", 0.8, "model.sparsity is 0.8, not 1 - nonzero / weights"),
        ("model.nonzero", 101, "model.nonzero is 101, more than the 100 weights"),
        ("model.layers.0.nonzero", 101, "model.layers[0].nonzero is 101, more than"),
        ("accuracy.ann.correct", 101, "accuracy.ann counts 101 of 100"),
        ("accuracy.ann.samples", 0, "accuracy.ann counts 90 of 0"),
        ("accuracy.ann.value", 0.95, "accuracy.ann.value is 0.95, not 90 / 100"),
        ("accuracy.ann.value", 90, "accuracy.ann.value is 90, not from 0 to 1"),
        ("accuracy.ann.low", 0.93, "accuracy.ann has the interval 0.93 to 0.945 around 0.9"),
        ("robustness.attack.name", ..., "robustness.attack lacks 'name'"),
        ("robustness.epsilons", [0.1, 0.0], "robustness.epsilons do not rise"),
        ("robustness.epsilons", [0.0], "robustness.curves.snn has 2 points for 1 epsilons"),
        ("robustness.epsilons.0", -0.1, "robustness.epsilons[0] is -0.1, less than 0"),
        ("agreement.loihi.predictions", 1.1, "predictions is 1.1, not from 0 to 1"),
        ("activity.layers.0.per_step", [1.0, 1.0], "per_step adds up to 2, not to 4 spikes"),
        ("activity.layers.0.per_step", [], "has no neurons or no steps"),
        ("activity.layers.0.spikes_per_neuron", 0.5, "is not 4 spikes / 10 neurons"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, place, value, error):
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, changed(place, value))

    assert error in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'metrics.json'}: ")


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"schema": NaN}', "\ufeff{}", "[" * 100_000]
)
def test_what_is_not_metrics_is_refused(tmp_path, content):
    with pytest.raises(InvalidFile):
        read(tmp_path, content)


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InvalidFile, match="not JSON"):
        read_metrics(tmp_path / "metrics.json")


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(InvalidFile, match="does not exist"):
        read_metrics(tmp_path / "metrics.json")
    with pytest.raises(InvalidFile, match="is a directory"):
        read_metrics(tmp_path)
