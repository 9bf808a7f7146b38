"""snnc compile, and how networks, targets, choices and widths are named on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, force_option, json_option, note, progress, table
from snnc.cli.sources import load_network, load_split, same_shape, trust_option
from snnc.passes.quantize import PIXEL_LEVELS

if TYPE_CHECKING:
    from snnc.data.dataset import Images
    from snnc.ir.graph import Graph
    from snnc.ir.program import Program
    from snnc.passes.numbers import Bits, Numbers
    from snnc.quantization.account import Account
    from snnc.targets.build import Build

CALIBRATION = 64  # images: rates of most layers are known to a few per cent

model_argument = click.argument("model", type=click.Path(path_type=Path))
target_option = click.option("--target", required=True, help="A target; see `snnc targets`.")
levels_option = click.option(
    "--levels",
    type=int,
    default=PIXEL_LEVELS,
    show_default=True,
    help="Steps of grey the image is coded with.",
)
choices_option = click.option(
    "-O",
    "--option",
    "choices",
    multiple=True,
    metavar="NAME=VALUE",
    help="Choose something that the target offers; see `snnc targets`. May be repeated.",
)


@click.command(
    "compile",
    epilog="Example: snnc compile model.pt --target loihi   writes the build model-loihi/",
)
@model_argument
@target_option
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Build directory.  [default: MODEL-TARGET]"
)
@levels_option
@click.option(
    "--bits",
    "widths",
    multiple=True,
    metavar="N or LAYER=N",
    help="Width of the weights, sign included, 2 to what the target has; LAYER=N for one layer. "
    "May be repeated.  [default: what the target has]",
)
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Choose the scale of each layer so that it spikes as in the float network, on training "
    "images of this data set.",
)
@click.option(
    "--samples",
    type=int,
    help=f"Calibrate on so many images, class balanced.  [default: {CALIBRATION}]",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder with the files of that data set.  [default: what SNNC_DATA names]",
)
@click.option(
    "--tune",
    metavar="RECIPE",
    help="Then train the integers through their exact forward pass, with the data, [finetune] and "
    "seed of this recipe. Needs --calibrate.",
)
@choices_option
@click.option("--dump", is_flag=True, help="Print the graph after each pass.")
@trust_option
@force_option
@json_option
def compile_(
    model: Path,
    target: str,
    out: Path | None,
    levels: int,
    widths: tuple[str, ...],
    calibrate: str | None,
    samples: int | None,
    data_root: Path | None,
    tune: str | None,
    choices: tuple[str, ...],
    dump: bool,
    trust: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Compile MODEL, a checkpoint (.pt) or a graph (.snn), to integers for a target."""
    from snnc.ir.files import refuse_existing
    from snnc.targets import registry
    from snnc.targets.build import load_build, write_build

    if calibrate is None and (samples is not None or data_root is not None):
        raise click.UsageError("--samples and --data-root belong to --calibrate; name a data set")
    if tune is not None and (calibrate is None or dump):
        raise click.UsageError("--tune needs --calibrate, for the scales, and has no --dump")
    bits = parsed_bits(widths)
    chosen = registry.load(target, parsed_options(choices))
    directory = out or Path(f"{model.stem}-{target}")
    refuse_existing(directory, force=force)
    graph = load_network(model, trust=trust)
    images = None if calibrate is None else _images(graph, calibrate, samples, data_root)
    if tune is not None and images is not None:
        program, account = _tuned(graph, chosen.numbers, tune, images, levels, bits, data_root)
    else:
        program, account = _compiled(graph, chosen.numbers, images, levels, bits, dump=dump)
    write_build(directory, chosen, program, graph, force=force)
    told, said = _told(directory, load_build(directory), account)
    emit(told, said, as_json=as_json)


def _compiled(
    graph: Graph,
    numbers: Numbers,
    images: Images | None,
    levels: int,
    bits: Bits | None,
    *,
    dump: bool,
) -> tuple[Program, Account]:
    """Compile, telling how far it is; with `dump`, print the graph after each pass."""
    from snnc.ir.show import show, show_program
    from snnc.quantization.calibrate import compile_accounted

    def print_pass(name: str, after: Graph) -> None:
        note(f"# after {name}\n{show(after)}\n")

    if dump:
        note(f"# input\n{show(graph)}\n")
    with progress("calibrating layers") as advance:
        program, account = compile_accounted(
            graph,
            numbers,
            images=images,
            levels=levels,
            bits=bits,
            observe=print_pass if dump else None,
            progress=advance,
        )
    if dump:
        note(f"# after quantize\n{show_program(program)}\n")
    return program, account


