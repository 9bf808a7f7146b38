"""One self-contained page of pictures from a finished run."""

from snnc.report.write import write_report

__all__ = ["write_report"]
