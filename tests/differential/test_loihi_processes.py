"""Whatever happens to a run on Lava, one clear error says it, and nothing is left behind.

Each test disturbs a run that would take many minutes.
"""

import os
import re
import signal
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.lava,
    pytest.mark.usefixtures("lava"),
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc"),
]

NOTHING: tuple[list[int], set[str]] = ([], set())


def test_lavas_memory_has_no_name_that_could_stay(start):
    run = start()
    children = run.wait_until_it_steps()
    assert len(children) > 5  # Lava's processes, which talk to one another
    assert run.mapped == set()


def test_a_killed_lava_process_is_reported_and_leaves_nothing(start):
    run = start()
    os.kill(run.wait_until_it_steps()[-1], signal.SIGKILL)
    printed = run.finish()
    assert "Lava did not finish: a Lava process ended with SIGKILL" in printed
    assert run.left() == NOTHING
    (directory, log) = run.files_left()
    assert log == f"{directory}/log.txt"
    assert f"the log is {run.temporary / log}" in printed


def test_a_killed_worker_ends_the_others_and_is_named(start):
    run = start(workers=2, samples=4)
    workers = [
        child
        for child in run.wait_until_it_steps()
        if f"PPid:\t{run.parent.pid}" in Path(f"/proc/{child}/status").read_text()
    ]
    os.kill(workers[1], signal.SIGKILL)
    assert re.search(
        "Lava did not finish samples (0 to 1|2 to 3): it ended with SIGKILL", run.finish()
    )
    assert run.left() == NOTHING
    assert len(run.files_left()) == 2  # one directory with its log


def test_ctrl_c_in_the_parent_leaves_nothing(start):
    run = start()
    run.wait_until_it_steps()
    run.parent.send_signal(signal.SIGINT)
    run.finish()
    assert run.parent.returncode == -signal.SIGINT  # Python's own ending after Ctrl-C
    assert run.children() == []  # gone before snnc is, not some time later
    assert run.left() == NOTHING
    assert run.files_left() == []


def test_a_terminated_parent_cleans_up_and_then_ends_as_it_would_have(start):
    run = start(workers=2, samples=4)
    run.wait_until_it_steps()
    run.parent.terminate()
    run.finish()
    assert run.parent.returncode == -signal.SIGTERM
    assert run.children() == []
    assert run.left() == NOTHING
    assert run.files_left() == []


def test_a_parent_that_dies_without_a_word_takes_lava_and_its_files_along(start):
    run = start()
    run.wait_until_it_steps()
    run.parent.kill()
    run.finish()
    assert run.left() == NOTHING
    assert run.files_left() == []


def test_a_program_that_dies_without_a_word_takes_its_processes_along(start):
    run = start()
    children = run.wait_until_it_steps()
    leader = next(c for c in children if os.getpgid(c) == c)
    os.kill(run.parent.pid, signal.SIGSTOP)  # it cannot help
    os.kill(leader, signal.SIGKILL)
    assert run.left(beside=(run.parent.pid,)) == NOTHING
    os.kill(run.parent.pid, signal.SIGCONT)
    assert "Lava did not finish: it ended with SIGKILL" in run.finish()
    assert run.left() == NOTHING


def test_a_run_without_progress_ends_and_leaves_nothing(start):
    run = start(timeout=4.0)
    run.wait_until_it_steps()
    assert "it finished no sample within 4 s (after 0 of 1)" in run.finish()
    assert run.left() == NOTHING


def test_a_stopped_lava_process_does_not_survive_the_end(start):
    run = start()
    os.kill(run.wait_until_it_steps()[-1], signal.SIGSTOP)
    run.parent.send_signal(signal.SIGINT)
    run.finish()
    assert run.left() == NOTHING
