"""Programs side by side: order, progress, failures and clean-up, with small stand-ins for Lava."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
from snnc.errors import TargetFailed
from snnc_targets.loihi import pool
from snnc_targets.loihi.interruptions import held
from snnc_targets.loihi.pool import Job, Pool

STATUS = """
import json, os, sys, time
from pathlib import Path
def status(**facts):
    Path("part").write_text(json.dumps({"state": "running", "done": 0} | facts))
    Path("part").replace("status.json")
"""
DONE = "status(state='done', done=2); Path('result').write_text(sys.argv[1])"


def job(script, name="", word=""):
    def prepare(work):
        return [sys.executable, "-c", STATUS + script, word]

    read = lambda work: (work / "result").read_text()
    return Job(name=name, samples=2, prepare=prepare, read=read)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run jobs with a temporary directory of their own; return what `Pool.run` does."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def one(jobs, *, workers=2, stall=60.0, progress=lambda done: None):
        return Pool(workers=workers, environ=dict(os.environ), stall=stall).run(jobs, progress)

    return one


def test_results_come_in_the_order_of_the_jobs(run, tmp_path):
    late = job("time.sleep(0.4);" + DONE, word="first")
    jobs = [late, job(DONE, word="second"), job(DONE, word="third")]
    seen = []
    assert run(jobs, progress=seen.append) == ["first", "second", "third"]
    assert seen == sorted(seen)
    assert seen[-1] == 6
    assert list(tmp_path.iterdir()) == []


def test_no_more_run_at_once_than_workers(run, tmp_path):
    mark = tmp_path / "running"
    alone = f"os.mkdir({str(mark)!r}); time.sleep(0.1); os.rmdir({str(mark)!r});"  # fails if there
    assert run([job(alone + DONE)] * 3, workers=1) == ["", "", ""]
    with pytest.raises(TargetFailed, match="FileExistsError"):
        run([job(alone + DONE)] * 3, workers=3)


def test_the_first_failure_ends_all_and_leaves_its_log_only(run, tmp_path):
    failing = job("print('words'); status(state='failed', problem='on purpose')", "samples 2 to 3")
    began = time.monotonic()
    with pytest.raises(TargetFailed) as told:
        run([job("time.sleep(600)"), failing])
    assert time.monotonic() - began < 60
    (log,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert str(told.value) == (f"Lava did not finish samples 2 to 3: on purpose\nthe log is {log}")
    assert log.read_text() == "words\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sys.exit('some words')", "it ended with exit status 1: some words"),
        ("os._exit(0)", "it ended with exit status 0: it printed nothing"),
        ("os.kill(os.getpid(), 9)", "it ended with SIGKILL: it printed nothing"),
        ("time.sleep(600)", r"it finished no sample within 0.5 s \(after 0 of 2\)"),
        ("status(done=1); time.sleep(600)", r"within 0.5 s \(after 1 of 2\)"),
        ("status(state='done', done=2)", "its results cannot be read: .*No such file"),
    ],
)
def test_every_end_has_words(run, script, reason):
    with pytest.raises(TargetFailed, match=f"Lava did not finish: .*{reason}"):
        run([job(script)], stall=0.5)


def test_a_full_disk_is_named(run, monkeypatch):
    monkeypatch.setattr(pool, "LITTLE", 1 << 62)  # no disk has as much
    with pytest.raises(TargetFailed, match="the disk of .* is full"):
        run([job("sys.exit(1)")])


def test_a_program_that_cannot_be_started_leaves_no_directory(run, tmp_path):
    absent = Job(name="", samples=1, prepare=lambda work: ["/nowhere/python"], read=str)
    with pytest.raises(TargetFailed, match="Lava did not start: .*No such file"):
        run([absent])
    assert list(tmp_path.iterdir()) == []


def test_what_a_program_started_ends_with_it(run):
    child = "import subprocess; p = subprocess.Popen(['sleep', '600']);"
    (pid,) = run([job(child + "status(state='done'); Path('result').write_text(str(p.pid))")])
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True)
    assert state.stdout.strip() in ("", "Z")  # gone, or only waiting for init to notice


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_then_acts(number, tmp_path):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["TMPDIR"] = str(tmp_path)
        import tempfile

        tempfile.tempdir = None
        threading.Timer(0.7, partial(os.kill, os.getpid(), number)).start()
        try:
            Pool(workers=2, environ=dict(os.environ), stall=60.0).run(
                [job("time.sleep(600)")] * 2, lambda done: None
            )
        except KeyboardInterrupt:
            os._exit(77)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (77 if number == signal.SIGINT else -number)
    assert list(tmp_path.iterdir()) == []


def test_signals_wait_while_they_are_held_and_come_afterwards():
    steps = []
    with pytest.raises(KeyboardInterrupt):  # after the inner one
        with held() as interruptions:
            signal.raise_signal(signal.SIGINT)
            steps.append("undisturbed")
            interruptions.check()
            steps.append("never")
    assert steps == ["undisturbed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_is_let_through_where_that_is_safe():
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with held() as interruptions, interruptions.let_through():
            signal.raise_signal(signal.SIGINT)
            steps.append("never")
    assert steps == []


def test_handlers_of_an_application_stay_its_own():
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append("application"))
    try:
        with held() as interruptions:
            signal.raise_signal(signal.SIGINT)
            interruptions.check()
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == ["application"]


def test_another_thread_runs_without_touching_signals(run):
    results = []
    thread = threading.Thread(target=lambda: results.extend(run([job(DONE, word="x")])))
    thread.start()
    thread.join()
    assert results == ["x"]
