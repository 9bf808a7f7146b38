"""The benchmark of a finetuning step measures what it says; nothing here asserts on time."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from snnc.learn.neurons import Fire
from torch import nn


def imported():
    """Return finetune_step.py as a module: it is a script beside this file, in no package."""
    path = Path(__file__).with_name("finetune_step.py")
    spec = importlib.util.spec_from_file_location("benchmark_finetune_step", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


benchmark_of = imported()


def test_the_vgg16_has_the_published_size():
    network = benchmark_of.vgg16()
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum(weight.numel() for weight in weights) == 15_302_848
    neurons = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _m, _x, y: neurons.append(y.numel()))
    network(torch.zeros(1, 3, 32, 32))
    assert (len(neurons), sum(neurons)) == (15, 276_992)


def test_baseline_and_ours_take_the_same_step():
    assert benchmark_of.agreed("small")


def test_a_step_changes_weights_under_the_mask_and_thresholds():
    network, step = benchmark_of.our_step(benchmark_of.sparse(benchmark_of.small(), seed=0))
    before = {name: value.clone() for name, value in network.named_parameters()}
    step(*benchmark_of.batch("small", 4), torch.Generator().manual_seed(0))
    for name, value in network.named_parameters():
        zero = before[name] == 0
        assert not torch.equal(value, before[name]), name
        if "weight" in name and value.dim() > 1:
            assert zero.any() and torch.equal(value == 0, zero)
    assert sum(isinstance(module, Fire) for module in network.modules()) == 3


@pytest.mark.parametrize("variant", benchmark_of.VARIANTS)
def test_every_variant_takes_a_step(benchmark, variant):
    _, step = benchmark_of.VARIANTS[variant](benchmark_of.sparse(benchmark_of.small(), seed=0))
    images, labels = benchmark_of.batch("small", 4 if benchmark.disabled else 64)
    loss = benchmark(step, images, labels, torch.Generator().manual_seed(0))
    assert 1 < loss < 5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_a_step_of_more_images_needs_more_memory():
    few, many = (benchmark_of.memory("small", size, "published") for size in (1, 128))
    assert 0 <= few < many


def test_the_table_names_the_ratio_to_the_baseline():
    rows = [
        benchmark_of.Row(variant=name, seconds=seconds, first_loss=2.0, megabytes=1.0)
        for name, seconds in (("published", 3.0), ("snnc", 1.5))
    ]
    assert "| snnc | 1.500 | 2.00 x |" in benchmark_of.table(rows, markdown=True)
