"""Write the generated Lava program: readable Python, one block for each of the user's layers.

    network.py        builds the Lava network; what a reader wants to see
    host.py           arguments, watchdog, results: the same for every network
    procs/            the processes that lava-nc lacks, alone in their directory
    weights.npz       the program's integers, in the user's layout, named as in network.py
    network.json      what host.py must know, and the checksum of weights.npz
    README.txt        how to run it by hand
    requirements.txt

All bytes follow from the program alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Accumulator, Convolution, FullyConnected, Layer, Program
from snnc.ir.weights import Csr, Dense, Shape, unpack
from snnc.semantics.neuron import ALIGN

from snnc_targets.loihi.limits import bias_exponent
from snnc_targets.loihi.plan import Bundle, Form, Placed, plan

LAVA = "lava-nc==0.10.0"
WIDTH = 96  # of a line of network.py, without its indentation
FORMAT = 1  # of network.json; host.py checks it
_TEMPLATE = Path(__file__).parent / "template"
_COPIED = ("host.py", "procs/snnc_processes.py")


def emit(program: Program, directory: Path) -> None:
    """Write the generated program of a program without issues into an existing directory."""
    placed = plan(program)
    (directory / "procs").mkdir()
    for name in _COPIED:
        (directory / name).write_bytes((_TEMPLATE / name).read_bytes())
    weights = _npz(_arrays(placed))
    (directory / "weights.npz").write_bytes(weights)
    facts = _facts(program, placed, hashlib.sha256(weights).hexdigest())
    (directory / "network.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (directory / "network.py").write_text(network_source(program, placed), encoding="utf-8")
    (directory / "README.txt").write_text(_README, encoding="utf-8")
    (directory / "requirements.txt").write_text(LAVA + "\n", encoding="utf-8")


def _arrays(placed: tuple[Placed, ...]) -> dict[str, npt.NDArray[np.integer]]:
    """Name every array as network.py reads it: `conv1`, `conv1_neurons.bias`, `fc1.data`, ..."""
    arrays: dict[str, npt.NDArray[np.integer]] = {}
    for place in placed:
        for bundle in place.bundles:
            name, weight = bundle.variable, bundle.synapses.weight
            match bundle.synapses.kind, weight:
                case FullyConnected(), Csr():
                    arrays[f"{name}.data"] = weight.data.astype(np.int8)
                    arrays[f"{name}.indices"] = weight.indices
                    arrays[f"{name}.indptr"] = weight.indptr
                    arrays[f"{name}.shape"] = np.array(weight.shape, dtype=np.int64)
                case _:  # Lava's Conv stores every weight
                    arrays[name] = unpack(weight).astype(np.int8)
        arrays[f"{place.variable}.bias"] = place.population.bias
    return arrays


def _npz(arrays: Mapping[str, npt.NDArray[np.integer]]) -> bytes:
    """Return an .npz whose bytes depend on the arrays alone: no dates, no compression."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


def _facts(program: Program, placed: tuple[Placed, ...], digest: str) -> dict[str, object]:
    return {
        "format": FORMAT,
        "steps": program.steps,
        "weights_sha256": digest,
        "input": {
            "shape": list(program.input.shape),
            "levels": program.input.levels,
            "zero_point": program.input.zero_point.tolist(),
        },
        "layers": [
            {
                "name": place.population.name,
                "file": place.variable,
                "shape": list(place.population.shape),
                "lag": place.lag,
            }
            for place in placed
            if isinstance(place.population, Layer)
        ],
        "readout": "accumulator" if isinstance(program.readout, Accumulator) else "spike-count",
    }


def network_source(program: Program, placed: tuple[Placed, ...]) -> str:
    """Return the text of network.py."""
    variables = {place.population.name: place.variable for place in placed}
    blocks = [_HEADER.format(steps=program.steps, lag=max(place.lag for place in placed))]
    blocks.append(_image_currents(program, placed))
    blocks.append(_BUILD)
    blocks += [_block(program, place, variables) for place in placed]
    blocks.append(f"    return {placed[-1].variable}\n\n\n")
    blocks.append(_FOOTER)
    return "".join(blocks)


def _image_currents(program: Program, placed: tuple[Placed, ...]) -> str:
    lines = []
    readers = [place for place in placed if place.reads_image]
    for place in readers:
        name, shape = place.variable, place.population.shape
        lines.append(f"    # {_quoted(place.population.name)} {shape}, its bias included")
        assign = "="
        for bundle in place.bundles:
            if bundle.form is Form.HOST:
                lines.append(f"    {name} {assign} {_host_product(bundle)}")
                assign = "+="
        axes = "[:, None, None]" if len(shape) == 3 else ""
        lines.append(f'    {name} += w["{name}.bias"]{axes}')
    result = ", ".join(f'"{place.variable}": {place.variable}' for place in readers)
    lines.append(f"    return {{{result}}}")
    return _IMAGE_CURRENTS.format(shape=program.input.shape) + "\n".join(lines) + "\n\n\n"


