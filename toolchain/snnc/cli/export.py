"""snnc export."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import click

from snnc.cli.output import emit, force_option, json_option

GROUP = "snnc.exporters"  # entry points: functions (program, path, *, force) -> mapping


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
    from snnc.errors import UnknownName
    from snnc.ir.store import load_program
    from snnc.targets.build import load_build

    offered = {point.name: point for point in entry_points(group=GROUP)}
    if form not in offered:
        raise UnknownName("format", form, offered)
    program = load_program(source) if source.is_file() else load_build(source).program
    usage = offered[form].load()(program, out, force=force)
    network = ", ".join(f"{name}={value}" for name, value in usage["network"].items())
    lines = [
        f"wrote {out}; in lava-dl:",
        f"  hdf5.Network(net_config={str(out)!r}, {network})",
        f"  feed: {usage['feed']}",
        f"  read: {usage['read']}; sample k starts at step {usage['lag']} + k * {program.steps}",
    ]
    emit({"file": str(out), "format": form, **usage}, "\n".join(lines), as_json=as_json)
