"""snnc inspect."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.output import emit, json_option, table
from snnc.cli.sources import load_network, trust_option
from snnc.ir.program import Program


@click.command(epilog="Example: snnc inspect model.pt")
@click.argument("path", type=click.Path(path_type=Path))
@trust_option
@json_option
def inspect(path: Path, trust: bool, as_json: bool) -> None:
    """Show what PATH holds: a checkpoint, a graph (.snn), a program (.snnx) or a build."""
    if path.is_dir():
        from snnc.targets.build import load_build

        build = load_build(path)
        _program(build.program, {"target": build.target, "mapping": build.mapping}, as_json)
    elif path.suffix == ".snnx":
        from snnc.ir.store import load_program

        _program(load_program(path), {}, as_json)
    else:
        _graph(path, trust, as_json)


def _graph(path: Path, trust: bool, as_json: bool) -> None:
    from math import prod

    from snnc.ir.graph import Conv2d, Linear
    from snnc.ir.show import show
    from snnc.ir.weights import nonzeros

    graph = load_network(path, trust=trust)
    rows = [
        (node.name, prod(node.op.weight.shape), nonzeros(node.op.weight))
        for node in graph.nodes
        if isinstance(node.op, Conv2d | Linear)
    ]
    weights, kept = sum(row[1] for row in rows), sum(row[2] for row in rows)
    sparsity = 1.0 - kept / weights if weights else 0.0
    shares = [(*row, f"{1 - row[2] / row[1]:.2%}") for row in rows]
    emit(
        {
            "kind": "graph",
            "steps": graph.steps,
            "weights": weights,
            "nonzero": kept,
            "sparsity": sparsity,
            "layers": [{"name": n, "weights": w, "nonzero": k} for n, w, k in rows],
            "class_names": list(graph.class_names),
            "provenance": dict(graph.provenance),
            "show": show(graph),
        },
        f"{show(graph)}\n\n{table(['layer', 'weights', 'not zero', 'sparsity'], shares)}\n"
        f"{kept:,} of {weights:,} weights are not zero: {sparsity:.2%} sparse",
        as_json=as_json,
    )


def _program(program: Program, extra: dict[str, object], as_json: bool) -> None:
    from snnc.cli.compile import account_text
    from snnc.ir.show import show_program
    from snnc.ir.weights import nonzeros
    from snnc.quantization.account import account_of

    text = show_program(program)
    layers = [
        {
            "name": population.name,
            "neurons": population.size,
            "synapses": [
                {"name": b.name, "source": b.source, "nonzero": nonzeros(b.weight)}
                for b in population.synapses
            ],
            "scale": population.scale,
        }
        for population in program.populations
    ]
    told = account_of(program)
    lines = [f"{key}: {value}" for key, value in extra.items() if key == "target"]
    lines += [text] if told is None else [text, "", account_text(told)]
    emit(
        {
            "kind": "program",
            "steps": program.steps,
            "layers": layers,
            "provenance": dict(program.provenance),
            "show": text,
            **extra,
        },
        "\n".join(lines),
        as_json=as_json,
    )
