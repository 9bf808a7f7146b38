"""Netx files become programs, integer for integer, or one error that lists every reason."""

import shutil
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from snnc.errors import InvalidFile, Unsupported
from snnc.frontend.netx.file import read_contents
from snnc.frontend.netx.limits import largest_current
from snnc.frontend.netx.load import FROM_FILE, read_netx
from snnc.frontend.netx.notes import Readout
from snnc.frontend.netx.synapses import delivered
from snnc.ir.program import Accumulator, Convolution, SpikeCount
from snnc.ir.rules import Broken
from snnc.ir.weights import Csr, unpack
from snnc.semantics.encode import encode
from snnc.simulate import reference

NEURON = {"type": "CUBA", "vThMant": 80, "vDecay": 128, "iDecay": 1024, "refDelay": 1}
PIXELS = ("input", {"shape": [3], "weight": 76, "bias": 64}, NEURON)
FED = ("input", {"shape": [3]}, None)
MAPS = ("input", {"shape": [2, 3, 3]}, None)


def write(path, *layers, steps=16):
    """Write layers of (type, fields, neuron or None)."""
    with h5py.File(path, "w") as file:
        for i, (kind, fields, neuron) in enumerate(layers):
            group = file.create_group(f"layer/{i}")
            group.create_dataset("type", (1,), "S10", [kind.encode()])
            for name, value in fields.items():
                group.create_dataset(name, data=value)
            for name, value in ({} if neuron is None else neuron).items():
                group.create_dataset(f"neuron/{name}", data=value)
        if steps is not None:
            file.create_dataset("simulation/tSample", data=steps)
    return path


def dense(weight=((2, -4, 6), (1, 0, 3)), neuron=NEURON, **fields):
    weight = np.array(weight)
    return ("dense", {"shape": [len(weight)], "weight": weight, **fields}, neuron)


def conv(neuron=NEURON, **fields):
    standard = {"shape": [4, 2, 2], "weight": np.ones((4, 2, 2, 2)), "stride": 1, "padding": 0}
    return ("conv", {**standard, "dilation": 1, "groups": 1, **fields}, neuron)


def read(path, **wanted):
    return read_netx(path, replace(FROM_FILE, **wanted))


def codes_of(caught):
    return [(issue.layer, issue.code) for issue in caught.value.issues]


def test_neuron_parameters_become_those_of_the_layer(tmp_path):
    program = read(write(tmp_path / "a.net", PIXELS, dense(bias=[7, -9])))
    pixels, hidden = program.layers
    assert (hidden.threshold, hidden.decay, hidden.current_decay) == (80 * 64 + 1, 128, 1024)
    assert hidden.bias.tolist() == [7, -9]
    assert unpack(hidden.synapses[0].weight).tolist() == [[2, -4, 6], [1, 0, 3]]
    assert (hidden.synapses[0].source, program.steps) == (pixels.name, 16)
    assert program.readout == SpikeCount()
    assert program.provenance["file"] == "a.net"


def test_an_input_neuron_gets_the_image_as_its_bias_and_no_current(tmp_path):
    program = read(write(tmp_path / "a.net", PIXELS, dense()), pixels=(-1.0, 1.0))
    pixels = program.layers[0]
    assert pixels.current_decay == 4096
    arriving = encode(program.input, np.array([[0.0, 0.5, 1.0]]))
    drive = arriving @ unpack(pixels.synapses[0].weight).T + pixels.bias
    assert drive.tolist() == [[64 - 76, 64, 64 + 76]]


def test_a_negative_input_weight_inverts_the_image(tmp_path):
    inverted = ("input", {"shape": [2, 1, 1], "weight": -50, "bias": 50}, NEURON)
    pool = ("flatten", {"shape": [2]}, None)
    program = read(write(tmp_path / "a.net", inverted, pool, dense([[4, 2]])))
    pixels = program.layers[0]
    assert pixels.synapses[0].kind == Convolution(stride=(1, 1), padding=(0, 0), groups=2)
    assert unpack(pixels.synapses[0].weight).reshape(-1).tolist() == [-1, -1]
    assert (program.input.levels, pixels.bias.tolist()) == (50, [50, 50])


