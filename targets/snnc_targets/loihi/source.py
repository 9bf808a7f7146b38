"""The text of network.py: readable Python, one block for each of the user's layers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

from snnc.errors import unreachable
from snnc.ir.graph import Reset
from snnc.ir.program import INPUT, Accumulator, Convolution, FullyConnected, Layer, Program
from snnc.ir.weights import Dense, Shape
from snnc.semantics.neuron import ALIGN

from snnc_targets.loihi.interpreter import LAVA_VERSION
from snnc_targets.loihi.limits import BIAS_EXP_MAX, bias_exponent, image_exponent
from snnc_targets.loihi.lowering import Image
from snnc_targets.loihi.plan import ON_HOST, Bundle, Form, Placed

WIDTH = 96  # of a line, without its indentation


def network_source(program: Program, placed: tuple[Placed, ...], image: Image) -> str:
    """Return the text of network.py."""
    variables = {place.population.name: place.variable for place in placed}
    blocks = [
        _HEADER.format(
            lava=LAVA_VERSION, steps=program.steps, lag=max(place.lag for place in placed)
        )
    ]
    blocks.append(_image_values(program, placed, image))
    blocks.append(_BUILD)
    blocks += [_block(program, place, variables) for place in placed]
    blocks.append(f"    return {placed[-1].variable}\n\n\n")
    blocks.append(_FOOTER)
    return "".join(blocks)


def _image_values(program: Program, placed: tuple[Placed, ...], image: Image) -> str:
    text = _IMAGE_VALUES.format(shape=program.input.shape)
    if image is Image.GRADED:
        return text + '    return {"image": codes}\n\n\n'
    lines = []
    readers = [place for place in placed if any(b.form in ON_HOST for b in place.bundles)]
    for place in readers:
        name, shape = place.variable, place.population.shape
        included = ", its bias included" if place.host_adds_bias else ""
        lines.append(f"    # {_quoted(place.population.name)} {shape}{included}")
        assign = "="
        for bundle in place.bundles:
            if bundle.form in ON_HOST:
                lines.append(f"    {name} {assign} {_host_product(bundle)}")
                assign = "+="
        axes = "[:, None, None]" if len(shape) == 3 else ""
        if place.host_adds_bias:
            lines.append(f'    {name} += w["{name}.bias"]{axes}')
        if _mantissa_exponent(program, place) == BIAS_EXP_MAX:
            lines.append(f"    {name} //= 2  # they are even; the exponent makes up for it")
    result = ", ".join(f'"{place.variable}": {place.variable}' for place in readers)
    lines.append(f"    return {{{result}}}")
    return text + "\n".join(lines) + "\n\n\n"


def _mantissa_exponent(program: Program, place: Placed) -> int | None:
    """Return the exponent of a bias that the host writes for each sample; None without one."""
    layer = place.population
    if not isinstance(layer, Layer) or all(b.form is not Form.BIAS for b in place.bundles):
        return None
    return image_exponent(program, layer)


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
    if any(bundle.form is Form.HOST for bundle in place.bundles):
        name = f"{population.name} current"
        lines += _source(place, "current", name, population.shape, place.variable, place.lag)
        ports.append(f"{place.variable}_current.s_out")
    if any(bundle.message_bits for bundle in place.bundles):
        name = f"{population.name} image"
        lines += _source(place, "image", name, program.input.shape, "image", place.lag - 1)
    for bundle in place.bundles:
        if bundle.form not in ON_HOST:
            reads_image = bundle.synapses.source == INPUT
            near = f"{place.variable}_image" if reads_image else variables[bundle.synapses.source]
            lines += _synapses(program, place, bundle, near)
            unflatten = bundle.is_matrix and len(population.shape) == 3
            turn = f".reshape({population.shape}).transpose([2, 1, 0])" if unflatten else ""
            ports.append(f"{bundle.variable}.a_out{turn}")
    match population:
        case Layer():
            lines += _neurons(program, place, population)
        case Accumulator():
            lines += _readout(place)
        case _:
            unreachable(population)
    flat = ".transpose([2, 1, 0]).flatten()" if _is_readout_map(place) else ""
    lines += [f"{port}{flat}.connect({place.variable}.a_in)" for port in ports]
    if any(bundle.form is Form.BIAS for bundle in place.bundles):
        lines += _bias_writer(program, place)
    if isinstance(population, Layer):
        lines += _record(place)
    return "".join(f"    {line}\n" for line in lines) + "\n"


def _source(
    place: Placed, role: str, name: str, shape: Shape, values: str, start: int
) -> list[str]:
    return _call(
        f"{place.variable}_{role}",
        "ImageSource",
        name=_quoted(name),
        shape=lava_shape(shape),
        path=f'run.values("{values}")',
        steps="T",
        start=start,
    )


def _bias_writer(program: Program, place: Placed) -> list[str]:
    """Return the lines that write a sample's bias after the step before its first.

    Lava's dataloader writes once in T steps, so its first writes may come before any sample.
    """
    late, offset = divmod(place.lag - 2, program.steps)
    call = _call(
        f"{place.variable}_bias",
        "StateDataloader",
        dataset=f'Samples(run.values("{place.variable}"), late={late})',
        interval="T",
        offset=offset,
    )
    return [*call, f"{place.variable}_bias.connect_var({place.variable}.bias_mant)"]


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
    fixed = {
        "weight_exp": str(bundle.exponent - 1),
        "num_weight_bits": "8",
        "sign_mode": "SignMode.MIXED",
    }
    graded = {"num_message_bits": bundle.message_bits} if bundle.message_bits else {}
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
                **graded,
            )
            return [*call, f"{source}.s_out.connect({bundle.variable}.s_in)"]
        case Form.DENSE, FullyConnected():
            made: list[str] = []
            call = _call(
                bundle.variable, "Dense", name=name, weights=f"2 * {weight}", **fixed, **graded
            )
        case ((Form.SPARSE | Form.DELAYED), _):
            made, matrix = _matrix(bundle, weight, shape)
            held = f"delays({matrix}, {bundle.delay})"
            waiting = {"delays": held, "max_delay": bundle.delay} if bundle.delay else {}
            call = _call(
                bundle.variable,
                bundle.form.value,
                name=name,
                weights=f"2 * {matrix}",
                **waiting,
                **fixed,
                **graded,
            )
        case _:
            raise AssertionError(f"{place.variable}: {bundle.form} carries no {bundle.synapses}")
    gate, port = _in_time(program, place, bundle, flat)
    return [*made, *gate, *call, f"{port}.connect({bundle.variable}.s_in)"]


def _matrix(bundle: Bundle, weight: str, source: Shape) -> tuple[list[str], str]:
    """Return the lines that make the matrix of a bundle, and its name."""
    matrix = f"{bundle.variable}_matrix"
    match bundle.synapses.kind, bundle.synapses.weight:
        case Convolution() as kind, _:
            return [f"{matrix} = unroll({weight}, {source}, {_geometry(kind)})"], matrix
        case FullyConnected(), Dense():
            return [f"{matrix} = csr_matrix({weight})"], matrix
        case _ if bundle.delay:
            return [f"{matrix} = {weight}"], matrix
        case _:
            return [], weight


def _in_time(program: Program, place: Placed, bundle: Bundle, port: str) -> tuple[list[str], str]:
    """Return the lines that end a sample's spikes before a delay of synapses, and the new port."""
    late = bundle.synapses.delay
    if not late:
        return [], port
    gate = f"{bundle.variable}_in_time"
    call = _call(
        gate,
        "InTime",
        name=_quoted(f"{bundle.synapses.name} in time"),
        shape=(prod(program.shape_of(bundle.synapses.source)),),
        steps="T",
        late=late,
        start=place.lag - 1 - (bundle.delay - late),  # the lag of the source
    )
    return [*call, f"{port}.connect({gate}.s_in)"], f"{gate}.s_out"


