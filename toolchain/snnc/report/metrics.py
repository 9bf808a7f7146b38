"""metrics.json, read strictly: what a run measured, as typed values.

A missing key, a key nobody knows, a number that is not one, and two numbers that
contradict each other are errors, because a report that guesses is worse than none. Parts
that a run may leave out (an attack, Lava, the twin, energy) are `None` or empty here,
and the page says so in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from pathlib import Path

from snnc.report.estimates import Estimated, read_estimate
from snnc.report.place import Place, read_json

SCHEMA = 1
NETWORKS = ("ann", "snn", "deployed", "twin_ann", "twin")
CURVES = ("ann", "snn", "deployed", "twin")


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """k of n samples, with the 95 % Wilson interval of the share."""

    correct: int
    samples: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Which images were used."""

    name: str
    digest: str
    test: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was run, where, and for how long."""

    snnc: str
    command: str
    recipe: str
    seed: int
    commit: str | None
    machine: str
    python: str
    torch: str
    data: DataSet
    started: str
    seconds: float
    hardware: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the recipe."""

    name: str
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class WeightLayer:
    """The weights of one layer after training."""

    name: str
    weights: int
    nonzero: int
    threshold: float | None  # None: several thresholds, or a layer that does not spike


@dataclass(frozen=True, kw_only=True)
class Model:
    """The weights of the whole network; `sparsity` is the share of zeros."""

    weights: int
    nonzero: int
    sparsity: float
    steps: int
    layers: tuple[WeightLayer, ...]


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy against the size of the attack."""

    attack: Mapping[str, str | float | bool | None]
    epsilons: tuple[float, ...]
    curves: Mapping[str, tuple[Proportion, ...]]
    transfer: Mapping[str, object]  # free form: shown as it is


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How much of what a target did equals the reference: 1.0 is every spike."""

    samples: int
    layers: Mapping[str, float]
    predictions: float


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """What rounding did to one layer."""

    name: str
    weight_bits: int
    scale: float
    threshold: int | None  # None for a last layer that does not spike
    largest_weight: int
    saturated: int
    rounded_to_zero: int


@dataclass(frozen=True, kw_only=True)
class LayerActivity:
    """Spikes of one layer, means over samples; `per_step` adds up to `spikes_per_sample`."""

    name: str
    neurons: int
    spikes_per_sample: float
    spikes_per_neuron: float
    per_step: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SynapseActivity:
    """Events that one bundle of synapses delivered for a sample, over all steps."""

    name: str
    population: str
    source: str
    stored: int
    events_per_sample: float


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What the network did on clean images."""

    samples: int
    layers: tuple[LayerActivity, ...]
    synapses: tuple[SynapseActivity, ...]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Everything a run measured."""

    run: Run
    stages: tuple[Stage, ...]
    model: Model
    accuracy: Mapping[str, Proportion]
    robustness: Robustness | None
    agreement: Mapping[str, Agreement]
    quantization: tuple[QuantizedLayer, ...]
    activity: Activity | None
    energy: tuple[Estimated, ...]


def read_metrics(path: Path) -> Metrics:
    """Read and check a metrics.json.

    Raises:
        InvalidFile: it is missing, not JSON, of another schema, or breaks a rule above.
    """
    return _metrics(read_json(path))


def _metrics(place: Place) -> Metrics:
    if place.entries().get("schema", Place(place.file, "schema", None)).value != SCHEMA:
        place.fail(f"is not of schema {SCHEMA}", "write it with this version of snnc")
    optional = ("robustness", "agreement", "quantization", "activity", "energy")
    key = place.members(("schema", "run", "stages", "model", "accuracy"), optional)
    accuracy = key["accuracy"].members((), NETWORKS)
    quantization = key["quantization"].members(("layers",)) if "quantization" in key else {}
    agreement = key["agreement"].members((), ("loihi",)) if "agreement" in key else {}
    return Metrics(
        run=_run(key["run"]),
        stages=key["stages"].items(_stage),
        model=_model(key["model"]),
        accuracy={name: _proportion(value) for name, value in accuracy.items()},
        robustness=_robustness(key["robustness"]) if "robustness" in key else None,
        agreement={name: _agreement(value) for name, value in agreement.items()},
        quantization=quantization["layers"].items(_quantized) if quantization else (),
        activity=_activity(key["activity"]) if "activity" in key else None,
        energy=key["energy"].items(read_estimate) if "energy" in key else (),
    )


def _run(place: Place) -> Run:
    keys = Run.__dataclass_fields__
    key = place.members(tuple(keys))
    data = key["data"].members(tuple(DataSet.__dataclass_fields__))
    return Run(
        snnc=key["snnc"].text(),
        command=key["command"].text(),
        recipe=key["recipe"].text(),
        seed=key["seed"].whole(),
        commit=key["commit"].optional(Place.text),
        machine=key["machine"].text(),
        python=key["python"].text(),
        torch=key["torch"].text(),
        data=DataSet(
            name=data["name"].text(), digest=data["digest"].text(), test=data["test"].whole()
        ),
        started=key["started"].text(),
        seconds=key["seconds"].amount(),
        hardware=key["hardware"].text(),
    )


def _stage(place: Place) -> Stage:
    key = place.members(("name", "seconds", "metrics"))
    return Stage(
        name=key["name"].text(),
        seconds=key["seconds"].amount(),
        metrics=key["metrics"].named(Place.number),
    )