def test_a_range_of_pixels_that_gives_no_whole_bias_is_refused(tmp_path):
    path = write(tmp_path / "a.net", PIXELS, dense())
    with pytest.raises(Unsupported, match="38.76 levels and bias 45 for pixels from") as caught:
        read(path, pixels=(-0.25, 0.26))
    assert codes_of(caught) == [("layer/0", "pixels")]
    for pixels in ((0.0, float("nan")), (float("-inf"), 1.0), (1.0, 0.0)):
        with pytest.raises(Unsupported, match="--pixels"):
            read(path, pixels=pixels)


def test_spikes_are_no_image_unless_the_caller_says_how(tmp_path):
    path = write(tmp_path / "a.net", FED, dense())
    with pytest.raises(Unsupported, match="an image is no spikes; .*--input constant") as caught:
        read(path)
    assert codes_of(caught) == [("layer/0", "spike-input")]
    program = read(path, levels=15)
    assert (program.input.levels, program.input.shape, len(program.layers)) == (15, (3,), 1)


def test_what_belongs_to_the_other_kind_of_input_is_refused(tmp_path):
    with pytest.raises(Unsupported) as caught:
        read(write(tmp_path / "a.net", FED, dense()), levels=1, pixels=(0.0, 1.0))
    assert codes_of(caught) == [("layer/0", "pixels")]
    with pytest.raises(Unsupported) as caught:
        read(write(tmp_path / "b.net", PIXELS, dense()), levels=1)
    assert codes_of(caught) == [("layer/0", "constant-input")]


def test_a_vector_may_be_read_as_maps_of_its_size(tmp_path):
    path = write(tmp_path / "a.net", ("input", {"shape": [6]}, NEURON), dense(np.ones((2, 6))))
    assert read(path, shape=(1, 2, 3)).layers[0].shape == (1, 2, 3)
    assert isinstance(read(path).layers[0].synapses[0].weight, Csr)
    with pytest.raises(Unsupported, match=r"has 6 neurons, the shape \(1, 2, 4\) has 8"):
        read(path, shape=(1, 2, 4))
    with pytest.raises(Unsupported, match=r"has the shape \(\d+, \d+, \d+\) in the file already"):
        read(write(tmp_path / "b.net", MAPS, conv()), shape=(1, 2, 3))


def test_delays_become_one_bundle_each_per_output_before_per_input(tmp_path):
    square = [[2, -4], [6, 8]]
    first = dense(np.ones((2, 3)))
    delays = dict(scalar=3, output=[1.0, 0.0], full=[[0, 2], [2, 5]])
    for name, delay in delays.items():
        path = write(tmp_path / name, PIXELS, first, dense(square, delay=delay))
        found = {b.delay: unpack(b.weight).tolist() for b in read(path).layers[2].synapses}
        assert (
            found
            == {
                "scalar": {3: square},
                "output": {0: [[0, 0], [6, 8]], 1: [[2, -4], [0, 0]]},
                "full": {0: [[2, 0], [0, 0]], 2: [[0, -4], [6, 0]], 5: [[0, 0], [0, 8]]},
            }[name]
        )
    path = write(tmp_path / "input", PIXELS, dense(delay=[0, 62, 0]))
    assert [b.delay for b in read(path).layers[1].synapses] == [0, 62]
    assert [b.name for b in read(path).layers[1].synapses] == ["dense1", "dense1.delay62"]


def test_dilation_becomes_zeros_in_the_kernel(tmp_path):
    layer = conv(weight=[[[[1, 2]], [[3, 4]]]], dilation=[1, 2], shape=[1, 3, 1])
    kernel = unpack(
        read(write(tmp_path / "a.net", MAPS, layer), levels=1).layers[0].synapses[0].weight
    )
    assert kernel.tolist() == [[[[1, 0, 2]], [[3, 0, 4]]]]


def test_a_convolution_out_of_bounds_is_refused(tmp_path):
    wrong = dict(dilation=0, stride=[0, 1], padding=[1, -1], groups=0)
    for name, value in wrong.items():
        with pytest.raises(Unsupported) as caught:
            read(write(tmp_path / name, MAPS, conv(**{name: value})), levels=1)
        assert codes_of(caught) == [("layer/1", "range")]
    spread = conv(weight=np.ones((4, 2, 20, 20)), dilation=127)
    with pytest.raises(Unsupported, match="too many zeros to hold"):
        read(write(tmp_path / "spread", MAPS, spread), levels=1)


