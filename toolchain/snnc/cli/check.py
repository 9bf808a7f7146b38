"""snnc check."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.compile import (
    choices_option,
    model_argument,
    parsed_bits,
    parsed_options,
    target_option,
)
from snnc.cli.output import emit, force_option, json_option, note, table
from snnc.cli.sources import apart, load_network, trust_option
from snnc.errors import InvalidSetting, Issue, Refusal
from snnc.passes.quantize import PIXEL_LEVELS

if TYPE_CHECKING:
    from snnc.ir.program import Program
    from snnc.passes.numbers import Bits
    from snnc.targets.api import Target
    from snnc.targets.build import Build


@click.command(epilog="Example: snnc check model.pt --target loihi2 --chips 1")
@model_argument
@target_option
@choices_option
@click.option(
    "--bits",
    "widths",
    multiple=True,
    metavar="N or LAYER=N",
    help="Width of the weights, as for snnc compile.  [default: what the target has]",
)
@click.option(
    "--levels",
    type=int,
    help=f"Steps of grey the image is coded with.  [default: {PIXEL_LEVELS}]",
)
@click.option("--chips", type=click.IntRange(min=1), help="Refuse a network that needs more.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Write a picture of the cores as an SVG file.",
)
@trust_option
@force_option
@json_option
def check(
    model: Path,
    target: str,
    choices: tuple[str, ...],
    widths: tuple[str, ...],
    levels: int | None,
    chips: int | None,
    picture: Path | None,
    trust: bool,
    force: bool,
    as_json: bool,
) -> None:
    """List every reason TARGET cannot run MODEL, and exit with 1; else show what it would take.

    MODEL is a checkpoint (.pt), a graph (.snn), a program (.snnx) or a build.
    """
    from snnc.ir.files import refuse_existing
    from snnc.targets import registry
    from snnc.targets.build import load_build

    bits = parsed_bits(widths)
    build = load_build(model) if model.is_dir() else None
    options: Mapping[str, str] = parsed_options(choices)
    if build is not None and build.target == target and not options:
        options = build.options
    chosen = registry.load(target, options)
    if picture is not None:
        apart(picture, model)
        refuse_existing(picture, force=force)
    try:
        program = _program(model, build, chosen, bits, levels, trust)
        issues = list(chosen.issues(program))
    except Refusal as refusal:
        note(str(refusal).splitlines()[0])
        issues = list(refusal.issues)
    mapping: Mapping[str, Any] = {}
    if not issues:
        mapping = _mapping(chosen, program)
        issues = [] if chips is None else _too_many_chips(chosen, program, chips)
        if picture is not None and not issues:
            _write_picture(picture, chosen, program, force=force)
    result = {
        "target": target,
        "options": dict(chosen.options),
        "legal": not issues,
        "issues": [vars(issue) for issue in issues],
        "mapping": mapping,
    }
    if issues:
        emit(result, _refused(model, target, issues), as_json=as_json)
        raise click.exceptions.Exit(1)
    emit(result, _accepted(model, target, program, mapping), as_json=as_json)


def _program(
    model: Path,
    build: Build | None,
    target: Target,
    bits: Bits | None,
    levels: int | None,
    trust: bool,
) -> Program:
    """Return the integers to check: those of a build or a program, else compiled now."""
    from snnc.ir.store import load_program
    from snnc.passes.compile import compile_graph

    if build is not None or model.suffix == ".snnx":
        for option, value in (("--bits", bits), ("--levels", levels)):
            if value is not None:
                raise InvalidSetting(
                    f"{model} holds integers already, so {option} cannot change them; pass the "
                    "checkpoint or the graph that they came from"
                )
        return load_program(model) if build is None else build.program
    graph = load_network(model, trust=trust)
    steps_of_grey = PIXEL_LEVELS if levels is None else levels
    return compile_graph(graph, target.numbers, levels=steps_of_grey, bits=bits)


def _mapping(target: Target, program: Program) -> Mapping[str, Any]:
    """Return the mapping report that a build would hold."""
    with tempfile.TemporaryDirectory(prefix="snnc-check-") as place:
        return target.emit(program, Path(place))


def _write_picture(path: Path, target: Target, program: Program, *, force: bool) -> None:
    from snnc.ir.files import write_bytes
    from snnc.targets.cores import MapsCores

    drawn = target.picture(program) if isinstance(target, MapsCores) else None
    if drawn is None:
        raise InvalidSetting(
            f"target {target.name!r} maps no cores of this network, so there is nothing to draw; "
            "leave --picture out"
        )
    write_bytes(path, drawn.encode("utf-8"), force=force)


def _too_many_chips(target: Target, program: Program, chips: int) -> list[Issue]:
    from snnc.targets.cores import MapsCores

    if not isinstance(target, MapsCores):
        raise InvalidSetting(f"target {target.name!r} has no chips; leave --chips out")
    return list(target.too_many_chips(program, chips))


def _refused(model: Path, target: str, issues: Sequence[Issue]) -> str:
    columns = ("code", "layer", "need", "limit", "problem", "remedy")
    rows = [
        (
            issue.code,
            issue.layer,
            "" if issue.need is None else issue.need,
            "" if issue.limit is None else issue.limit,
            issue.problem,
            issue.remedy,
        )
        for issue in issues
    ]
    count = f"{len(issues)} reason{'s' * (len(issues) != 1)}"
    return f"{target} cannot run {model}, {count}:\n{table(columns, rows)}"


def _accepted(model: Path, target: str, program: Program, mapping: Mapping[str, Any]) -> str:
    if "partition" in mapping:
        return f"{target} can run {model}\n\n{_partition(program, mapping['partition'])}"
    rows = [
        (population.name, population.size, *_kept(program, population.name))
        for population in program.populations
    ]
    columns = ("layer", "neurons", "weights", "not zero")
    return f"{target} can run {model}\n\n{table(columns, rows)}"


def _kept(program: Program, name: str) -> tuple[int, int]:
    """Return how many weights lead to a population, and how many are not zero."""
    from math import prod

    from snnc.ir.weights import nonzeros

    bundles = next(each for each in program.populations if each.name == name).synapses
    weights = sum(prod(bundle.weight.shape) for bundle in bundles)
    return weights, sum(nonzeros(bundle.weight) for bundle in bundles)


def _partition(program: Program, partition: Mapping[str, Any]) -> str:
    """Return the table of the layers, and what it adds up to."""
    columns = (
        "layer",
        "stored",
        "neurons",
        "not zero",
        "cores",
        "words",
        "scarcest",
        "fullest core",
        "mean",
    )
    rows = [
        (
            layer["name"],
            "+".join(each["encoding"] for each in layer["stored"]) or "none",
            layer["neurons"],
            _kept(program, layer["name"])[1],
            layer["cores"],
            layer["synapse_words"],
            layer["binding"].replace("_", " "),
            f"{layer['binding_share']:.1%}",
            f"{layer['utilisation']:.1%}",
        )
        for layer in partition["layers"]
    ]
    return "\n".join([table(columns, rows), "", *_sums(partition)])


def _sums(partition: Mapping[str, Any]) -> list[str]:
    saved, chips = partition["sparsity"], partition["chips"]
    lines = [
        f"{partition['cores']} cores on {chips} {partition['chip']} chip{'s' * (chips != 1)} of "
        f"{partition['cores_per_chip']}",
        f"{saved['synapse_words']:,} words of synaptic memory; with every zero stored "
        f"{saved['synapse_words_with_zeros']:,} on {saved['cores_with_zeros']} cores",
    ]
    if saved["zeros_stored"]:
        names = ", ".join(each["name"] for each in saved["zeros_stored"])
        lines.append(
            f"pruning saves no memory in {names}: a kernel or a dense matrix keeps its zeros"
        )
    best = partition.get("cheapest")
    if best is not None and best["cores"] < partition["cores"]:
        others = ", ".join(f"{each['name']} {each['encoding']}" for each in best["other_encodings"])
        lines.append(f"the fewest cores would be {best['cores']}, with {others}")
    return [*lines, fill(f"how well this is known: {partition['statement']}", 100)]