def _tuned(
    graph: Graph,
    numbers: Numbers,
    recipe: str,
    images: Images,
    levels: int,
    bits: Bits | None,
    root: Path | None,
) -> tuple[Program, Account]:
    """Compile and train the integers, telling where the training is and what it found."""
    from snnc.learn.recipes import load_recipe
    from snnc.learn.tune import compile_tuned

    note("calibrating layers, then tuning")
    found = compile_tuned(
        graph,
        numbers,
        load_recipe(recipe),
        images=images,
        levels=levels,
        bits=bits,
        root=root,
        progress=lambda advance: note(f"tune: {advance}"),
    )
    note(", ".join(f"{name} {value:.4g}" for name, value in found.metrics.items()))
    return found.program, found.account


def parsed_options(choices: Sequence[str]) -> dict[str, str]:
    """Return NAME=VALUE pairs as a mapping.

    >>> parsed_options(["image=bias"])
    {'image': 'bias'}
    """
    found: dict[str, str] = {}
    for each in choices:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"{each!r} is not NAME=VALUE", param_hint="--option")
        if name in found:
            raise click.BadParameter(f"{name!r} is chosen twice", param_hint="--option")
        found[name] = value
    return found


def parsed_bits(widths: Sequence[str]) -> Bits | None:
    """Return the widths that `N` and `LAYER=N` ask for; None where nothing is asked.

    >>> parsed_bits(["4", "conv1=8"])
    Bits(others=4, layers={'conv1': 8})
    """
    from snnc.passes.numbers import Bits

    if not widths:
        return None
    found: dict[str, int] = {}
    for each in widths:
        layer, named, number = each.rpartition("=")
        if not number.isdecimal() or (named and not layer):
            raise click.BadParameter(f"{each!r} is neither N nor LAYER=N", param_hint="--bits")
        if layer in found:
            name = repr(layer) if layer else "the width of all layers"
            raise click.BadParameter(f"{name} is given twice", param_hint="--bits")
        found[layer] = int(number)
    if "" not in found:
        raise click.BadParameter(
            "only single layers have a width; give one for all others too, such as --bits 8",
            param_hint="--bits",
        )
    others = found.pop("")
    return Bits(others=others, layers=found)


def _images(graph: Graph, name: str, samples: int | None, root: Path | None) -> Images:
    """Return training images to calibrate on."""
    from snnc.ir.graph import Input

    split = load_split(
        name,
        split="train",
        samples=CALIBRATION if samples is None else samples,
        root=root,
        classes=graph.class_names,
    )
    image = graph.nodes[0].op
    assert isinstance(image, Input)  # noqa: S101 - a graph begins with its input
    same_shape(image.shape, split, name)
    return split.images


def _told(directory: Path, build: Build, account: Account) -> tuple[dict[str, object], str]:
    """Return what to say of a build, for tools and for people."""
    from snnc.ir.show import show_program
    from snnc.ir.weights import nonzeros
    from snnc.passes.copies import copied_weights

    program = build.program
    copies = copied_weights(program)
    weights = sum(nonzeros(each.weight) for into in program.populations for each in into.synapses)
    told = {
        "build": str(directory),
        "target": build.target,
        "options": dict(build.options),
        "mapping": build.mapping,
        "quantization": account.to_json(),
        "weights": weights,
        "copied_weights": copies,
    }
    lines = [show_program(program), "", account_text(account)]
    if copies:
        lines.append(
            f"{copies} of {weights} weights are copies made for sums that several layers read"
        )
    return told, "\n".join(
        [*lines, "", f"wrote {directory}/ (simulate it: snnc simulate {directory})"]
    )


def account_text(account: Account) -> str:
    """Return the table of all layers and what is to be said of it, for people."""
    columns, rows = account.rows()
    lines = [table(columns, rows)]
    if account.worst is not None:
        lines.append(
            f"errors on {account.images} calibration images, in spikes / neuron / step; alone: how "
            "far this layer's integers move the logits while all others are floats, in standard "
            f"deviations\n{account.worst} hurts most"
        )
    return "\n".join([*lines, *account.remarks])
