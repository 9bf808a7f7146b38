"""Lava's models in one process compute what Lava's runtime computes, and the specification.

Many generated programs run in one interpreter that forks for each, because importing Lava takes
most of a second.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from snnc.errors import MissingDependency, TargetFailed, UnknownName
from snnc.semantics.network import specified
from snnc.targets.outside import Manner
from snnc.testing.conformance import agree
from snnc.testing.programs import generate
from snnc_targets.loihi import interpreter
from snnc_targets.loihi.interpreter import Places
from snnc_targets.loihi.runner import read_trace
from snnc_targets.loihi.target import TARGET

pytestmark = [pytest.mark.lava]

EACH = textwrap.dedent(
    """
    import json, os, runpy, sys
    import lava.magma.core.run_configs, lava.proc.lif.process  # imported once, for all

    for arguments in json.loads(sys.argv[1]):
        child = os.fork()
        if not child:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
        _, status = os.waitpid(child, 0)
        print("ended with", os.waitstatus_to_exitcode(status), flush=True)
    """
)


@pytest.fixture(autouse=True)
def logs_of_failed_runs_go_with_the_test(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def emitted(directory: Path, seed: int, target=TARGET):
    """Emit a generated program with codes for several samples."""
    program, codes = generate(seed, samples=(3, 5))
    build = directory / f"build{seed}"
    build.mkdir()
    target.emit(program, build)
    return program, build, codes


def run_each(python, cases, directory, *more):
    """Run every case's build; return where the results are."""
    places, commands = [], []
    for _, build, codes in cases:
        work = directory / f"results{''.join(more)}-{build.name}"
        work.mkdir()
        np.save(work / "codes.npy", codes)
        places.append(work)
        command = [build / "network.py", "--input", work / "codes.npy", "--output", work, *more]
        commands.append([str(word) for word in command])
    done = subprocess.run(
        [str(python), "-c", EACH, json.dumps(commands)],
        env=Places.here().child_environ() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("ended with 0") == len(cases), (
        done.stdout[-2000:] + done.stderr[-4000:]
    )
    return places


def legal(seeds, target=TARGET):
    return [seed for seed in seeds if not target.issues(generate(seed, samples=(3, 5))[0])]


def test_forty_programs_are_computed_in_process_as_specified(lava, tmp_path):
    cases = [emitted(tmp_path, seed) for seed in legal(range(1000, 1100))[:40]]
    assert len(cases) == 40
    results = run_each(lava, cases, tmp_path, "--in-process")
    for (program, build, codes), work in zip(cases, results, strict=True):
        agree(read_trace(program, build, work, codes, raster=True), specified(program, codes))


@pytest.mark.parametrize("image", ["bias", "graded"])
def test_images_enter_in_every_way_in_process(image, lava, tmp_path):
    target = TARGET.configured({"image": image})
    cases = [emitted(tmp_path, seed, target) for seed in legal(range(3000, 3100), target)[:5]]
    assert len(cases) == 5
    results = run_each(lava, cases, tmp_path, "--in-process")
    for (program, build, codes), work in zip(cases, results, strict=True):
        agree(read_trace(program, build, work, codes, raster=True), specified(program, codes))


def test_in_process_and_lavas_runtime_leave_the_same_files(lava, tmp_path):
    cases = [emitted(tmp_path, seed) for seed in legal(range(2000, 2040))[:6]]
    assert len(cases) == 6
    ours = run_each(lava, cases, tmp_path, "--in-process")
    theirs = run_each(lava, cases, tmp_path)
    for (program, _, _), here, there in zip(cases, ours, theirs, strict=True):
        names = {path.name for path in here.glob("*.npy")}
        assert len(names) >= len(program.layers) + 2  # spikes, logits, codes
        assert names == {path.name for path in there.glob("*.npy")}
        for name in names:
            assert (here / name).read_bytes() == (there / name).read_bytes()


REFUSALS = textwrap.dedent(
    """
    import sys
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from inproc import Failed, InProcess, Unable
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.models import PyDenseModelBitAcc
    from lava.proc.dense.process import Dense, LearningDense
    from lava.proc.io.source import RingBuffer
    from lava.proc.learning_rules.stdp_learning_rule import STDPLoihi
    from lava.proc.lif.process import LIF
    from lava.proc.monitor.process import Monitor

    def chain(dense=None):
        source = RingBuffer(data=np.ones((2, 9)))
        dense = dense or Dense(name="synapses", weights=np.ones((2, 2)))
        neurons = LIF(name="neurons", shape=(2,))
        source.s_out.connect(dense.s_in)
        dense.a_out.connect(neurons.a_in)
        return dense, neurons

    def circle():
        dense, neurons = chain()
        back = Dense(name="back", weights=np.ones((2, 2)))
        neurons.s_out.connect(back.s_in)
        back.a_out.connect(neurons.a_in)
        return neurons

    def learning():
        rule = STDPLoihi(
            learning_rate=1, A_plus=1, A_minus=-1, tau_plus=10, tau_minus=10, t_epoch=4
        )
        dense = LearningDense(name="plastic", weights=np.ones((2, 2)), learning_rule=rule)
        return chain(dense)[1]

    class Breaks(PyDenseModelBitAcc):
        def run_spk(self):
            if self.time_step == 3:
                raise ZeroDivisionError("on purpose")
            super().run_spk()

    def failing():
        broken = {Dense: Breaks}
        settings = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=broken)
        InProcess(chain()[1], settings).run(5)

    for case in (circle, learning):
        try:
            InProcess(case(), Loihi2SimCfg(select_tag="fixed_pt"))
        except Unable as error:
            print(f"{case.__name__}: {error}")
    try:
        failing()
    except Failed as error:
        print(f"failing: {error}; {type(error.__cause__).__name__}")
    """
)
STATES = textwrap.dedent(
    """
    import sys
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from inproc import InProcess
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.dataloader import StateDataloader
    from lava.proc.io.sink import RingBuffer
    from lava.proc.lif.process import LIF

    def network():
        samples = [(np.array([[3, 9, 0], [5, 1, 2]][i % 2]), i) for i in range(4)]
        loader = StateDataloader(dataset=samples, interval=4, offset=0)
        neurons = LIF(shape=(3,), du=4095, dv=0, vth=10, bias_exp=6)
        loader.connect_var(neurons.bias_mant)
        record = RingBuffer(shape=(3,), buffer=16)
        neurons.s_out.connect(record.a_in)
        return neurons, record

    settings = Loihi2SimCfg(select_tag="fixed_pt")
    neurons, record = network()
    here = InProcess(neurons, settings)
    here.run(7)
    here.run(9)
    ours = here.variable(record.data)
    neurons, record = network()
    neurons.create_runtime(run_cfg=settings)
    neurons.run(RunSteps(num_steps=16))
    theirs = record.data.get()
    neurons.stop()
    print(ours.sum() > 5, (ours == theirs).all())
    """
)


def in_lava(python, script):
    """Run a script that finds the template's modules; return the lines it printed."""
    template = Path(interpreter.__file__).parent / "template"
    done = subprocess.run(
        [str(python), "-c", script, str(template)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_needs_lavas_runtime_is_refused_by_name_and_failures_are_told(lava):
    circle, learning, failing = in_lava(lava, REFUSALS)
    assert circle == (
        "circle: spikes run in a circle through back, neurons; run it on Lava's runtime"
    )
    assert learning == "learning: plastic (LearningDense) learns; run it on Lava's runtime"
    assert failing == (
        "failing: synapses (Breaks) failed at step 3: ZeroDivisionError: on purpose; "
        "ZeroDivisionError"
    )


def test_variables_that_another_process_writes_are_written_in_time(lava):
    assert in_lava(lava, STATES) == ["True True"]


def execute(build, program, codes, **how):
    manner = Manner(**({"engine": "inproc", "workers": None, "timeout": None} | how))
    return TARGET.execute_outside(program, build, codes, manner=manner, raster=True)


def test_the_number_of_workers_changes_nothing(lava, tmp_path):
    (seed,) = legal(range(30, 40))[:1]
    program, build, codes = emitted(tmp_path, seed)
    many = np.concatenate([codes] * 3)
    seen: list[tuple[int, int]] = []
    manner = Manner(engine="inproc", workers=3, timeout=60.0)
    trace, outside = TARGET.execute_outside(
        program,
        build,
        many,
        manner=manner,
        raster=True,
        progress=lambda *done: seen.append(done),
    )
    agree(trace, specified(program, many))
    assert outside.workers == 3
    assert "Python 3.10" in outside.interpreter
    assert seen == sorted(seen)
    assert seen[-1] == (len(many), len(many))


def test_a_model_that_fails_is_one_error_with_its_own_words(lava, tmp_path):
    (seed,) = legal(range(40, 60))[:1]
    program, build, codes = emitted(tmp_path, seed)
    processes = build / "procs" / "snnc_processes.py"
    broken = processes.read_text().replace("np.packbits(spikes != 0)", "np.packbits(no_such_name)")
    assert broken != processes.read_text()
    processes.write_text(broken)
    with pytest.raises(
        TargetFailed, match=r"record .* failed at step \d+: NameError.*no_such_name"
    ):
        execute(build, program, codes, workers=2)


def test_changed_weights_are_refused(lava, tmp_path):
    (seed,) = legal(range(60, 80))[:1]
    program, build, codes = emitted(tmp_path, seed)
    weights = bytearray((build / "weights.npz").read_bytes())
    weights[-100] ^= 1
    (build / "weights.npz").write_bytes(weights)
    with pytest.raises(TargetFailed, match=r"weights.npz is not the file that was compiled"):
        execute(build, program, codes)


def test_an_unknown_engine_gets_a_suggestion(tmp_path):
    program, build, codes = emitted(tmp_path, *legal(range(1, 9))[:1])
    with pytest.raises(UnknownName, match="no engine named 'inprog'; did you mean 'inproc'"):
        execute(build, program, codes, engine="inprog")


def test_a_newer_python_with_lava_runs_the_models_too(tmp_path):
    python = Path(os.environ.get("SNNC_NEWER_LAVA_PYTHON", sys.executable))
    nowhere = Places(environ={"PATH": ""}, home=tmp_path / "home", this=None, newer=python)
    try:
        newer = interpreter.find_for_models(nowhere)
    except MissingDependency as missing:
        if "SNNC_NEWER_LAVA_PYTHON" in os.environ:  # as CI sets it: then it has to be there
            raise
        pytest.skip(str(missing).splitlines()[-1])
    assert newer.version > (3, 10)
    (seed,) = legal(range(80, 99))[:1]
    program, build, codes = emitted(tmp_path, seed)
    work = tmp_path / "work"
    work.mkdir()
    np.save(work / "codes.npy", codes)
    files = ["--input", str(work / "codes.npy"), "--output", str(work)]
    command = [*newer.command, str(build / "network.py"), *files, "--in-process"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    agree(read_trace(program, build, work, codes, raster=True), specified(program, codes))