def _model(place: Place) -> Model:
    key = place.members(("weights", "nonzero", "sparsity", "steps", "layers"))
    model = Model(
        weights=key["weights"].whole(),
        nonzero=key["nonzero"].whole(),
        sparsity=key["sparsity"].share(),
        steps=key["steps"].whole(),
        layers=key["layers"].items(_weight_layer),
    )
    if model.nonzero > model.weights:
        key["nonzero"].fail(f"is {model.nonzero}, more than the {model.weights} weights")
    if model.weights and not isclose(
        model.sparsity, 1 - model.nonzero / model.weights, abs_tol=5e-4
    ):  # written with three decimals or more
        key["sparsity"].fail(f"is {model.sparsity:g}, not 1 - nonzero / weights")
    return model


def _weight_layer(place: Place) -> WeightLayer:
    key = place.members(("name", "weights", "nonzero", "threshold"))
    layer = WeightLayer(
        name=key["name"].text(),
        weights=key["weights"].whole(),
        nonzero=key["nonzero"].whole(),
        threshold=key["threshold"].optional(Place.number),
    )
    if layer.nonzero > layer.weights:
        key["nonzero"].fail(f"is {layer.nonzero}, more than the {layer.weights} weights")
    return layer


def _proportion(place: Place) -> Proportion:
    key = place.members(("correct", "samples", "value", "low", "high"))
    found = Proportion(
        correct=key["correct"].whole(),
        samples=key["samples"].whole(),
        value=key["value"].share(),
        low=key["low"].share(),
        high=key["high"].share(),
    )
    if not (found.samples and found.correct <= found.samples):
        place.fail(f"counts {found.correct} of {found.samples}")
    if not isclose(found.value, found.correct / found.samples, abs_tol=5e-4):
        key["value"].fail(f"is {found.value:g}, not {found.correct} / {found.samples}")
    if not found.low - 1e-9 <= found.value <= found.high + 1e-9:  # rounding at 0 and 1
        place.fail(f"has the interval {found.low:g} to {found.high:g} around {found.value:g}")
    return found


def _robustness(place: Place) -> Robustness:
    key = place.members(("attack", "epsilons", "curves"), ("transfer",))
    attack = key["attack"].named(Place.scalar)
    if "name" not in attack:
        key["attack"].fail("lacks 'name'")
    epsilons = key["epsilons"].items(Place.amount)
    if not epsilons or list(epsilons) != sorted(set(epsilons)):
        key["epsilons"].fail("do not rise from one to the next")
    curves = key["curves"].members((), CURVES)
    found = {name: curve.items(_proportion) for name, curve in curves.items()}
    for name, points in found.items():
        if len(points) != len(epsilons):
            curves[name].fail(f"has {len(points)} points for {len(epsilons)} epsilons")
    return Robustness(
        attack=attack,
        epsilons=epsilons,
        curves=found,
        transfer=key["transfer"].plain() if "transfer" in key else {},
    )


def _agreement(place: Place) -> Agreement:
    key = place.members(("samples", "layers", "predictions"))
    return Agreement(
        samples=key["samples"].whole(),
        layers=key["layers"].named(Place.share),
        predictions=key["predictions"].share(),
    )


def _quantized(place: Place) -> QuantizedLayer:
    key = place.members(tuple(QuantizedLayer.__dataclass_fields__))
    return QuantizedLayer(
        name=key["name"].text(),
        weight_bits=key["weight_bits"].whole(),
        scale=key["scale"].amount(),
        threshold=key["threshold"].optional(Place.whole),
        largest_weight=key["largest_weight"].whole(),
        saturated=key["saturated"].whole(),
        rounded_to_zero=key["rounded_to_zero"].whole(),
    )


def _activity(place: Place) -> Activity:
    key = place.members(("samples", "layers", "synapses"))
    return Activity(
        samples=key["samples"].whole(),
        layers=key["layers"].items(_layer_activity),
        synapses=key["synapses"].items(_synapse_activity),
    )


def _layer_activity(place: Place) -> LayerActivity:
    key = place.members(tuple(LayerActivity.__dataclass_fields__))
    found = LayerActivity(
        name=key["name"].text(),
        neurons=key["neurons"].whole(),
        spikes_per_sample=key["spikes_per_sample"].amount(),
        spikes_per_neuron=key["spikes_per_neuron"].amount(),
        per_step=key["per_step"].items(Place.amount),
    )
    if not found.neurons or not found.per_step:
        place.fail("has no neurons or no steps")
    total = found.spikes_per_sample
    near = 0.002 * total + 0.01  # the writer may have rounded
    if not isclose(sum(found.per_step), total, abs_tol=near):
        key["per_step"].fail(f"adds up to {sum(found.per_step):g}, not to {total:g} spikes")
    if not isclose(found.spikes_per_neuron * found.neurons, total, abs_tol=near + 0.01 * total):
        key["spikes_per_neuron"].fail(f"is not {total:g} spikes / {found.neurons} neurons")
    return found


def _synapse_activity(place: Place) -> SynapseActivity:
    key = place.members(tuple(SynapseActivity.__dataclass_fields__))
    return SynapseActivity(
        name=key["name"].text(),
        population=key["population"].text(),
        source=key["source"].text(),
        stored=key["stored"].whole(),
        events_per_sample=key["events_per_sample"].amount(),
    )
