"""snnc compile, snnc check."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.output import emit, force_option, json_option, note
from snnc.cli.sources import load_network, trust_option
from snnc.passes.quantize import PIXEL_LEVELS

model_argument = click.argument("model", type=click.Path(path_type=Path))
target_option = click.option("--target", required=True, help="A target; see `snnc targets`.")
levels_option = click.option(
    "--levels",
    type=int,
    default=PIXEL_LEVELS,
    show_default=True,
    help="Steps of grey the image is coded with.",
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
@click.option("--dump", is_flag=True, help="Print the graph after each pass.")
@trust_option
@force_option
@json_option
def compile_(
    model: Path,
    target: str,
    out: Path | None,
    levels: int,
    dump: bool,
    trust: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Compile MODEL, a checkpoint (.pt) or a graph (.snn), to integers for a target."""
    from snnc.ir.files import refuse_existing
    from snnc.ir.graph import Graph
    from snnc.ir.show import show, show_program
    from snnc.passes.compile import compile_graph
    from snnc.targets import registry
    from snnc.targets.build import load_build, write_build

    chosen = registry.load(target)
    directory = out or Path(f"{model.stem}-{target}")
    refuse_existing(directory, force=force)
    graph = load_network(model, trust=trust)

    def print_pass(name: str, after: Graph) -> None:
        note(f"# after {name}\n{show(after)}\n")

    if dump:
        note(f"# input\n{show(graph)}\n")
    program = compile_graph(
        graph, chosen.numbers, levels=levels, observe=print_pass if dump else None
    )
    if dump:
        note(f"# after quantize\n{show_program(program)}\n")
    write_build(directory, chosen, program, graph, force=force)
    mapping = load_build(directory).mapping
    emit(
        {"build": str(directory), "target": target, "mapping": mapping},
        f"{show_program(program)}\n\nwrote {directory}/ (simulate it: snnc simulate {directory})",
        as_json=as_json,
    )


@click.command(epilog="Example: snnc check model.pt --target loihi")
@model_argument
@target_option
@levels_option
@trust_option
@json_option
def check(model: Path, target: str, levels: int, trust: bool, as_json: bool) -> None:
    """List every reason TARGET cannot run MODEL; exit with 1 if there is one."""
    from snnc.passes.compile import compile_graph
    from snnc.targets import registry

    chosen = registry.load(target)
    program = compile_graph(load_network(model, trust=trust), chosen.numbers, levels=levels)
    issues = list(chosen.issues(program))
    lines = [str(issue) for issue in issues] or [f"{target} can run {model}"]
    emit(
        {"target": target, "legal": not issues, "issues": [vars(issue) for issue in issues]},
        "\n".join(lines),
        as_json=as_json,
    )
    if issues:
        raise click.exceptions.Exit(1)
