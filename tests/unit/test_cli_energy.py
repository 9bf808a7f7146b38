"""snnc energy: what a build costs, as far as its target is there to say."""

import json
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from click.testing import CliRunner
from snnc.cli import energy as energy_command
from snnc.cli.energy import energy
from snnc.data.dataset import Split
from snnc.ir.check_program import check_program
from snnc.ir.graph import Reset
from snnc.ir.program import (
    INPUT,
    FullyConnected,
    ImageInput,
    Layer,
    Program,
    SpikeCount,
    Synapses,
)
from snnc.ir.weights import Dense, integers
from snnc.targets import registry
from snnc.targets.build import write_build
from snnc_targets.loihi.loihi1 import TARGET as LOIHI1

PLACE = EntryPoint("loihi1", "snnc_targets.loihi.loihi1:TARGET", registry.GROUP)


def layer(name, source, weight):
    values = Dense(integers(weight))
    bundle = Synapses(name=f"{name}.w", source=source, weight=values, kind=FullyConnected())
    return Layer(
        name=name,
        shape=(len(weight),),
        synapses=(bundle,),
        bias=integers([0] * len(weight)),
        threshold=641,
        decay=0,
        reset=Reset.ZERO,
        scale=1.0,
    )


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Two layers for loihi1, and a data set that they read."""
    net = Program(
        input=ImageInput(shape=(2,), levels=15, zero_point=integers([0, 0])),
        layers=(layer("a", INPUT, [[9, 1], [1, 9]]), layer("b", "a", [[9, 0], [0, 9]])),
        readout=SpikeCount(),
        steps=4,
        class_names=("left", "right"),
    )
    write_build(tmp_path / "build", LOIHI1, check_program(net), None, force=False)
    pixels = np.array([[255, 0], [0, 255], [90, 20]], dtype=np.uint8)
    split = Split(pixels=pixels, white=255, labels=np.array([0, 1, 0]))
    monkeypatch.setattr(energy_command, "load_split", lambda name, **_: split)
    return tmp_path / "build"


def call(build):
    arguments = [str(build), "--profile", "loihi1-davies2018", "--json"]
    result = CliRunner().invoke(energy, arguments, catch_exceptions=False)
    found = json.loads(result.stdout)
    unpriced = [each["quantity"] for each in found["estimates"][0]["unpriced"]]
    return found["counts"], unpriced, result.stderr


def test_the_target_of_a_build_says_how_far_spikes_travel(build, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [PLACE])
    counts, unpriced, said = call(build)
    assert counts["routing"] == {"hops_ew": 0.0, "hops_ns": 0.0}  # one tile holds all
    assert not any("hops" in each for each in unpriced)
    assert said == ""


def test_a_build_is_priced_without_its_target_but_for_the_hops(build, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [])
    counts, unpriced, said = call(build)
    assert counts["routing"] is None
    assert any("hops" in each for each in unpriced)
    assert said == (
        "target 'loihi1' is not installed: hops stay unknown, and synapses are counted as the "
        "program stores them\n"
    )
