"""Without an optional package a command says which extra has it."""

import subprocess
import sys

import pytest
from snnc.cli import OPTIONAL

WITHOUT = """
import sys
sys.modules[{module!r}] = None  # importing it now fails as if it were not there
from snnc.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(module, *arguments):
    script = WITHOUT.format(module=module)
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", ["torch", "pydantic"])
def test_a_missing_package_is_one_sentence_with_its_extra(module, tmp_path):
    done = run(module, "train", "digits", "-o", str(tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr.startswith("snnc: error: this needs ")
    assert f"pip install 'snnc[{OPTIONAL[module]}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_module_of_ours_is_a_fault_with_its_traceback(tmp_path):
    done = run("snnc.learn.run", "train", "digits", "-o", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
