"""The report: one page, complete, safe to open, and true to the run's files."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snnc.energy.ann import ann_counts_of_program
from snnc.energy.count import count
from snnc.energy.estimate import estimate
from snnc.energy.prices import Unit
from snnc.energy.profiles import load_profile
from snnc.energy.report import to_json
from snnc.errors import CannotWrite, InvalidFile, OutputExists
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
    Normalize,
    Readout,
    Reset,
)
from snnc.ir.program import Program
from snnc.ir.store import load_graph, load_program, save_graph, save_program
from snnc.ir.weights import floats, nonzeros, pack, unpack
from snnc.passes import PREPARE, apply
from snnc.passes.numbers import Numbers
from snnc.passes.quantize import quantize
from snnc.report import write_report
from snnc.report.energy import amount_in_words
from snnc.report.write import render
from snnc.semantics.encode import encode
from snnc.simulate import reference
from snnc.simulate.trace import Trace

STEPS = 8
EPSILONS = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2]
FALLS = {  # correct of 360 at each epsilon
    "ann": [353, 343, 327, 306, 279, 248, 164, 92],
    "snn": [349, 338, 321, 301, 273, 240, 158, 84],
    "deployed": [348, 338, 320, 299, 272, 241, 157, 85],
    "twin": [351, 318, 241, 138, 71, 32, 8, 2],
}
PROFILES = (
    "cmos45-fp32-ops",
    "cmos45-int8-ops",
    "loihi1-davies2018",
    "loihi2-opsproxy",
)
ZERO = """
    ..####..
    .##..##.
    .#....#.
    .#....##
    .#....##
    .##...#.
    ..##.##.
    ...###..