def _neurons(program: Program, place: Placed, layer: Layer) -> list[str]:
    exponent = bias_exponent(layer.bias)
    bias: dict[str, object] = {}
    if (written := _mantissa_exponent(program, place)) is not None:
        bias = {"bias_exp": written}
    elif not place.host_adds_bias and exponent is not None:
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
        du=layer.current_decay - 1,
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
        bias="0" if place.host_adds_bias else bias,
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

needs Python 3.10 and lava-nc {lava} (see README.txt). Maps are (W, H, C) in Lava. The lag of a
layer is the step at which the first sample reaches it: every synapse takes one step.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE / "procs")]

from host import Samples, convolve, delays, kernel, main, multiply, unroll
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.dataloader import StateDataloader
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix
from snnc_processes import ImageSource, InTime, Readout, Recorder, SoftLIF

T = {steps}  # time steps for each sample
LAG = {lag}  # of the last layer


'''
_IMAGE_VALUES = '''\
def image_values(codes, w):
    """Return what the host makes of the image, codes (samples, *{shape}), for its readers.

    It is the same at every step of a sample, so the host computes it once.
    """
'''
_BUILD = '''\
def build(w, run):
    """Build the network from the weights `w`; return its last process."""
'''
_FOOTER = """\
if __name__ == "__main__":
    main(HERE, steps=T, lag=LAG, image_values=image_values, build=build)
"""
