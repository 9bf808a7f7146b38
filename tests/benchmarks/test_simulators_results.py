"""The published comparison of simulators: tables, pictures, book-keeping, on made numbers."""

import importlib
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")

SPEED = {  # milliseconds for an image, made up
    "ours": 4.0,
    "twin": 120.0,
    "dense": 30.0,
    "spikingjelly": 45.0,
    "snntorch": 70.0,
    "norse": 80.0,
    "nengo-loihi": 900.0,
    "lava-stock": 300_000.0,
    "lava": 900.0,
    "lava-inproc": 400.0,
}


@pytest.fixture(scope="module")
def results():
    """Import docs/results/exact_simulator.py, a script that sets its own path."""
    before = list(sys.path)
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "results"))
    yield importlib.import_module("exact_simulator")
    sys.path[:] = before


def filled(results, plan, path):
    """Return a book in which everything of a plan is measured."""
    book = results.Book(path=path)
    peaks = {"int16": 2e11, "int8x4": 4e11, "float32": 1e11, "bits": 6e12}
    where = {"peaks": peaks, "load": 0.1, "time": "2026-01-02 03:04", "commit": "c", "cores": 2}
    where |= dict.fromkeys(("machine", "python", "torch", "numpy", "numba"), "known")
    kinds = [("compared", each, list(results.CONTENDERS)) for each in plan.compared]
    for name, settings in plan.sweeps.items():
        kinds += [(f"sweep/{name}", setting, ["ours", "dense"]) for setting in settings]
    for kind, setting, contenders in kinds:
        size = setting.width**2 * setting.steps / (64**2 * 8)
        for name in contenders:
            if setting.shape not in results.CONTENDERS[name].shapes:
                continue
            share = (1.0 - setting.sparsity) * 10 + 0.2 if name == "ours" else 1.0
            seconds = (SPEED[name] * 1e-3 * size * share * setting.samples,) * 3
            result = results.simulators.Result(
                contender=name,
                problem="",
                version="1.0",
                variant="some mode",
                samples=setting.samples,
                seconds=seconds,
                baseline=SPEED["dense"] * 1e-3 * size,
                memory=50_000_000,
            )
            record = {"result": results.simulators.as_json(result), "where": where}
            book.records[f"{kind}/{setting.name}/{name}"] = record
    for run in plan.lava:
        each = SPEED[run.contender] * 1e-3
        result = results.simulators_lava.LavaResult(
            contender=run.contender,
            problem="",
            samples=run.samples,
            steps=run.steps or 16,
            seconds=each * (run.steps or 16) / run.setting.steps,
            each=each,
            complete=run.steps is None,
            memory=10**9,
        )
        book.records[run.name] = {"result": results.asdict(result), "where": where}
    return book


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    """Write everything from made measurements; return the directory."""
    directory = tmp_path_factory.mktemp("results")
    plan = results.full()
    book = filled(results, plan, directory / "exact_simulator.json")
    results.write(plan, book, directory, directory)
    return directory


def test_the_tables_hold_every_contender_and_the_extrapolation_is_labelled(written):
    text = (written / "exact_simulator.md").read_text()
    head, *rows = text.partition("**VGG-16")[2].splitlines()[2:13]
    assert head == "|  | 0 % zero | 90 % zero | 95 % zero | 99 % zero |"
    found = {row.split("|")[1].strip(): row for row in rows[1:]}
    assert found["PyTorch dense"].count("30 (1 x)") == 4
    assert "300,000 (1/10,000 x)" in found["Lava"]
    assert "1 step timed (37.5 s) and multiplied by T; its spikes were not compared" in text
    assert "nengo-loihi emulator | 900" in text.partition("**small dense")[2]
    assert "| images at once | 1 | 4 | 16 | 64 | 128 |" in text


def test_pictures_are_drawings_with_a_point_for_every_number(results, written):
    space = "{http://www.w3.org/2000/svg}"
    bars = ElementTree.parse(written / "simulators.svg").getroot()
    tips = [title.text for title in bars.iter(f"{space}title")]
    assert sum("snnTorch" in tip for tip in tips) == 6  # four sparsities, two small networks
    assert "Lava, 90 % zero: 300,000 ms, 1/10,000 x dense PyTorch" in tips
    lines = ElementTree.parse(written / "simulator_scaling.svg").getroot()
    points = sum(len(settings) for settings in results.full().sweeps.values())
    tips = [title.text for title in lines.iter(f"{space}title")]
    assert len([tip for tip in tips if " ms" in tip]) == 2 * points


def test_text_around_the_markers_stays(results, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    expected = f"before\n{results.BEGIN}\n\nnew\n{results.END}\nafter\n"
    assert results._inserted(page, "new") == expected


def test_what_is_measured_is_not_measured_again(results, tmp_path, monkeypatch):
    plan = results.quick()
    book = filled(results, plan, tmp_path / "book.json")
    gone = f"compared/{plan.compared[0].name}/norse"
    book.records.pop(gone)
    asked = []

    def measure(setting, contenders, *, cores, repetitions):
        asked.append((setting, list(contenders)))
        return [results.simulators.Result(contender="norse", problem="it broke")]

    monkeypatch.setattr(results.simulators, "measure", measure)
    monkeypatch.setattr(results, "conditions", lambda cores: {})
    results.complete(plan, book, (0,))
    assert asked == [(plan.compared[0], ["norse"])]
    kept = json.loads((tmp_path / "book.json").read_text())["measurements"]
    assert kept[gone]["result"]["problem"] == "it broke"
    assert not book.done(gone)  # what broke is tried again at the next run


def test_again_forgets_what_it_names(results, tmp_path):
    book = filled(results, results.quick(), tmp_path / "book.json")
    book.keep("compared/x/ours", {"result": {"problem": ""}})
    kept = results.Book.open(tmp_path / "book.json", "lava/").records
    assert kept and not any("lava/" in name for name in kept)
    assert results.Book.open(tmp_path / "book.json", None).records.keys() == book.records.keys()
