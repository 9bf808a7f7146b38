"""Benchmarks, switched on by --benchmark-enable; without it each runs once, on few samples.

Nothing here asserts on time; what is asserted is that the thing timed did its work.
`engines.py` prints the ratios of all engines in one table.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FEW, MANY = 4, 360  # samples: in a test run, in a measurement (the digits' test split)
FEW_LAVA, MANY_LAVA = 2, 8


def imported():
    """Return engines.py as a module: it is a script beside this file, in no package."""
    path = Path(__file__).with_name("engines.py")
    spec = importlib.util.spec_from_file_location("benchmark_engines", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


engines = imported()


@pytest.fixture(scope="module")
def program():
    return engines.program()


def test_the_network_has_the_size_the_sparsity_and_the_activity_it_claims(program):
    trace = engines.run_numpy(program, engines.codes(20))
    neurons = [layer.size for layer in program.layers]
    assert neurons == [32 * 64, 64 * 16, 64 * 16]
    for layer in trace.layers:
        rate = layer.spikes.mean() / layer.neurons
        assert 0.03 < rate < 0.4, layer.name


@pytest.mark.parametrize("name", engines.HOST)
def test_an_engine_of_the_host(benchmark, program, name):
    codes = engines.codes(FEW if benchmark.disabled else MANY)
    trace = benchmark(engines.HOST[name], program, codes)
    np.testing.assert_array_equal(trace.logits, engines.run_numpy(program, codes).logits)


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_lava(benchmark, program):
    codes = engines.codes(FEW_LAVA if benchmark.disabled else MANY_LAVA)
    trace = benchmark.pedantic(engines.run_lava, (program, codes), rounds=1)
    np.testing.assert_array_equal(trace.logits, engines.run_numpy(program, codes).logits)


def test_the_help_of_the_command_line(benchmark):
    def start():
        command = [sys.executable, "-m", "snnc", "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    assert "Start with: snnc demo" in benchmark(start).stdout
