"""What `snnc simulate` runs on which engine, and what it refuses, without Lava."""

from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidSetting, TargetFailed, UnknownName
from snnc.evaluate import execution
from snnc.ir.check_program import check_program
from snnc.ir.program import INPUT, Accumulator, FullyConnected, ImageInput, Program, Synapses
from snnc.ir.weights import Dense, integers
from snnc.simulate import reference
from snnc.targets import registry
from snnc.targets.api import Target
from snnc.targets.build import Build
from snnc.targets.outside import Manner, Outside, RunsOutside
from snnc.testing.programs import generate

PROGRAM, CODES = generate(3, samples=(5, 5))
NONE = {"workers": None, "timeout": None}


class Elsewhere(Target, RunsOutside):
    """Runs on the numpy simulator and notes how it was asked to; may change a spike."""

    name = "elsewhere"
    summary = "for tests"
    engines = {"lava": "the usual way", "inproc": "another"}

    def __init__(self, *, wrong=False):
        self.asked, self.wrong = [], wrong

    @property
    def numbers(self):
        raise AssertionError("asked when compiling, which nothing here does")

    def issues(self, program):
        return ()

    def emit(self, program, directory):
        return {}

    def execute(self, program, directory, codes, *, raster, progress=None):
        raise AssertionError("the manner of running was dropped")

    def execute_outside(self, program, directory, codes, *, manner, raster, progress=None):
        self.asked.append((manner, len(codes)))
        progress(len(codes), len(codes))
        trace = reference.run(program, codes, raster=raster)
        if self.wrong:
            changed = trace.layers[0].raster.copy()
            changed.flat[0] = not changed.flat[0]
            layers = (replace(trace.layers[0], raster=changed), *trace.layers[1:])
            trace = replace(trace, layers=layers)
        return trace, Outside(interpreter="Python 9", workers=manner.workers or 2)


def build(tmp_path, target="elsewhere"):
    return Build(
        directory=tmp_path,
        target=target,
        options={},
        program=PROGRAM,
        graph=None,
        mapping={},
        manifest={},
    )


@pytest.fixture
def elsewhere(monkeypatch):
    target = Elsewhere()
    monkeypatch.setattr(registry, "load", lambda name, options: target)
    return target


def silent(done, total):
    """Take progress and tell nobody."""


@pytest.mark.parametrize("engine", execution.HOST)
def test_host_simulators_refuse_what_they_would_ignore(engine, tmp_path):
    with pytest.raises(InvalidSetting, match=f"--workers has no effect on engine '{engine}'"):
        execution.execution(build(tmp_path), engine, workers=2, timeout=None)
    with pytest.raises(InvalidSetting, match="--workers and --timeout have no effect"):
        execution.execution(build(tmp_path), engine, workers=2, timeout=1.0)


def test_a_target_in_this_process_refuses_them_too(tmp_path):
    with pytest.raises(InvalidSetting, match="of target 'reference', which runs in this process"):
        execution.execution(build(tmp_path, "reference"), "target", workers=None, timeout=9.0)


@pytest.mark.parametrize("engine", execution.LAVA)
def test_lava_runs_no_builds_of_other_targets(engine, tmp_path):
    with pytest.raises(
        InvalidSetting, match="was made for 'reference', which does not run on Lava"
    ):
        execution.execution(build(tmp_path, "reference"), engine, **NONE)


def test_an_unknown_engine_gets_a_suggestion(tmp_path):
    with pytest.raises(UnknownName, match="no engine named 'inprog'; did you mean 'inproc'"):
        execution.execution(build(tmp_path), "inprog", **NONE)


@pytest.mark.parametrize(("engine", "runs"), [("inproc", "inproc"), ("target", "lava")])
def test_the_manner_reaches_the_target(engine, runs, elsewhere, tmp_path):
    run = execution.execution(build(tmp_path), engine, workers=3, timeout=7.0)
    ran = run(CODES, silent)
    assert elsewhere.asked == [(Manner(engine=runs, workers=3, timeout=7.0), 5)]
    assert ran.outside == Outside(interpreter="Python 9", workers=3)
    assert ran.agreement["samples"] == 5
    assert set(ran.agreement["layers"].values()) == {1.0}


def test_runs_are_compared_in_parts_that_bound_the_memory(elsewhere, tmp_path, monkeypatch):
    each = PROGRAM.steps * sum(layer.size for layer in PROGRAM.layers)
    monkeypatch.setattr(execution, "RASTER_BYTES", 2 * each)
    ran = execution.execution(build(tmp_path), "lava", **NONE)(CODES, silent)
    assert [samples for _, samples in elsewhere.asked] == [2, 2, 1]
    assert ran.trace.samples == 5
    assert all(layer.raster is None for layer in ran.trace.layers)
    np.testing.assert_array_equal(
        ran.trace.logits, reference.run(PROGRAM, CODES, raster=False).logits
    )


def test_without_numba_the_reference_is_numpys_a_sample_at_a_time(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_reference_name", lambda: "numpy")
    monkeypatch.setattr(execution, "REFERENCE_BYTES", 1)
    ran = execution.execution(build(tmp_path), "lava", **NONE)(CODES, silent)
    assert (ran.reference, ran.trace.samples) == ("numpy", 5)


def test_one_wrong_spike_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name, options: Elsewhere(wrong=True))
    run = execution.execution(build(tmp_path), "lava", **NONE)
    with pytest.raises(TargetFailed, match="layer0: sample 0, step 0, neuron 0"):
        run(CODES, silent)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [({"workers": 0}, "workers is 0"), ({"timeout": 0.0}, "timeout is 0 s; it must be above 0")],
)
def test_a_manner_without_sense_is_refused(wrong, problem):
    with pytest.raises(InvalidSetting, match=problem):
        Manner(**{"engine": "lava", **NONE, **wrong})


def test_a_readout_alone_runs_on_its_target_too(tmp_path):
    weight = Dense(integers([[1, -2], [3, 4]]))
    bundle = Synapses(name="out", source=INPUT, weight=weight, kind=FullyConnected())
    out = Accumulator(name="out", shape=(2,), synapses=(bundle,), bias=integers([0, 0]), scale=1.0)
    image = ImageInput(shape=(2,), levels=3, zero_point=integers([0, 0]))
    alone = Program(
        input=image, layers=(), readout=out, steps=2, class_names=("a", "b"), provenance={}
    )
    made = replace(build(tmp_path, "reference"), program=check_program(alone))
    ran = execution.execution(made, "target", **NONE)(integers([[1, 0], [0, 2], [3, 3]]), silent)
    assert ran.trace.logits.tolist() == [[2, 6], [-8, 16], [-6, 42]]
    assert (ran.agreement["samples"], ran.agreement["layers"]) == (3, {})
