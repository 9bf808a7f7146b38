"""The benchmark of the exact simulator, on a network narrow enough for a test run."""

import sys
from pathlib import Path

import numpy as np
import pytest
from snnc.simulate import fast, reference

WIDTH, FEW = 4, 3  # channels of the first layer, samples


@pytest.fixture(scope="module")
def fast_simulator():
    """Return the script as a module: it and its programs are files beside this one."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import fast_simulator
    finally:
        sys.path.pop(0)
    return fast_simulator


@pytest.fixture(scope="module", params=[0.0, 0.9])
def case(request, fast_simulator):
    return fast_simulator.vgg16_program(request.param, 8, 0, width=WIDTH, samples=FEW)


def test_the_program_has_the_activity_and_the_sparsity_it_claims(fast_simulator):
    program, _, codes = fast_simulator.vgg16_program(0.9, 8, 0, width=16, samples=8)
    trace = fast.run(program, codes, raster=False)
    rates = [layer.spikes.mean() / layer.neurons for layer in trace.layers]
    assert 0.05 < np.mean(rates) < 0.15 and min(rates) > 0.02
    stored = program.layers[6].synapses[0].weight
    assert len(stored.data) / np.prod(stored.shape) == pytest.approx(0.1, abs=0.01)


def test_pytorch_and_both_simulators_give_the_same_logits(case):
    import torch

    program, network, codes = case
    want = reference.run(program, codes, raster=False).logits
    np.testing.assert_array_equal(fast.run(program, codes, raster=False).logits, want)
    np.testing.assert_array_equal(network(torch.tensor(codes)).numpy(), want)


def test_a_measurement_makes_a_table(fast_simulator, case):
    program, network, codes = case
    row = fast_simulator.measured("tiny", program, network, codes, dense=2, rounds=1)
    assert row.updates == FEW * fast_simulator.updates(program)
    assert 0 < row.events < row.updates
    assert "tiny" in fast_simulator.table([row], 1e9)


def test_the_simulator(benchmark, fast_simulator):
    program, _, codes = fast_simulator.vgg16_program(0.9, 8, 0, width=WIDTH, samples=FEW)
    prepared = fast.prepare(program, FEW)
    trace = benchmark(prepared.run, codes, raster=False, counts=False)
    assert trace.logits.shape == (FEW, 10)
