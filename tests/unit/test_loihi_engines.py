"""How many workers a run gets, and which interpreters its engines want."""

import os

import pytest
from snnc.targets.outside import Manner
from snnc.testing.programs import generate
from snnc_targets.loihi import engines, interpreter
from snnc_targets.loihi.runner import Runner
from snnc_targets.loihi.target import TARGET


@pytest.mark.parametrize(
    ("engine", "samples", "workers"),
    [
        ("inproc", 1, 1),
        ("inproc", 63, 1),
        ("inproc", 64, 2),
        ("inproc", 10_000, 6),
        ("lava", 64, 2),
        ("lava", 10_000, 3),
    ],
)
def test_workers_follow_the_cores_and_the_samples(engine, samples, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert engines.workers_for(engine, samples) == workers


def test_one_core_has_one_worker(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert engines.workers_for("lava", 10_000) == 1


def test_the_target_offers_both_engines_and_lava_first():
    assert list(TARGET.engines) == ["lava", "inproc"]


@pytest.mark.parametrize(
    ("asked", "started"),
    [(1, 1), (4, 3), (5, 5), (9, 5)],  # four workers would get two samples each: three suffice
)
def test_a_run_names_the_workers_that_it_started(asked, started, monkeypatch, tmp_path):
    program, codes = generate(3, samples=(5, 5))
    monkeypatch.setattr(interpreter, "find", lambda places: tmp_path)
    monkeypatch.setattr(Runner, "run", lambda self, *_, **__: "trace")
    manner = Manner(engine="lava", workers=asked, timeout=None)
    _, outside = engines.execute(
        program, tmp_path, codes, manner=manner, raster=False, progress=None
    )
    assert outside.workers == started
