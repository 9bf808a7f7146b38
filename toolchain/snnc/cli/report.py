"""snnc report."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.output import emit, force_option, json_option


@click.command(epilog="Example: snnc report snnc-demo -o report.html")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="The page.  [default: RUN/report.html]"
)
@force_option
@json_option
def report(run: Path, out: Path | None, force: bool, as_json: bool) -> None:
    """Write the report of a RUN directory (made by snnc demo) as one HTML page."""
    from snnc.report import write_report

    page = write_report(run, out or run / "report.html", force=force)
    emit({"report": str(page)}, f"wrote {page}", as_json=as_json)