def test_a_bias_that_the_image_drives_out_of_16_bits_is_refused(tmp_path):
    pixels = ("input", {"shape": [3], "weight": 30000, "bias": 3000}, NEURON)
    with pytest.raises(Unsupported, match="goes from 3000 to 33000") as caught:
        read(write(tmp_path / "a.net", pixels, dense()))
    assert codes_of(caught) == [("layer/0", "bias-range")]


def test_stride_and_padding_are_height_then_width_and_a_trailing_one_is_dropped(tmp_path):
    layer = conv(
        weight=np.ones((4, 1, 2, 2, 1)), stride=[2, 1], padding=[1, 0], groups=2, shape=[4, 2, 2]
    )
    kind = read(write(tmp_path / "a.net", MAPS, layer), levels=1).layers[0].synapses[0].kind
    assert kind == Convolution(stride=(2, 1), padding=(1, 0), groups=2)


def test_a_last_layer_without_a_neuron_is_summed(tmp_path):
    program = read(write(tmp_path / "a.net", PIXELS, dense(neuron=None)))
    assert isinstance(program.readout, Accumulator)
    assert program.readout.bias.tolist() == [0, 0]
    with pytest.raises(Unsupported, match="it never spikes; read its membrane"):
        read(tmp_path / "a.net", readout=Readout.SPIKES)


def test_a_neuron_that_cannot_reach_its_threshold_is_summed_with_its_bias(tmp_path):
    slow = {**NEURON, "vDecay": 0, "iDecay": 4096, "vThMant": 16 * (8 + 5)}
    path = write(tmp_path / "a.net", PIXELS, dense(neuron=slow, bias=[5, 0]))
    assert read(path).readout.bias.tolist() == [5, 0]
    assert read(path, readout=Readout.SPIKES).readout == SpikeCount()
    assert read(path, steps=17).readout == SpikeCount()
    with pytest.raises(Unsupported, match="can reach 221 in 17 steps, 208 is its threshold"):
        read(path, steps=17, readout=Readout.MEMBRANE)


def test_the_membrane_of_a_leaky_neuron_is_no_sum(tmp_path):
    with pytest.raises(Unsupported, match="vDecay is 128 and iDecay 1024, not 0 and 4096"):
        read(write(tmp_path / "a.net", PIXELS, dense()), readout=Readout.MEMBRANE)


def test_a_bias_that_lava_dl_adds_once_is_refused(tmp_path):
    path = write(tmp_path / "a.net", PIXELS, dense(neuron=None, bias=[1, 0]))
    with pytest.raises(Unsupported, match="its bias is added once") as caught:
        read(path)
    assert codes_of(caught) == [("layer/1", "readout")]


def test_a_sample_needs_a_length(tmp_path):
    path = write(tmp_path / "a.net", PIXELS, dense(), steps=None)
    assert read(path, steps=5).steps == 5
    with pytest.raises(Unsupported, match="--steps"):
        read(path)


def test_everything_that_cannot_be_expressed_is_listed_at_once(tmp_path):
    path = write(
        tmp_path / "a.net",
        ("input", {"shape": [2, 3]}, {**NEURON, "messageBits": 8}),
        ("pool", {"shape": [2, 3]}, NEURON),
        ("konv", {}, None),
        ("dense_rec", {"shape": [2]}, NEURON),
        conv(neuron={**NEURON, "type": "SDNN"}),
        conv(neuron=None, delay=[3, 0, 0, 0], groups=200),
        dense([[0.5, 1.0, 2.0]], neuron={**NEURON, "refDelay": 2, "gradedSpike": True}),
        dense(neuron={**NEURON, "vDecay": 4096, "iDecay": 1024.5, "wgtExp": 1}),
        dense(bias=[1, 2, 3], delay=[[1, 2]], inFeatures=4, leak=3),
        dense([[0, 0, 0]], bias=[40000], delay=63),
        dense(np.ones((2, 3, 1)), neuron={**NEURON, "vThMant": [1, 2]}),
        ("dense", {"shape": [2]}, {"vThMant": 3, "type": [1, 2]}),
        steps=None,
    )
    with pytest.raises(Unsupported) as caught:
        read(path)
    assert codes_of(caught) == [
        ("layer/0", "unknown-field"),
        ("layer/0", "shape"),
        ("layer/1", "layer-type"),
        ("layer/2", "layer-type"),
        ("layer/3", "layer-type"),
        ("layer/4", "neuron-type"),
        ("layer/5", "missing-field"),
        ("layer/5", "range"),
        ("layer/5", "conv-delay"),
        ("layer/6", "refDelay"),
        ("layer/6", "gradedSpike"),
        ("layer/6", "not-whole"),
        ("layer/7", "wgtExp"),
        ("layer/7", "range"),
        ("layer/7", "not-whole"),
        ("layer/8", "unknown-field"),
        ("layer/8", "shape"),
        ("layer/8", "shape"),
        ("layer/8", "shape"),
        ("layer/9", "bias-range"),
        ("layer/9", "delay-range"),
        ("layer/9", "all-zero"),
        ("layer/10", "per-neuron"),
        ("layer/10", "shape"),
        ("layer/11", "neuron-type"),
        ("layer/11", "missing-field"),
        ("simulation/tSample", "steps"),
    ]


