"""The list of deliberate faults stays true: each still applies, and names a test that exists."""

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


def imported():
    """Return run.py as a module: it is a script beside this file, in no package."""
    spec = importlib.util.spec_from_file_location("mutants_run", RUN)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


run = imported()
FAULTS = {fault.name: fault for fault in run.load()}
QUICK = "zero-point-added"


def test_every_fault_has_its_own_name():
    assert len(FAULTS) == len(run.load()) >= 100


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_still_applies_and_its_test_exists(fault):
    assert (run.ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.new != fault.old
    path, _, test = fault.killed_by.partition("::")
    source = (run.ROOT / path).read_text()
    if test:
        assert re.search(rf"^def {re.escape(test.partition('[')[0])}\(", source, re.MULTILINE)


def test_a_quick_fault_is_killed():
    done = subprocess.run(
        [sys.executable, RUN, QUICK], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith(f"killed    {QUICK} "), done.stdout + done.stderr
    assert done.returncode == 0


def test_a_fault_that_changes_nothing_survives_and_one_without_a_test_is_not_called_killed(
    monkeypatch, capsys
):
    harmless = replace(FAULTS[QUICK], name="harmless", new="codes -= 1 * coding.zero_point")
    untested = replace(harmless, name="untested", killed_by="tests/unit/test_nothing.py")
    monkeypatch.setattr(run, "load", lambda: (harmless, untested))
    assert run.main([]) == 1
    words = [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert words == ["survived", "its test does not pass without it", "0 killed, 2 not"]


def test_a_fault_is_taken_out_again(tmp_path):
    fault = FAULTS[QUICK]
    path = tmp_path / fault.file
    path.parent.mkdir(parents=True)
    path.write_text(f"a\n{fault.old}\nb\n")
    before = (path.read_text(), path.stat().st_mtime_ns)
    with run.applied(fault, tmp_path):
        assert path.read_text() == f"a\n{fault.new}\nb\n"
    assert (path.read_text(), path.stat().st_mtime_ns) == before
