"""What `snnc.compile` and `snnc.run` are told beside the network, the target and the images."""

import numpy as np
import pytest
import snnc
import torch
from snnc.attack.deployed import Deployed, fast_judge
from snnc.errors import InvalidSetting, UnknownName
from snnc.ir.graph import Granularity, Reset
from snnc.ir.store import program_bytes
from snnc.ir.weights import unpack
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE
from snnc.passes.numbers import Bits
from snnc.semantics.encode import encode
from snnc.simulate import reference
from snnc_models.small import small_conv

SHAPE = (1, 4, 4)


def spiking():
    torch.manual_seed(0)
    return to_spiking(
        small_conv(channels=[3, 4], pool_after=[1], size=4, classes=3).eval(),
        input_shape=SHAPE,
        steps=4,
        reset=Reset.ZERO,
        keep=1.0,
        granularity=Granularity.LAYER,
        surrogate=TRIANGLE,
    ).eval()


def images(count):
    return np.random.default_rng(0).random((count, *SHAPE), dtype=np.float32)


def largest(program):
    """Return the largest mantissa of each layer."""
    weights = {p.name: unpack(p.synapses[0].weight) for p in program.populations}
    return {
        name: int(np.abs(each).max() // np.gcd.reduce(each, axis=None))
        for name, each in weights.items()
    }


def test_bits_make_weights_narrower_everywhere_or_by_layer():
    whole = largest(snnc.compile(spiking(), target="reference"))
    narrow = largest(snnc.compile(spiking(), target="reference", bits=4))
    assert max(whole.values()) > 7 >= max(narrow.values())
    first = next(iter(whole))
    mixed = largest(
        snnc.compile(spiking(), target="reference", bits=Bits(others=4, layers={first: 8}))
    )
    assert mixed == {**narrow, first: whole[first]}


def test_calibration_images_choose_the_scales():
    plain = snnc.compile(spiking(), target="reference", bits=3)
    fitted = snnc.compile(spiking(), target="reference", bits=3, calibration=images(16))
    assert program_bytes(plain) != program_bytes(fitted)
    with pytest.raises(InvalidSetting, match="two images or more"):
        snnc.compile(spiking(), target="reference", calibration=images(0))


def test_options_reach_the_target_and_its_build(tmp_path):
    directory = tmp_path / "build"
    snnc.compile(spiking(), target="loihi", options={"image": "bias"}, directory=directory)
    assert snnc.load_build(directory).options["image"] == "bias"
    with pytest.raises(UnknownName, match="option of target 'reference' named 'image'"):
        snnc.compile(spiking(), target="reference", options={"image": "bias"})


@pytest.mark.parametrize("engine", ["lava", "inproc"])
def test_lava_runs_builds_for_loihi_and_nothing_else(tmp_path, engine):
    program = snnc.compile(spiking(), target="reference", directory=tmp_path / "build")
    with pytest.raises(InvalidSetting, match="runs the files of a build; load one"):
        snnc.run(program, images(1), engine=engine)
    with pytest.raises(InvalidSetting, match="made for 'reference'; engine .* runs builds for loi"):
        snnc.run(snnc.load_build(tmp_path / "build"), images(1), engine=engine)


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
@pytest.mark.parametrize("engine", ["lava", "inproc"])
def test_both_engines_of_lava_run_a_build_for_loihi(tmp_path, engine):
    program = snnc.compile(spiking(), target="loihi", directory=tmp_path / "build")
    build = snnc.load_build(tmp_path / "build")
    trace = snnc.run(build, images(2), engine=engine, raster=True)
    expected = snnc.run(program, images(2), engine="numpy", raster=True)
    np.testing.assert_array_equal(trace.logits, expected.logits)
    for layer, wanted in zip(trace.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(layer.raster, wanted.raster)


def test_the_fast_judge_names_the_classes_of_the_reference():
    program = snnc.compile(spiking(), target="reference")
    x = torch.from_numpy(images(9))
    fast, slow = (Deployed(program=program, engine=e) for e in (fast_judge, reference.run))
    assert torch.equal(fast.predict(x), slow.predict(x))
    codes = encode(program.input, images(9))
    assert fast_judge(program, codes, raster=False).layers == ()
