"""The comparison of simulators runs, on narrow networks; nothing here asserts on time.

Contenders that are not installed are left out by the benchmark itself, with the reason.
"""

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def benchmark_of():
    """Import simulators.py with the modules beside it: they are scripts, in no package."""
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("simulators")
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def networks(benchmark_of):
    return importlib.import_module("simulators_networks")


@pytest.fixture(scope="module")
def contenders(benchmark_of):
    return importlib.import_module("simulators_contenders")


def setting(networks, shape, *, width=4, sparsity=0.9, steps=8, samples=2):
    return networks.Setting(
        shape=networks.Shape(shape), width=width, sparsity=sparsity, steps=steps, samples=samples
    )


def installed(contenders, name):
    try:
        contenders.CONTENDERS[name].release()
    except contenders.Unavailable:
        return False
    return True


@pytest.mark.parametrize("shape", ["vgg16", "conv", "dense"])
def test_the_dense_baseline_computes_what_the_specification_says(networks, shape):
    from simulators_dense import Dense
    from snnc.ir.check_program import check_program
    from snnc.simulate import reference

    network = networks.draw(setting(networks, shape))
    images = networks.codes(network.setting, network.input_shape)
    program = networks.program(network)
    check_program(program)
    trace = reference.run(program, images, raster=True)
    kept = []
    logits = Dense(network, 1).run(images, kept)
    np.testing.assert_array_equal(logits, trace.logits)
    for number, layer in enumerate(trace.layers):
        counted = np.concatenate([part[number] for part in kept])
        expected = layer.raster.sum(axis=1).reshape(len(images), -1)
        np.testing.assert_array_equal(counted, expected, err_msg=layer.name)


def test_a_tenth_of_the_neurons_of_every_layer_spikes_at_each_step(networks):
    from simulators_dense import Dense

    network = networks.draw(setting(networks, "conv", width=16, samples=4))
    kept = []
    Dense(network, 4).run(networks.codes(network.setting, network.input_shape), kept)
    rates = [counted.mean() / network.setting.steps for counted in kept[0]]
    assert len(rates) == 3
    assert all(0.05 < rate < 0.15 for rate in rates), rates


def test_the_vgg16_is_the_one_of_the_papers(networks):
    network = networks.uncalibrated(setting(networks, "vgg16", width=64))
    weights = [stage.weight for stage in network.stages]
    assert sum(weight.size for weight in weights) == 15_302_848
    neurons = [int(np.prod(shape)) for stage, shape in network.maps() if stage.threshold]
    assert (len(neurons), sum(neurons)) == (15, 276_992)
    zero = sum(int((weight == 0).sum()) for weight in weights) / 15_302_848
    assert zero == pytest.approx(0.9, abs=1e-6)  # each layer rounds to whole weights


def test_updates_count_stored_weights_once_for_each_position_and_step(networks):
    network = networks.uncalibrated(setting(networks, "dense", width=4, sparsity=0.0))
    # 784-32-16-10; the first layer's input is the same at every step
    assert network.updates(stored=False) == 784 * 32 + 8 * (32 * 16 + 16 * 10)
    assert network.updates(stored=True) == network.updates(stored=False)


def test_a_saved_network_is_read_back(networks, tmp_path):
    network = networks.draw(setting(networks, "conv"))
    networks.save(network, tmp_path / "network.npz")
    again = networks.load(tmp_path / "network.npz")
    assert again.setting == network.setting and again.input_shape == network.input_shape
    for mine, read in zip(network.stages, again.stages, strict=True):
        assert (mine.threshold, mine.pool) == (read.threshold, read.pool)
        np.testing.assert_array_equal(mine.weight, read.weight)
        np.testing.assert_array_equal(mine.bias, read.bias)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of norse: torch.jit.script
@pytest.mark.parametrize("name", ["ours", "twin", "spikingjelly", "snntorch", "norse"])
def test_every_variant_of_a_contender_spikes_like_the_baseline(networks, contenders, name):
    if not installed(contenders, name):
        pytest.skip(f"{name} is not installed")
    network = networks.draw(setting(networks, "conv"))
    images = networks.codes(network.setting, network.input_shape)
    expected = _counted(
        contenders.CONTENDERS["dense"].variants["8 images at a time"](network), images
    )
    for variant, build in contenders.CONTENDERS[name].variants.items():
        found = _counted(build(network), images)
        assert len(found) == len(expected)
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=variant)


def _counted(run, images):
    kept = []
    logits = run(images, kept)
    np.testing.assert_array_equal(run(images, None), logits)
    return [np.concatenate(parts) for parts in zip(*kept, strict=True)] + [logits]


def test_nengo_loihi_spikes_like_the_baseline(networks, contenders):
    if not installed(contenders, "nengo-loihi"):
        pytest.skip("nengo-loihi is not installed")
    network = networks.draw(setting(networks, "dense"))
    images = networks.codes(network.setting, network.input_shape)
    (build,) = contenders.CONTENDERS["nengo-loihi"].variants.values()
    dense = contenders.CONTENDERS["dense"].variants["8 images at a time"]
    found, expected = _counted(build(network), images), _counted(dense(network), images)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_contenders_take_turns_and_the_absent_are_named(benchmark_of, contenders, networks):
    cores = benchmark_of.cores_here(1)
    chosen = setting(networks, "dense")
    results = benchmark_of.measure(chosen, ["ours", "nengo-loihi"], cores=cores, repetitions=2)
    ran = {result.contender: result for result in results}
    assert list(ran) == ["ours", "dense", "nengo-loihi"]
    for name in ("ours", "dense"):
        assert not ran[name].problem
        assert len(ran[name].seconds) == 2 and ran[name].samples == 2
        assert ran[name].baseline == ran["dense"].each
    if not installed(contenders, "nengo-loihi"):
        assert "nengo-loihi is not installed" in ran["nengo-loihi"].problem
    text = benchmark_of.table(chosen, results, {"int16": 1e9})
    assert "| snnc |" in text and "| PyTorch dense |" in text
    assert [benchmark_of.from_json(benchmark_of.as_json(r)) for r in results] == results


def test_other_spikes_are_no_result(benchmark_of):
    about = {"dense": {"spikes": ["a", "b"]}, "ours": {"spikes": ["a", "c"]}}
    with pytest.raises(benchmark_of.Disagreement, match="ours and dense differ in layer 2"):
        benchmark_of._same_spikes(about)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_peaks_are_measured(benchmark_of):
    found = importlib.import_module("simulators_peak").peaks(1)
    assert {"int16", "float32", "bits"} <= set(found)
    assert all(rate > 1e8 for rate in found.values())


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
@pytest.mark.parametrize("name", ["lava-stock", "lava-inproc"])
def test_lava_computes_the_logits_of_the_baseline(benchmark_of, networks, name):
    lava = importlib.import_module("simulators_lava")
    cores = benchmark_of.cores_here(1)
    result = lava.measure(setting(networks, "conv"), name, samples=2, steps=None, cores=cores)
    assert not result.problem and result.complete  # `measure` compares the logits
    assert result.steps == 8 and result.each > 0


def test_a_sparser_network_keeps_its_readout(networks):
    network = networks.uncalibrated(replace(setting(networks, "vgg16"), sparsity=0.99))
    assert (network.stages[0].weight != 0).all() and (network.stages[-1].weight != 0).all()
    assert (network.stages[5].weight == 0).mean() > 0.99