"""


def graph_of(rng: np.random.Generator) -> Graph:
    """Return a small sparse spiking network on 8 x 8 images."""

    def weight(*shape: int, kept: float) -> Any:
        dense = rng.normal(0.0, 1.0 / sqrt(np.prod(shape[1:]) * kept), shape)
        return pack(dense * (rng.random(shape) < kept))

    def fire(threshold: Any, granularity: Granularity = Granularity.LAYER) -> Fire:
        return Fire(
            threshold=floats(threshold), granularity=granularity, reset=Reset.ZERO, keep=1.0
        )

    def conv(out: int, into: int, stride: int, kept: float) -> Conv2d:
        return Conv2d(
            weight=weight(out, into, 3, 3, kept=kept),
            bias=floats(rng.normal(0, 0.05, out)),
            stride=(stride, stride),
            padding=(1, 1),
            groups=1,
        )

    def linear(out: int, into: int, kept: float) -> Linear:
        return Linear(weight=weight(out, into, kept=kept), bias=floats(rng.normal(0, 0.05, out)))

    per_channel = rng.uniform(0.4, 1.3, 32)
    nodes = (
        Node("image", Input(shape=(1, 8, 8)), ()),
        Node("normalize", Normalize(mean=floats([0.3]), std=floats([0.37])), ("image",)),
        Node("conv1", conv(16, 1, 1, 0.6), ("normalize",)),
        Node("fire1", fire(0.83), ("conv1",)),
        Node("conv2", conv(32, 16, 2, 0.1), ("fire1",)),
        Node("fire2", fire(per_channel, Granularity.CHANNEL), ("conv2",)),
        Node("flatten", Flatten(), ("fire2",)),
        Node("fc1", linear(64, 512, 0.05), ("flatten",)),
        Node("fire3", fire(1.21), ("fc1",)),
        Node("fc2", linear(10, 64, 0.3), ("fire3",)),
        Node("readout", Readout(decision=Decision.MEMBRANE), ("fc2",)),
    )
    return Graph(nodes=nodes, steps=STEPS, class_names=tuple("0123456789"))


def proportion(correct: int, samples: int = 360) -> dict[str, float]:
    """Return k of n with its Wilson interval (Wilson, 1927; z = 1.96)."""
    z, p = 1.959963984540054, correct / samples
    centre = (p + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z * sqrt(p * (1 - p) / samples + z * z / (4 * samples**2)) / (1 + z * z / samples)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"correct": correct, "samples": samples, "value": p, "low": low, "high": high}


def metrics_of(graph: Graph, program: Program, trace: Trace) -> dict[str, Any]:
    """Return the metrics.json of a run that went as the figures above say."""
    weights = [
        {
            "name": node.name,
            "weights": int(np.prod(node.op.weight.shape)),
            "nonzero": nonzeros(node.op.weight),
            "threshold": threshold,
        }
        for node, threshold in zip(
            [n for n in graph.nodes if isinstance(n.op, Conv2d | Linear)],
            [0.83, None, 1.21, None],
            strict=True,
        )
    ]
    total, kept = sum(w["weights"] for w in weights), sum(w["nonzero"] for w in weights)
    return {
        "schema": 1,
        "run": {
            "snnc": "0.1.0",
            "command": "snnc demo --seed 0",
            "recipe": "digits-demo",
            "seed": 0,
            "commit": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
            "machine": "x86_64, 2 cores, Linux 6.1",
            "python": "3.11.9",
            "torch": "2.13.0+cpu",
            "data": {"name": "digits", "digest": "sha256:" + "5e" * 32, "test": 360},
            "started": "2026-11-21T08:00:00+00:00",
            "seconds": 187.4,
            "hardware": "simulated, no neuromorphic hardware was used",
        },
        "stages": [
            {"name": "train", "seconds": 61.2, "metrics": {"loss": 0.1921, "clean": 0.9806}},
            {"name": "prune", "seconds": 0.1, "metrics": {"sparsity": 0.9}},
            {"name": "balance", "seconds": 0.6, "metrics": {"clean": 0.9139}},
            {"name": "finetune", "seconds": 88.3, "metrics": {"clean": 0.9694, "robust": 0.8361}},
        ],
        "model": {
            "weights": total,
            "nonzero": kept,
            "sparsity": 1 - kept / total,
            "steps": STEPS,
            "layers": weights,
        },
        "accuracy": {
            **{name: proportion(points[0]) for name, points in FALLS.items()},
            "twin_ann": proportion(354),
        },
        "robustness": {
            "attack": {
                "name": "pgd",
                "steps": 20,
                "restarts": 1,
                "step_size": "2.5 * eps / steps",
                "random_start": True,
                "loss": "cross entropy",
            },
            "epsilons": EPSILONS,
            "curves": {name: [proportion(k) for k in points] for name, points in FALLS.items()},
            "transfer": {"ann to deployed": [proportion(k + 3) for k in FALLS["ann"][1:4]]},
        },
        "agreement": {
            "loihi": {
                "samples": 100,
                "layers": {"conv1": 1.0, "conv2": 1.0, "fc1": 1.0},
                "predictions": 1.0,
            }
        },
        "quantization": {
            "layers": [
                {
                    "name": layer.name,
                    "weight_bits": 8,
                    "scale": layer.scale,
                    "threshold": getattr(layer, "threshold", None),
                    "largest_weight": 127,
                    "saturated": 0,
                    "rounded_to_zero": 3,
                }
                for layer in program.populations
            ]
        },
        "activity": {
            "samples": trace.samples,
            "layers": [
                {
                    "name": layer.name,
                    "neurons": layer.neurons,
                    "spikes_per_sample": float(layer.spikes.sum(axis=1).mean()),
                    "spikes_per_neuron": float(layer.spikes.sum(axis=1).mean() / layer.neurons),
                    "per_step": layer.spikes.mean(axis=0).tolist(),
                }
                for layer in trace.layers
            ],
            "synapses": [
                {
                    "name": each.name,
                    "population": each.population,
                    "source": each.source,
                    "stored": stored,
                    "events_per_sample": float(each.events.sum(axis=1).mean()),
                }
                for each, stored in zip(
                    trace.synapses,
                    [nonzeros(s.weight) for p in program.populations for s in p.synapses],
                    strict=True,
                )
            ],
        },
        "energy": [
            to_json(
                estimate(
                    count(program, trace, ann=ann_counts_of_program(program)),
                    load_profile(name),
                )
            )
            for name in PROFILES
        ],
    }


def write_run(directory: Path) -> Path:
    """Write a complete run directory."""
    rng = np.random.default_rng(7)
    graph = graph_of(rng)
    program = quantize(apply(PREPARE, graph), Numbers())
    rows = [[{"#": 0.93, ".": 0.04}[mark] for mark in line] for line in ZERO.split()]
    images = np.clip(np.array([[rows]]) + rng.normal(0, 0.08, (6, 1, 8, 8)), 0, 1)
    trace = reference.run(program, encode(program.input, images), raster=True)
    metrics = metrics_of(graph, program, trace)
    (directory / "reference").mkdir(parents=True)
    save_graph(directory / "model.snn", graph, force=False)
    save_program(directory / "reference" / "program.snnx", program, force=False)
    (directory / "metrics.json").write_text(json.dumps(metrics))
    rasters = {
        layer.name: layer.raster[0].reshape(STEPS, -1)
        for layer in trace.layers
        if layer.raster is not None
    }
    np.savez(directory / "raster.npz", image=images[0], label=0, prediction=0, **rasters)
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return render(run)


def with_metrics(run: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a run directory, changing its metrics."""
    shutil.copytree(run, to)
    content = json.loads((to / "metrics.json").read_text())
    change(content)
    (to / "metrics.json").write_text(json.dumps(content))
    return to