def _host_product(bundle: Bundle) -> str:
    match bundle.synapses.kind:
        case Convolution() as kind:
            return f'convolve(codes, w["{bundle.variable}"], {_geometry(kind)})'
        case FullyConnected():
            return f'multiply(codes, w["{bundle.variable}"])'
        case _:
            unreachable(bundle.synapses.kind)


def _geometry(kind: Convolution) -> str:
    return f"stride={tuple(kind.stride)}, padding={tuple(kind.padding)}, groups={kind.groups}"


def _block(program: Program, place: Placed, variables: Mapping[str, str]) -> str:
    """Return the lines that build one of the user's layers: synapses, neurons, wires, record."""
    population = place.population
    lines = [f"# {_quoted(population.name)} {population.shape}, lag {place.lag}"]
    for bundle in place.bundles:
        late = f", delayed by {bundle.delay}" if bundle.delay else ""
        origin = _origin(program, bundle)
        lines.append(f"#   {_quoted(bundle.synapses.name)} from {origin}{late}")
    ports = []
    if place.reads_image:
        lines += _call(
            f"{place.variable}_current",
            "CurrentSource",
            name=_quoted(f"{population.name} current"),
            shape=lava_shape(population.shape),
            path=f'run.current("{place.variable}")',
            steps="T",
            start=place.lag,
        )
        ports.append(f"{place.variable}_current.s_out")
    for bundle in place.bundles:
        if bundle.form is not Form.HOST:
            lines += _synapses(program, place, bundle, variables[bundle.synapses.source])
            unflatten = bundle.form is Form.DELAYED and len(population.shape) == 3
            turn = f".reshape({population.shape}).transpose([2, 1, 0])" if unflatten else ""
            ports.append(f"{bundle.variable}.a_out{turn}")
    match population:
        case Layer():
            lines += _neurons(place, population)
        case Accumulator():
            lines += _readout(place)
        case _:
            unreachable(population)
    flat = ".transpose([2, 1, 0]).flatten()" if _is_readout_map(place) else ""
    lines += [f"{port}{flat}.connect({place.variable}.a_in)" for port in ports]
    if isinstance(population, Layer):
        lines += _record(place)
    return "".join(f"    {line}\n" for line in lines) + "\n"


def _is_readout_map(place: Placed) -> bool:
    return isinstance(place.population, Accumulator) and len(place.population.shape) == 3


def _origin(program: Program, bundle: Bundle) -> str:
    source = bundle.synapses.source
    shape = program.shape_of(source)
    return f"the image {shape}" if source == INPUT else f"{_quoted(source)} {shape}"


def _synapses(program: Program, place: Placed, bundle: Bundle, source: str) -> list[str]:
    shape = program.shape_of(bundle.synapses.source)
    name, weight = _quoted(bundle.synapses.name), f'w["{bundle.variable}"]'
    flat = f"{source}.s_out" + (".transpose([2, 1, 0]).flatten()" if len(shape) == 3 else "")
    fixed = {"weight_exp": "-1", "num_weight_bits": "8", "sign_mode": "SignMode.MIXED"}
    match bundle.form, bundle.synapses.kind:
        case Form.CONV, Convolution() as kind:
            call = _call(
                bundle.variable,
                "Conv",
                name=name,
                weight=f"kernel({weight})",
                input_shape=lava_shape(shape),
                stride=tuple(kind.stride[::-1]),
                padding=tuple(kind.padding[::-1]),
                groups=kind.groups,
            )
            return [*call, f"{source}.s_out.connect({bundle.variable}.s_in)"]
        case ((Form.DENSE | Form.SPARSE), _):
            call = _call(
                bundle.variable, bundle.form.value, name=name, weights=f"2 * {weight}", **fixed
            )
            return [*call, f"{flat}.connect({bundle.variable}.s_in)"]
        case Form.DELAYED, kind:
            matrix = f"{bundle.variable}_matrix"
            call = _call(
                bundle.variable,
                "DelaySparse",
                name=name,
                weights=f"2 * {matrix}",
                delays=f"delays({matrix}, {bundle.delay})",
                max_delay=bundle.delay,
                **fixed,
            )
            made = f"{matrix} = {_matrix(bundle, weight, shape)}"
            return [made, *call, f"{flat}.connect({bundle.variable}.s_in)"]
    raise AssertionError(f"{place.variable}: {bundle.form} carries no {bundle.synapses.kind}")


def _matrix(bundle: Bundle, weight: str, source: Shape) -> str:
    match bundle.synapses.kind, bundle.synapses.weight:
        case Convolution() as kind, _:
            return f"unroll({weight}, {source}, {_geometry(kind)})"
        case FullyConnected(), Dense():
            return f"csr_matrix({weight})"
        case _:
            return weight


