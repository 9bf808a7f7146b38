"""The benchmark of threshold balancing runs, on a narrow network and few samples."""

import importlib.util
import sys
from pathlib import Path

import torch
from snnc.ir.graph import Granularity


def imported():
    """Return balance.py as a module: it is a script beside this file, in no package."""
    path = Path(__file__).with_name("balance.py")
    spec = importlib.util.spec_from_file_location("benchmark_balance", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


benchmark = imported()
FEW = benchmark.PAPERS.model_copy(update={"steps": 6, "batches": 2, "batch": 3})
CPU = torch.device("cpu")


def test_the_network_is_the_one_of_the_papers():
    spiking = benchmark.network(64, Granularity.NEURON)
    weights = [p for p in spiking.parameters() if p.dim() in (2, 4)]
    assert sum(p.numel() for p in weights) == 15_302_848
    assert sum(fire.threshold.numel() for fire in spiking.fires.values()) == 276_992
    assert len(spiking.fires) == 15


def test_the_benchmark_measures_what_it_says():
    shown = []
    cost = benchmark.measure(FEW, 4, Granularity.LAYER, CPU, shown.append)
    assert len(shown) == len(cost.thresholds) == 15
    assert all(value > 0.03 for value in cost.thresholds.values())
    # two batches of the first layer's 6 steps x 4096 neurons, and one of the second layer's
    assert cost.spikes == 9 * (6 * 4096) // 8
    assert cost.error == 0 and cost.seconds > 0 and cost.peak >= cost.before
    assert "2 batches of 3, T_c = 6" in benchmark.text(FEW, 4, cost)