class Reader(HTMLParser):
    """Collects text and attributes, and insists that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"meta", "br", "hr"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words).replace("\u202f", " ")


def section(html: str, anchor: str) -> str:
    """Return the text of one section."""
    found = re.search(rf'<section id="{anchor}">.*?</section>', html, re.DOTALL)
    assert found is not None
    return Reader(found[0]).text


def test_every_element_is_closed_where_it_was_opened(html):
    reader = Reader(html)

    assert reader.open == []
    assert html.startswith('<!doctype html>\n<html lang="en">')


def test_links_inside_the_page_find_their_target_and_identifiers_are_unique(html):
    attributes = Reader(html).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    targets = [value for _, name, value in attributes if name == "href"]

    assert len(ids) == len(set(ids))
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(ids)


def test_the_page_asks_nothing_of_the_network(html):
    reader = Reader(html)

    assert not set(reader.seen) & {"script", "link", "img", "iframe", "object", "image", "use"}
    assert not [a for a in reader.attributes if a[1] in {"src", "srcset", "xlink:href"}]
    assert not [a for a in reader.attributes if a[1].startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    assert "http:" not in html and "https:" not in html
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


def test_equal_runs_give_equal_bytes(run, html):
    assert render(run) == html


def test_every_picture_of_a_complete_run_is_there(html):
    anchors = re.findall(r'<section id="(\w+)">', html)

    assert anchors == [
        "chain",
        "robustness",
        "example",
        "activity",
        "sparsity",
        "quantization",
        "energy",
        "run",
    ]
    assert all(
        "<svg" in part for part in html.split("<section")[2:-1]
    )  # all but the chain and the account are drawn


def test_a_complete_run_misses_only_what_its_estimates_lack(html):
    missing = re.findall(r"<strong>Not run: </strong>(.*?)</p>", html)

    assert [text for text in missing if "zero-skipping" not in text] == []


def test_the_chain_shows_each_accuracy_with_its_interval(html, metrics):
    text = section(html, "chain")

    for key in ("ann", "snn", "deployed"):
        found = metrics["accuracy"][key]
        assert f"{100 * found['value']:.1f} %" in text
        assert f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]" in text
    assert f"{100 * metrics['model']['sparsity']:.1f} %of weights are zero" in text
    assert "100 %of spikes and predictions equal the integers100 images, 3 layers" in text


def test_one_wrong_spike_in_a_million_is_not_called_agreement(run, tmp_path):
    def miss(metrics):
        metrics["agreement"]["loihi"]["layers"]["conv2"] = 0.999999

    text = section(render(with_metrics(run, tmp_path / "run", miss)), "chain")

    assert "< 100 %of spikes" in text


def test_every_point_of_every_curve_has_its_count(html):
    text = section(html, "robustness")

    for points in FALLS.values():
        for correct in points:
            assert f"{correct} of 360 images" in text


def test_a_curve_is_drawn_where_its_numbers_say(html):
    wide = re.search(r'<div class="wide"><svg viewBox="0 0 880 430".*?</svg>', html, re.DOTALL)
    assert wide is not None
    group = re.search(r'<g class="twin">.*?<polyline points="([^"]*)"', wide[0])
    assert group is not None
    points = [tuple(map(float, pair.split(","))) for pair in group[1].split()]

    for epsilon, correct, (x, y) in zip(EPSILONS, FALLS["twin"], points, strict=True):
        assert x == pytest.approx(52 + epsilon / 0.2 * (630 - 52), abs=0.006)  # two decimals
        assert y == pytest.approx(378 - correct / 360 * (378 - 18), abs=0.006)


def test_the_page_quotes_the_first_epsilon_at_which_the_twin_has_fallen(html):
    lead = Reader(html).text

    assert "At ε = 0.06 (PGD-20)" in lead
    assert "the deployed integers keep 83.1 % [78.8, 86.6] and the twin 38.3 % [33.5, 43.5]" in lead
    assert "+44.7 points, intervals apart" in lead


def test_overlapping_intervals_are_not_called_a_difference(run, tmp_path):
    def equal(metrics):
        curves = metrics["robustness"]["curves"]
        curves["deployed"] = [proportion(k) for k in FALLS["twin"]]

    html = render(with_metrics(run, tmp_path / "run", equal))

    assert "the intervals overlap, so no difference is shown" in html
    assert "intervals apart" not in html


def test_an_unchecked_attack_is_called_unverified_and_nothing_is_called_robust(html):
    text = Reader(html).text

    assert "Conclusion: attack unverified." in text
    assert not re.search(r"\b(is|are|stays?) robust\b", text)


def test_accuracy_that_rises_with_epsilon_is_called_suspicious(run, tmp_path):
    def rise(metrics):
        metrics["robustness"]["curves"]["snn"][4] = proportion(340)

    text = section(render(with_metrics(run, tmp_path / "run", rise)), "robustness")

    assert "Conclusion: masking suspected. SNN, float rises between ε = 0.06 and ε = 0.08" in text


def test_spikes_of_each_layer_are_those_of_the_metrics(html, metrics):
    text = section(html, "activity")

    for layer in metrics["activity"]["layers"]:
        for step, spikes in enumerate(layer["per_step"]):
            rate = f"{spikes / layer['neurons']:.3g}"
            assert f"{layer['name']}, step {step}: {rate} spikes per neuron" in text


def test_the_raster_holds_exactly_the_spikes_of_the_run(run, html):
    pictures = re.findall(r'<svg[^>]*class="raster deployed".*?</svg>', html, re.DOTALL)

    with np.load(run / "raster.npz") as arrays:
        for name, picture in zip(["conv1", "conv2", "fc1"], pictures, strict=True):
            drawn = np.zeros_like(arrays[name])
            rows = re.findall(r'<path d="([^"]*)" class="fill">', picture)
            for step, path in enumerate(rows):
                for start, length in re.findall(r"M(\d+) 0h(\d+)v1", path):
                    drawn[step, int(start) : int(start) + int(length)] = True
            assert (drawn == arrays[name]).all()


def test_masks_show_every_weight_that_is_left_and_no_other(html, metrics):
    masks = re.findall(r'<svg[^>]*class="mask"[^>]*>(.*?)</svg>', html, re.DOTALL)

    for layer, mask in zip(metrics["model"]["layers"], masks, strict=True):
        paths = re.findall(r'<path d="([^"]*)" class="(?:plus|minus)">', mask)
        drawn = sum(int(n) for path in paths for n in re.findall(r"h(\d+)v1", path))
        assert drawn == layer["nonzero"]


def test_the_histograms_count_every_integer_of_the_program(run, html):
    program = load_program(run / "reference" / "program.snnx")
    bundles = [each for population in program.populations for each in population.synapses]
    kept = [unpack(n.op.weight) != 0 for n in load_graph(run / "model.snn").nodes if is_synaptic(n)]
    panels = re.search(r'<div class="panels">.*?</div>', html, re.DOTALL)
    assert panels is not None
    figures = panels[0].split("<figure>")[1:]

    for bundle, mask, figure in zip(bundles, kept, figures, strict=True):
        drawn = re.findall(r"<title>integer (-?\d+) = [^:]*: (\d+) weights?</title>", figure)
        levels, counts = np.unique(unpack(bundle.weight)[mask], return_counts=True)
        assert {int(level): int(n) for level, n in drawn} == dict(
            zip(levels.tolist(), counts.tolist(), strict=True)
        )


def is_synaptic(node: Node) -> bool:
    return isinstance(node.op, Conv2d | Linear)


def test_rounding_moves_no_weight_by_more_than_half_a_step(html):
    table = section(html, "quantization")
    errors = re.findall(r"0\.\d{3}(?=conv|fc|layer)", table)

    assert len(errors) == 4
    assert all(0.4 < float(error) <= 0.5 for error in errors)


def test_each_profile_keeps_to_its_scope_and_names_its_sources(html, metrics):
    text = section(html, "energy")

    order = [text.index(title) for title in ("Arithmetic only", "Event by event", "Operations, w")]
    assert order == sorted(order)
    for estimate_ in metrics["energy"]:
        for source in estimate_["sources"]:
            assert source["citation"] in text


def test_a_sum_that_lacks_terms_is_called_partial_and_says_what_it_lacks(html, metrics):
    text = section(html, "energy")
    partial = [e for e in metrics["energy"] if e["result"] == "partial"]

    assert [e["profile"] for e in partial] == ["loihi1-davies2018"]
    assert text.count("Partial sum: ") == 1
    assert "a lower bound and not a total" in text
    for missing in partial[0]["unpriced"]:
        assert missing["reason"] in text


def test_what_a_layer_costs_is_the_sum_of_its_items(html, metrics):
    text = section(html, "energy")

    for estimate_ in metrics["energy"]:
        cost: dict[str, float] = {}
        for item in estimate_["items"]:
            cost[item["where"]] = cost.get(item["where"], 0.0) + item["nominal"]
        order = [place for place in ("conv1", "conv2", "fc1", "fc2") if place in cost]
        unit = {"J": Unit.JOULE, "op": Unit.OPERATION}[estimate_["unit"]]
        amounts = [amount_in_words(cost[place], unit).replace("\u202f", " ") for place in order]
        assert "".join(f"{p}{a}" for p, a in zip(order, amounts, strict=True)) in re.sub(
            r"(?:conv\d|fc\d), [a-z ]+: [\d.e-]+ %", "", text
        )


def test_the_account_names_everything_needed_to_repeat_the_run(html, metrics):
    text = section(html, "run")
    run = metrics["run"]

    for key in ("recipe", "commit", "machine", "python", "torch", "snnc", "started", "command"):
        assert run[key] in text
    assert run["data"]["digest"] in text
    assert "Simulated, no neuromorphic hardware was used." in text
    assert "3 min 7 s" in text


def test_text_from_data_cannot_become_code(run, tmp_path):
    hostile = "</style><script>alert('x')</script>\"onload=\"y&amp;"

    def attack(metrics):
        for key in ("recipe", "command", "machine", "commit", "hardware", "started"):
            metrics["run"][key] = hostile
        metrics["run"]["data"]["name"] = hostile
        metrics["stages"][0]["name"] = hostile
        metrics["stages"][0]["metrics"] = {hostile: 1}
        metrics["robustness"]["attack"] = {"name": hostile, hostile: hostile}
        metrics["robustness"]["transfer"] = {hostile: {hostile: [hostile]}}
        metrics["activity"]["layers"][0]["name"] = hostile
        metrics["quantization"]["layers"][0]["name"] = hostile
        metrics["energy"][0]["title"] = metrics["energy"][0]["profile"] = hostile
        metrics["energy"][0]["items"][0]["where"] = hostile
        metrics["energy"][0]["sources"][0]["citation"] = hostile

    html = render(with_metrics(run, tmp_path / "run", attack))
    reader = Reader(html)

    assert "script" not in reader.seen
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert html.count("</style>") == 1
    assert html.count(escape(hostile)) > 20
    assert hostile in reader.text


@pytest.mark.parametrize(
    ("part", "anchor", "said"),
    [
        ("robustness", "robustness", "no attack is in metrics.json"),
        ("agreement", "chain", "not run: needs Python 3.10 with lava-nc"),
        ("activity", "activity", "metrics.json holds no activity"),
        ("quantization", "quantization", "metrics.json has no account of quantization"),
        ("energy", "energy", "no estimate is in metrics.json"),
    ],
)
def test_a_part_that_was_not_run_is_named_in_its_place(run, tmp_path, part, anchor, said):
    html = render(with_metrics(run, tmp_path / "run", lambda metrics: metrics.pop(part)))

    assert said in section(html, anchor)
    assert said not in section(render(run), anchor)


def test_a_missing_twin_is_named_at_its_curve_and_in_the_account(run, tmp_path):
    def without_twin(metrics):
        del metrics["accuracy"]["twin"], metrics["accuracy"]["twin_ann"]
        del metrics["robustness"]["curves"]["twin"]

    html = render(with_metrics(run, tmp_path / "run", without_twin))

    assert "Not run: no curve for the normally trained twin" in section(html, "robustness")
    assert "twin, deployednot run" in section(html, "run")
    assert "intervals apart" not in html


@pytest.mark.parametrize(
    ("file", "anchor", "said"),
    [
        ("model.snn", "sparsity", "model.snn is not in the run directory"),
        ("model.snn", "quantization", "model.snn and reference/program.snnx are not both"),
        ("reference/program.snnx", "quantization", "program.snnx are not both"),
        ("raster.npz", "example", "raster.npz and the compiled program are not both"),
    ],
)
def test_a_missing_file_is_named_in_its_place(run, tmp_path, file, anchor, said):
    copy = with_metrics(run, tmp_path / "run", lambda metrics: None)
    (copy / file).unlink()

    assert said in section(render(copy), anchor)


def test_a_run_that_was_only_trained_still_has_a_report(run, tmp_path):
    def only_trained(metrics):
        for key in ("robustness", "agreement", "quantization", "activity", "energy"):
            del metrics[key]
        metrics["accuracy"] = {"ann": metrics["accuracy"]["ann"]}

    copy = with_metrics(run, tmp_path / "run", only_trained)
    for name in ("model.snn", "reference/program.snnx", "raster.npz"):
        (copy / name).unlink()

    text = Reader(render(copy)).text

    assert "was not compiled to integers" in text
    assert text.count("Not run: ") == 6


def test_metrics_and_model_of_two_runs_are_refused(run, tmp_path):
    def other(metrics):
        metrics["model"]["layers"][1]["nonzero"] -= 1

    copy = with_metrics(run, tmp_path / "run", other)

    with pytest.raises(InvalidFile, match=r"model\.snn: conv2 holds 480 of 4608, metrics\.json"):
        render(copy)


def test_model_and_program_of_two_runs_are_refused(run, tmp_path):
    copy = with_metrics(run, tmp_path / "run", lambda metrics: metrics["model"].update(layers=[]))
    graph = graph_of(np.random.default_rng(1))
    nodes = tuple(replace(n, name="other") if n.name == "fc2" else n for n in graph.nodes)
    nodes = (*nodes[:-1], replace(nodes[-1], inputs=("other",)))
    save_graph(copy / "model.snn", replace(graph, nodes=nodes), force=True)

    with pytest.raises(InvalidFile, match="does not have the layer 'fc2'"):
        render(copy)


def changed_raster(run: Path, to: Path, **arrays: Any) -> Path:
    copy = with_metrics(run, to, lambda metrics: None)
    with np.load(copy / "raster.npz") as archive:
        found = {**archive, **arrays}
    np.savez(copy / "raster.npz", **{k: v for k, v in found.items() if v is not None})
    return copy


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"conv1": None}, "the program needs conv1"),
        ({"conv1": np.zeros((8, 3), bool)}, r"holds conv1 \(8, 3\)"),
        ({"other": np.zeros((8, 64), bool)}, "holds .*other"),
        ({"conv1": np.zeros((8, 1024))}, "a raster is not of booleans"),
        ({"image": np.full((1, 8, 8), np.nan)}, "not within"),
        ({"image": np.array(["x"], dtype=object)}, "not a readable raster"),
    ],
)
def test_a_raster_that_is_not_of_the_program_is_refused(run, tmp_path, arrays, fact):
    copy = changed_raster(run, tmp_path / "run", **arrays)

    with pytest.raises(InvalidFile, match=rf"raster\.npz: .*{fact}"):
        render(copy)


def single_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b"no archive", single_array()])
def test_a_damaged_raster_is_refused(run, tmp_path, content):
    copy = with_metrics(run, tmp_path / "run", lambda metrics: None)
    (copy / "raster.npz").write_bytes(content)

    with pytest.raises(InvalidFile, match=r"raster\.npz: not a readable raster"):
        render(copy)


def test_a_raster_that_would_fill_the_memory_is_refused(run, tmp_path):
    copy = changed_raster(run, tmp_path / "run")
    with zipfile.ZipFile(copy / "raster.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("huge.npy", bytes(2**28))

    with pytest.raises(InvalidFile, match="too large"):
        render(copy)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InvalidFile, match="not a directory"):
        render(tmp_path / "nowhere")
    with pytest.raises(InvalidFile, match=r"metrics\.json"):
        render(tmp_path)


def test_the_report_is_written_and_its_path_returned(run, tmp_path, html):
    out = write_report(run, tmp_path / "report.html", force=False)

    assert out == tmp_path / "report.html"
    assert out.read_bytes() == html.encode()
    assert list(tmp_path.iterdir()) == [out]


def test_an_existing_report_is_replaced_only_by_force(run, tmp_path, html):
    out = tmp_path / "report.html"
    out.write_text("<!doctype html>mine")

    with pytest.raises(OutputExists, match="--force"):
        write_report(run, out, force=False)
    with pytest.raises(OutputExists):  # before any work, so also for a run that is not one
        write_report(tmp_path / "nowhere", out, force=False)
    assert out.read_text() == "<!doctype html>mine"

    write_report(run, out, force=True)
    assert out.read_text(encoding="utf-8") == html


def test_force_replaces_no_file_but_a_page(run, tmp_path):
    out = tmp_path / "metrics.json"
    out.write_text("precious")
    with pytest.raises(OutputExists, match="is no HTML page"):
        write_report(run, out, force=True)
    assert out.read_text() == "precious"


def test_a_refused_run_leaves_the_old_report_alone(run, tmp_path):
    copy = with_metrics(run, tmp_path / "run", lambda metrics: metrics.pop("model"))
    out = tmp_path / "report.html"
    out.write_text("<!doctype html>mine")

    with pytest.raises(InvalidFile, match="lacks 'model'"):
        write_report(copy, out, force=True)
    assert out.read_text() == "<!doctype html>mine"


def test_a_place_that_cannot_be_written_is_an_error(run, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CannotWrite, match="cannot write"):
        write_report(run, tmp_path / "file" / "report.html", force=False)
