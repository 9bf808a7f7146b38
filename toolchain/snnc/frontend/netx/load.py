"""Import a network of lava-dl: a netx file becomes a program, integer for integer.

    netx and Lava                    here
    weight w                         w as lava-dl delivers it, see `synapses`
    bias b (bias_exp is 6)           b
    vThMant                          threshold 64 vThMant + 1: Lava asks v > 64 vThMant
    vDecay, iDecay                   decay, current_decay
    delay of each synapse            one bundle of synapses for each delay
    dilation                         a kernel with zeros
    dense layer without a neuron     an accumulator: its current never decays

Timing. In lava-dl every synapse takes one step, and a network runs on from sample to sample. A
program has no such pipeline, and starts each sample fresh. Both compute the same spikes: those
of step t of a sample are lava-dl's of step t + lag, where lag is 1 for an input layer with a
neuron, 2 for the first layer that is fed by spikes, and one more with each synapse.
`Network(net_config=FILE, reset_interval=T, reset_offset=r)` resets each layer at its lag, with
r = 0 if the input layer has a neuron and r = 1 if not. That reset does not empty synapses with
delays: with delays, the equality is with a new network for each sample, in which no bias makes a
layer spike before its lag.

Input. An input layer with a neuron gets the image as its bias, bias_mant = weight * x + bias, with
x the image as in training. lava-dl leaves this sum and its rounding to the user; the program has

    bias_mant = sign(weight) * rint(|weight| * (high - low) * pixel) + bias + weight * low

for x = low + (high - low) * pixel. An input layer without a neuron is fed by spikes, which an
image is not; such a file is refused unless the caller chooses `levels`. Then the codes 0 to
`levels` of the image enter as graded spikes, the same at every step, as in a `Network` with
`input_message_bits` > 0 whose port `inp` gets them at every step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from snnc.errors import InvalidFile, InvalidProgram, Issue, Unsupported
from snnc.frontend.netx import notes as netx_notes
from snnc.frontend.netx.entry import Coding
from snnc.frontend.netx.file import Contents, read_contents
from snnc.frontend.netx.layers import layer_of
from snnc.frontend.netx.limits import current_issues
from snnc.frontend.netx.notes import Notes, Readout
from snnc.frontend.netx.program import program_of
from snnc.ir.check_program import check_program
from snnc.ir.program import Program
from snnc.ir.store import digest
from snnc.ir.weights import Shape


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the caller says about a network. None: what the file says."""

    steps: int | None  # T; a file may say it in simulation/tSample
    levels: int | None  # of an image that feeds a network of spikes; None: refuse to
    shape: Shape | None  # (C, H, W) of the image, where the file calls it a vector
    pixels: tuple[float, float] | None  # the x of training for a pixel of 0 and 1; None: 0 and 1
    readout: Readout | None  # None: membrane if the last layer can never spike, else spikes


FROM_FILE = Wanted(steps=None, levels=None, shape=None, pixels=None, readout=None)


def read_netx(path: Path, wanted: Wanted = FROM_FILE) -> Program:
    """Read a netx file as a program; see the module for what it means.

    A file that `snnc export` wrote carries notes with all that `wanted` asks for.

    Raises:
        MissingDependency: h5py is not installed.
        InvalidFile: the file is missing, damaged or no netx file.
        Unsupported: lists everything that a program cannot express.
    """
    contents = read_contents(path)
    issues: list[Issue] = []
    try:
        notes = None if contents.notes is None else netx_notes.read(contents.notes)
        layers = [layer_of(record, issues) for record in contents.records]
        wanted = _completed(wanted, contents, notes, issues)
        found = [layer for layer in layers if layer is not None]
        program = None
        if not issues:
            program = program_of(found, _coding(wanted), notes, issues)
    except InvalidFile as error:
        raise InvalidFile(f"{path}: {error}") from error
    if program is None or issues:
        raise Unsupported(str(path), issues)
    if notes is None:
        origin = {"frontend": "netx", "file": path.name, "sha256": digest(contents.content)}
        program = replace(program, provenance=origin)
    return _checked(path, program)


def _completed(
    wanted: Wanted, contents: Contents, notes: Notes | None, issues: list[Issue]
) -> Wanted:
    """Fill the caller's gaps with what the file says; complain where it says nothing."""
    steps = wanted.steps
    if notes is not None:
        steps = notes.steps if steps is None else steps
        wanted = replace(wanted, readout=wanted.readout or notes.readout)
    steps = contents.steps if steps is None else steps
    if steps is None or steps < 1:
        fact = "the file does not say how long a sample is" if steps is None else f"{steps} steps"
        issues.append(
            Issue("simulation/tSample", fact, "pass the number of steps (--steps)", "steps")
        )
    return replace(wanted, steps=steps)


def _coding(wanted: Wanted) -> Coding:
    assert wanted.steps is not None  # noqa: S101 - else there is an issue
    return Coding(
        steps=wanted.steps,
        levels=wanted.levels,
        shape=wanted.shape,
        pixels=wanted.pixels,
        readout=wanted.readout,
    )


def _checked(path: Path, program: Program) -> Program:
    try:
        check_program(program)
    except InvalidProgram as broken:
        raise Unsupported(str(path), broken.issues) from broken
    if beyond := list(current_issues(program)):
        raise Unsupported(str(path), beyond)
    return program
