"""How many workers a run gets, and which interpreters its engines want."""

import os

import pytest
from snnc_targets.loihi import TARGET, engines


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
