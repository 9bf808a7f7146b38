"""The benchmark of the compiler compiles, measures, and says when it does not."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).with_name("compile_vgg16.py")))


def test_a_narrow_network_is_compiled_and_measured(capsys):
    SCRIPT["main"](["--width", "2", "--sparsity", "0.9", "--target", "reference"])
    share, target, seconds, gigabytes = capsys.readouterr().out.splitlines()[-1].split("|")[1:-1]
    assert (share.strip(), target.strip()) == ("90 %", "reference")
    assert 0 < float(seconds) and 0.01 < float(gigabytes) < 10


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="ended with 3"):
        SCRIPT["measure"]([sys.executable, "-c", "raise SystemExit(3)"])