def test_layers_that_do_not_fit_each_other_are_listed_at_once(tmp_path):
    flatten = ("flatten", {"shape": [1]}, None)
    path = write(
        tmp_path / "a.net",
        ("input", {"shape": [2, 3, 3]}, NEURON),
        conv(shape=[4, 3, 3]),
        conv(),
        dense(np.ones((2, 36))),
        flatten,
        conv(),
        dense(neuron=None),
        PIXELS,
    )
    with pytest.raises(Unsupported) as caught:
        read(path)
    assert [(i.layer, i.code, i.problem.split(",")[0]) for i in caught.value.issues] == [
        ("layer/1", "shape", "its shape is (4"),
        ("layer/2", "shape", "weight (4"),
        ("layer/3", "layer-order", "reads maps that no flatten layer made a vector"),
        ("layer/4", "layer-order", "flattens a vector"),
        ("layer/5", "layer-order", "convolves a vector"),
        ("layer/6", "layer-order", "reads maps that no flatten layer made a vector"),
        ("layer/7", "layer-order", "comes after layer/6"),
    ]


def test_a_network_needs_an_input_layer_and_another_one(tmp_path):
    with pytest.raises(Unsupported, match="layer/0: is no input layer"):
        read(write(tmp_path / "a.net", dense()))
    with pytest.raises(Unsupported, match="layer/0: is followed by nothing"):
        read(write(tmp_path / "b.net", FED), levels=1)


def test_the_image_cannot_be_delayed(tmp_path):
    with pytest.raises(Unsupported, match="delays its input"):
        read(write(tmp_path / "a.net", FED, dense(delay=1)), levels=1)


def test_a_current_that_lava_would_wrap_is_refused_with_its_bound(tmp_path):
    heavy = dense(np.full((1, 600), 254), neuron={**NEURON, "iDecay": 4096})
    pixels = ("input", {"shape": [600]}, NEURON)
    with pytest.raises(Unsupported, match="its current can reach 9753600") as caught:
        read(write(tmp_path / "a.net", pixels, heavy))
    (issue,) = caught.value.issues
    assert (issue.code, issue.need, issue.limit) == ("current-range", 600 * 254 * 64, 2**23 - 1)


def test_the_bound_of_a_lasting_current_is_what_its_worst_input_reaches(tmp_path):
    path = write(tmp_path / "a.net", FED, dense([[1, 5, -3]]))
    program = read(path, levels=1)
    layer = program.layers[0]
    current = 0
    for _ in range(program.steps):
        current = current * (4096 - 1024) // 4096 + 6 * 64
    assert largest_current(program, layer) == current
    lasting = replace(layer, current_decay=0)
    assert largest_current(program, lasting) == 16 * 6 * 64


@pytest.mark.parametrize(
    ("weight", "becomes"),
    [
        ([[-1, -1]], [[0, 0]]),  # -256 has no magnitude in 8 bits, and of 255 no bit is kept
        ([[-128, -2]], [[-126, -2]]),
        ([[-256, -3]], [[-255, -3]]),
        ([[0, -64]], [[0, -32]]),
        ([[300, -300]], [[254, -256]]),
        ([[255, 0]], [[255, 0]]),
        ([[3, -127]], [[3, -127]]),
    ],
)
def test_weights_are_what_lava_dl_delivers(weight, becomes):
    assert delivered(np.array(weight)).tolist() == becomes