def _neurons(place: Placed, layer: Layer) -> list[str]:
    exponent = bias_exponent(layer.bias)
    bias: dict[str, object] = {}
    if not place.reads_image and exponent is not None:
        halved = " // 2" if exponent > ALIGN else ""
        bias = {"bias_mant": f'w["{place.variable}.bias"]{halved}', "bias_exp": exponent}
    match layer.reset:
        case Reset.ZERO:
            process, threshold = "LIFReset", {"vth": (layer.threshold - 1) >> ALIGN}
        case Reset.SUBTRACT:
            process, threshold = "SoftLIF", {"threshold": layer.threshold}
        case _:
            unreachable(layer.reset)
    return _call(
        place.variable,
        process,
        name=_quoted(layer.name),
        shape=lava_shape(layer.shape),
        du=4095,
        dv=layer.decay,
        **threshold,
        **bias,
        reset_interval="T",
        reset_offset=place.lag,
    )


def _record(place: Placed) -> list[str]:
    population = place.population
    call = _call(
        f"{place.variable}_record",
        "Recorder",
        name=_quoted(f"{population.name} record"),
        shape=(population.size,),
        path=f'run.raster("{place.variable}", {population.size})',
        steps="T",
        start=place.lag,
    )
    flat = ".transpose([2, 1, 0]).flatten()" if len(population.shape) == 3 else ""
    return [*call, f"{place.variable}.s_out{flat}.connect({place.variable}_record.s_in)"]


def _readout(place: Placed) -> list[str]:
    population = place.population
    each = population.size // population.shape[0]
    bias = f'w["{place.variable}.bias"]' + (f".repeat({each})" if each > 1 else "")
    return _call(
        place.variable,
        "Readout",
        name=_quoted(population.name),
        shape=(population.size,),
        path=f"run.logits({population.size})",
        bias="0" if place.reads_image else bias,
        steps="T",
        start=place.lag,
    )


def _call(variable: str, process: str, **arguments: object) -> list[str]:
    """Return the lines of `variable = Process(argument=value, ...)`; values are source text."""
    plain = ", ".join(f"{name}={value}" for name, value in arguments.items())
    if len(whole := f"{variable} = {process}({plain})") <= WIDTH:
        return [whole]
    if len(plain) <= WIDTH - 4:
        return [f"{variable} = {process}(", f"    {plain}", ")"]
    inner = [f"    {name}={value}," for name, value in arguments.items()]
    return [f"{variable} = {process}(", *inner, ")"]


def _quoted(name: str) -> str:
    """Return a name as a Python literal: on one line whatever the name holds."""
    return json.dumps(name)


def lava_shape(shape: Shape) -> Shape:
    """Return Lava's (W, H, C) for (C, H, W); a flat shape stays."""
    return tuple(reversed(shape))


_HEADER = '''\
"""A spiking network for Lava. Generated by snnc; edits are lost when it compiles again.

    python network.py --input images.npy --output results

needs Python 3.10 and lava-nc 0.10.0 (see README.txt). Maps are (W, H, C) in Lava. The lag of a
layer is the step at which the first sample reaches it: every synapse takes one step.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE / "procs")]

from host import convolve, delays, kernel, main, multiply, unroll
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix
from snnc_processes import CurrentSource, Readout, Recorder, SoftLIF

T = {steps}  # time steps for each sample
LAG = {lag}  # of the last layer


'''
_IMAGE_CURRENTS = '''\
def image_currents(codes, w):
    """Return what the image, as codes (samples, *{shape}), adds to the layers that read it.

    It is the same at every step of a sample, so the host computes it once.
    """
'''
_BUILD = '''\
def build(w, run):
    """Build the network from the weights `w`; return its last process."""
'''
_FOOTER = """\
if __name__ == "__main__":
    main(HERE, steps=T, lag=LAG, image_currents=image_currents, build=build)
"""
_README = """\
A spiking network for Lava, generated by snnc.

    python3.10 -m venv lava
    lava/bin/pip install -r requirements.txt
    lava/bin/python network.py --input images.npy --output results

images.npy holds (samples, *shape) floats in [0, 1], or the integer codes that snnc makes of
them; network.json says the shape. Afterwards results/ holds

    logits.npy    (samples, classes) int64; the first largest names the class
    NAME.npy      (samples, T, bytes): the spikes of a layer, in (C, H, W) order, eight to a byte:
                  numpy.unpackbits(raster, axis=2, count=neurons)
    status.json   "done", or "failed" with the reason

network.py is the network, one block for each layer; weights.npz holds its integers; host.py
reads arguments and watches over Lava's processes; procs/ holds the Lava processes that lava-nc
does not have. Nothing else may be put into procs/: Lava executes every file there.

Lava simulates the chip's integers on this computer. No neuromorphic hardware is used.
"""
