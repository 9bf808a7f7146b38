"""snnc export."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.output import emit, force_option, json_option
from snnc.cli.sources import apart


@click.command(epilog="Example: snnc export model-loihi --format netx -o model.net")
@click.argument("source", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--format", "form", default="netx", show_default=True, help="netx (lava-dl's HDF5).")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@force_option
@json_option
def export(source: Path, form: str, out: Path, force: bool, as_json: bool) -> None:
    """Write the integers of BUILD, or of a program (.snnx), for another tool.

    What the format cannot express is listed, all of it, and nothing is written.
    """
    from snnc.errors import Refusal
    from snnc.ir.store import load_program
    from snnc.targets import registry
    from snnc.targets.build import load_build

    apart(out, source)
    exporter = registry.load_exporter(form)
    program = load_program(source) if source.is_file() else load_build(source).program
    if issues := exporter.issues(program):
        raise Refusal(f"{exporter.name} cannot express this program", issues)
    usage = exporter.write(program, out, force=force)
    emit(
        {"file": str(out), "format": form, **usage.facts},
        "\n".join([f"wrote {out}", *usage.lines]),
        as_json=as_json,
    )