@pytest.mark.parametrize(
    ("weight", "code"),
    [
        ([[0, 0]], "all-zero"),
        ([[256, 0]], "weight-range"),
        ([[-257, -1]], "weight-range"),
        ([[-300, 0]], "weight-range"),
        ([[-200, 0, -1]], "weight-rounding"),
        ([[-128, 0, -1]], "weight-rounding"),
    ],
)
def test_weights_that_lava_dl_cannot_deliver_as_integers_are_refused(weight, code):
    with pytest.raises(Broken) as caught:
        delivered(np.array(weight))
    assert caught.value.args[2] == code


def test_a_program_from_a_file_computes(tmp_path):
    """By hand: the image drives each neuron by 64 and 140, they spike at vth 80."""
    still = {**NEURON, "vDecay": 0}
    pixels = ("input", {"shape": [3], "weight": 76, "bias": 64}, still)
    program = read(write(tmp_path / "a.net", pixels, dense(neuron=None), steps=4))
    trace = reference.run(program, encode(program.input, np.array([[0, 1, 1.0]])), raster=True)
    assert trace.layers[0].raster[0].astype(int).tolist() == [
        [0, 1, 1],
        [1, 1, 1],
        [0, 1, 1],
        [1, 1, 1],
    ]
    assert trace.logits.tolist() == [[2 * 2 - 4 * 4 + 6 * 4, 2 + 3 * 4]]


def test_a_file_that_is_none_is_one_clear_error(tmp_path):
    for name, content in {
        "text": b"hello" * 99,
        "empty": b"",
        "zip": b"PK\3\4" + bytes(99),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidFile, match=name):
            read(tmp_path / name)
    with pytest.raises(InvalidFile, match="does not exist"):
        read(tmp_path / "missing")


def test_data_and_layers_outside_of_the_file_are_refused(tmp_path):
    other = write(tmp_path / "other.net", PIXELS, dense())
    path = tmp_path / "a.net"
    with h5py.File(path, "w") as file:
        file.create_group("layer")["0"] = h5py.ExternalLink(str(other), "layer/0")
    with pytest.raises(InvalidFile, match="keeps layer/0 in another place"):
        read(path)
    with h5py.File(path, "w") as file:
        file.create_group("layer/1")
        file["layer/0"] = h5py.SoftLink("/layer/1")
    with pytest.raises(InvalidFile, match="in another place"):
        read(path)
    write(path, PIXELS, dense())
    with h5py.File(path, "a") as file:
        del file["layer/1/weight"]
        outside = [(str(other), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("layer/1/weight", (2, 3), "i4", external=outside)
    with pytest.raises(InvalidFile, match="keeps layer/1/weight in another file"):
        read(path)


def test_a_file_that_hangs_or_kills_the_hdf5_library_is_one_clear_error(tmp_path, monkeypatch):
    path = write(tmp_path / "a.net", PIXELS, dense())
    with pytest.raises(InvalidFile, match="a.net is damaged: .* did not finish within 1e-06 sec"):
        read_contents(path, patience=1e-6)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(InvalidFile, match="a.net is damaged: .* failed .status 1, no message"):
        read_contents(path)


def test_layers_must_be_numbered_without_a_gap(tmp_path):
    path = write(tmp_path / "a.net", PIXELS, dense())
    with h5py.File(path, "a") as file:
        file.move("layer/1", "layer/2")
    with pytest.raises(InvalidFile, match="layers called 0, 2; netx numbers them"):
        read(path)


def test_an_array_too_large_to_hold_is_refused_before_it_is_read(tmp_path):
    path = write(tmp_path / "a.net", PIXELS, dense())
    with h5py.File(path, "a") as file:
        del file["layer/1/weight"]
        file.create_dataset("layer/1/weight", (1 << 20, 1 << 20), "i1", chunks=(1024, 1024))
    with pytest.raises(InvalidFile, match="between 1 and 268435456 values are read"):
        read(path)


def test_damaged_bytes_are_one_clear_error_or_change_numbers_only(tmp_path):
    whole = write(tmp_path / "a.net", PIXELS, conv(), dense(delay=[1, 0])).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.net"
    for _ in range(15):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, len(damaged), 5):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            read(path)
        except (InvalidFile, Unsupported) as error:
            assert "damaged.net" in str(error)
