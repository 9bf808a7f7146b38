"""snnc import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.compile import choices_option, parsed_options
from snnc.cli.output import emit, force_option, json_option
from snnc.passes.quantize import PIXEL_LEVELS

if TYPE_CHECKING:
    from snnc.frontend.netx.load import Wanted


@click.command(
    "import",
    epilog="Example: snnc import mnist.net -o mnist-fast --shape 1,28,28 --steps 16",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Build directory, or a program file that ends in .snnx.",
)
@click.option("--target", help="What the build is for; see `snnc targets`.  [default: reference]")
@choices_option
@click.option("--steps", type=click.IntRange(1), help="Time steps of a sample.  [default: FILE's]")
@click.option(
    "--input",
    "entry",
    type=click.Choice(["constant"]),
    help="For a network that spikes feed: the codes of the image are graded spikes, the same at "
    "every step.",
)
@click.option(
    "--levels",
    type=click.IntRange(1),
    help=f"With --input constant: steps of grey.  [default: {PIXEL_LEVELS}]",
)
@click.option(
    "--shape", metavar="C,H,W", help="Of the image, if FILE's input is a vector of that size."
)
@click.option(
    "--pixels",
    type=(float, float),
    metavar="BLACK WHITE",
    help="The values that black and white had in training, if FILE has input neurons.  "
    "[default: 0 1]",
)
@click.option(
    "--readout",
    type=click.Choice(["spikes", "membrane"]),
    help="What of the last layer is the answer.  [default: membrane if it can never spike]",
)
@force_option
@json_option
def import_(
    file: Path,
    out: Path,
    target: str | None,
    choices: tuple[str, ...],
    steps: int | None,
    entry: str | None,
    levels: int | None,
    shape: str | None,
    pixels: tuple[float, float] | None,
    readout: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Read the netx FILE of lava-dl as integers, to simulate, check, price and attack it.

    What cannot be expressed is listed, all of it, and nothing is written.
    """
    from snnc.frontend.netx.load import read_netx
    from snnc.ir.files import refuse_existing
    from snnc.ir.show import show_program
    from snnc.ir.store import save_program
    from snnc.targets import registry
    from snnc.targets.build import write_build

    wanted = _wanted(steps, entry, levels, shape, pixels, readout)
    is_file = out.suffix == ".snnx"
    if is_file and (target or choices):
        raise click.UsageError("a program file is for no target; name a build directory")
    refuse_existing(out, force=force)
    program = read_netx(file, wanted)
    if is_file:
        save_program(out, program, force=force)
    else:
        chosen = registry.load(target or "reference", parsed_options(choices))
        write_build(out, chosen, program, None, force=force)
    written = f"wrote {out}" if is_file else f"wrote {out}/ (simulate it: snnc simulate {out})"
    result: dict[str, object] = {
        "file": str(file),
        "out": str(out),
        "target": None if is_file else target or "reference",
        "steps": program.steps,
        "layers": [population.name for population in program.populations],
        "show": show_program(program),
    }
    emit(result, f"{show_program(program)}\n\n{written}", as_json=as_json)


def _wanted(
    steps: int | None,
    entry: str | None,
    levels: int | None,
    shape: str | None,
    pixels: tuple[float, float] | None,
    readout: str | None,
) -> Wanted:
    from snnc.frontend.netx.load import Wanted
    from snnc.frontend.netx.notes import Readout

    if entry != "constant" and levels is not None:
        raise click.UsageError("--levels belongs to --input constant")
    if entry == "constant":
        levels = PIXEL_LEVELS if levels is None else levels
    try:
        size = None if shape is None else tuple(int(part) for part in shape.split(","))
    except ValueError:
        size = ()
    if size is not None and (len(size) != 3 or min(size) < 1):
        raise click.BadParameter(f"{shape!r} is not C,H,W, such as 1,28,28", param_hint="--shape")
    return Wanted(
        steps=steps,
        levels=levels,
        shape=size,
        pixels=pixels,
        readout=None if readout is None else Readout(readout),
    )
