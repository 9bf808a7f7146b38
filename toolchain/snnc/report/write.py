"""A run directory in, one page out."""

from __future__ import annotations

from pathlib import Path

from snnc import __version__
from snnc.errors import InvalidFile, OutputExists
from snnc.ir.files import refuse_existing, write_bytes
from snnc.ir.store import load_graph, load_program
from snnc.report.account import account
from snnc.report.activity import activity
from snnc.report.chain import chain, interval
from snnc.report.energy import energy
from snnc.report.example import example, read_example
from snnc.report.markup import NOTHING, Markup, join, tag
from snnc.report.metrics import Metrics, Robustness, read_metrics
from snnc.report.page import page, paragraph
from snnc.report.quantization import quantization
from snnc.report.robustness import comparison, conclude, robustness
from snnc.report.sparsity import sparsity
from snnc.report.wording import count, percent, plural, sentence

METRICS = "metrics.json"
MODEL = "model.snn"
PROGRAM = Path("reference", "program.snnx")
RASTER = "raster.npz"


def write_report(run: Path, out: Path, *, force: bool) -> Path:
    """Write the report of a run directory as one HTML file, and return its path.

    The page makes no request of any kind, and equal runs give equal bytes. Of the run's
    files, only metrics.json has to be there: what else is missing is named on the page.

    Raises:
        InvalidFile: a file is damaged, or two of them are not of the same run.
        OutputExists: `out` exists and `force` is false.
        CannotWrite: the file system refused; nothing is left half-written.
    """
    refuse_existing(out, force=force)  # before the work, and again when writing
    if out.exists() and not (out.is_file() and out.read_bytes()[:15].lower() == b"<!doctype html>"):
        raise OutputExists(f"{out} is no HTML page, so --force does not replace it")
    write_bytes(out, render(run).encode(), force=force)
    return out


def render(run: Path) -> str:
    """Return the report of a run directory as HTML."""
    if not run.is_dir():
        raise InvalidFile(f"{run}: not a directory; pass the directory of a finished run")
    metrics = read_metrics(run / METRICS)
    model_path, program_path, raster_path = run / MODEL, run / PROGRAM, run / RASTER
    graph = load_graph(model_path) if model_path.exists() else None
    program = load_program(program_path) if program_path.exists() else None
    shown = read_example(raster_path, program) if program and raster_path.exists() else None
    return page(
        f"{metrics.run.recipe}: snnc report",
        _head(metrics),
        [
            chain(metrics),
            robustness(metrics, program.classes if program else None),
            example(shown, program),
            activity(metrics),
            sparsity(metrics, graph, model_path),
            quantization(metrics, graph, program, model_path),
            energy(metrics),
            account(metrics),
        ],
        paragraph(f"Written by snnc {__version__}. This page loads nothing from anywhere."),
    )


def _head(metrics: Metrics) -> Markup:
    run = metrics.run
    found = metrics.accuracy.get("deployed")
    lead = (
        "The network was not compiled to integers, so this page shows training only."
        if found is None
        else f"A spiking network with {percent(metrics.model.sparsity)} of its weights at zero, "
        f"compiled to integers and run for {plural(metrics.model.steps, 'time step')}, names "
        f"{percent(found.value)} {interval(found)} of {count(found.samples)} clean test images "
        "correctly."
    )
    return join(
        [
            paragraph(f"snnc report · recipe {run.recipe} · seed {run.seed}", class_="eyebrow"),
            tag("h1", f"What the deployed integers do on {run.data.name}"),
            paragraph(lead, class_="lead"),
            NOTHING if metrics.robustness is None else _attacked(metrics.robustness),
            paragraph(sentence(run.hardware), class_="note"),
        ]
    )


def _attacked(found: Robustness) -> Markup:
    """Quote the attack, with the conclusion that it allows right behind it."""
    compared = comparison(found)
    verdict = paragraph(
        f"About the attack: {conclude(found).verdict}, see ",
        tag("a", "what may be concluded", href="#robustness"),
        ".",
        class_="note",
    )
    return verdict if compared is None else join([paragraph(compared, class_="lead"), verdict])
