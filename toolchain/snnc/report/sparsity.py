"""Picture: how many weights of each layer are left, and which ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidFile
from snnc.ir.graph import Conv2d, Graph, Linear
from snnc.ir.weights import FloatArray, nonzeros, unpack
from snnc.report.markup import Child, Markup, join, tag
from snnc.report.metrics import Metrics, Model, WeightLayer
from snnc.report.page import Section, absent, folded, heading, paragraph, table
from snnc.report.svg import WIDE, box, cells, drawing, for_both_widths, text
from snnc.report.wording import count, percent, plural

MOST_KERNELS = 2048  # of one layer in one picture
MOST_CELLS = 40_000
Mask = npt.NDArray[np.bool_]


def sparsity(metrics: Metrics, graph: Graph | None, model_path: Path) -> Section:
    """Draw the share of weights kept in each layer, and the mask of each layer.

    Raises:
        InvalidFile: metrics.json and model.snn count other weights, so they are of two runs.
    """
    model = metrics.model
    if graph is not None:
        _same_run(model, graph, model_path)
    return Section(
        anchor="sparsity",
        title="Weights that are left",
        caption=(
            f"{count(model.nonzero)} of {count(model.weights)} weights are not zero "
            f"({percent(1 - model.sparsity)}). Each bar is a whole layer and its filled part the "
            "weights that were kept: a shorter filled part means less memory and fewer additions "
            "for every spike."
        ),
        body=join(
            [
                for_both_widths(lambda width: _bars(model, width)),
                heading("The masks themselves"),
                absent("model.snn is not in the run directory") if graph is None else _masks(graph),
                folded("The numbers", _numbers(model)),
            ]
        ),
    )


def _same_run(model: Model, graph: Graph, path: Path) -> None:
    """Check that two files of a run count the same weights."""
    found = {node.name: node.op for node in graph.nodes if isinstance(node.op, Conv2d | Linear)}
    for layer in model.layers:
        op = found.get(layer.name)
        kept = None if op is None else (int(np.prod(op.weight.shape)), nonzeros(op.weight))
        if kept != (layer.weights, layer.nonzero):
            says = "has no such layer" if kept is None else f"holds {kept[1]} of {kept[0]}"
            raise InvalidFile(
                f"{path}: {layer.name} {says}, metrics.json says {layer.nonzero} of "
                f"{layer.weights} weights; they are not of the same run, run the recipe again"
            )


def _bars(model: Model, width: float) -> Markup:
    wide = width == WIDE
    row = 44.0 if wide else 58.0
    left, right = (150.0, width - 220) if wide else (0.0, width)
    return drawing(
        width,
        row * len(model.layers),
        *(
            _bar(layer, index * row, left, right, wide=wide)
            for index, layer in enumerate(model.layers)
        ),
        label="Share of weights kept in each layer",
    )


def _bar(layer: WeightLayer, top: float, left: float, right: float, *, wide: bool) -> Markup:
    share = layer.nonzero / layer.weights if layer.weights else 0.0
    words = f"{count(layer.nonzero)} of {count(layer.weights)}"
    kept = max((right - left) * share, 1.0 if layer.nonzero else 0.0)
    bar = top + (10 if wide else 28)
    name_at = (left - 12, bar + 16, "end") if wide else (left, top + 20, "start")
    share_at = (right + 12, bar + 16, "start") if wide else (right, top + 20, "end")
    said = f"{percent(share)} · {words}"
    return tag(
        "g",
        box(left, bar, right - left, 22, "empty", f"{layer.name}: {words} weights kept"),
        box(left, bar, kept, 22, "fill", f"{layer.name}: {words} weights kept"),
        text(name_at[0], name_at[1], layer.name, class_="name", anchor=name_at[2]),
        text(share_at[0], share_at[1], said, anchor=share_at[2]),
        class_="snn",
    )


def _masks(graph: Graph) -> Markup:
    parts: list[Child] = [
        paragraph(
            "Every weight of the network as one cell. Of a convolution, one small square is one "
            "kernel, and a column of kernels makes one output channel. Of a matrix, rows are "
            "outputs and columns are inputs.",
            class_="caption",
        ),
        paragraph(
            tag("span", "positive", class_="chip plus"),
            " ",
            tag("span", "negative", class_="chip minus"),
            " ",
            tag("span", "pruned", class_="chip none"),
        ),
    ]
    for node in graph.nodes:
        match node.op:
            case Conv2d(weight=weight):
                parts.append(_kernels(node.name, unpack(weight)))
            case Linear(weight=weight):
                parts.append(_matrix(node.name, unpack(weight)))
            case _:
                pass  # holds no weights
    return join(parts)


def _kernels(name: str, weight: FloatArray) -> Markup:
    """Lay kernels out as (input channel, output channel) with a gap of one cell."""
    out, channels, high, wide = weight.shape
    shown = weight[: max(1, MOST_KERNELS // channels)]
    grid = np.zeros((channels, high + 1, len(shown), wide + 1))
    grid[:, :high, :, :wide] = shown.transpose(1, 2, 0, 3)
    inside = np.zeros(grid.shape, dtype=bool)
    inside[:, :high, :, :wide] = True
    flat = (channels * (high + 1), len(shown) * (wide + 1))
    kind = f"{plural(out, 'output channel')} × {plural(channels, 'input')}, kernels {high}×{wide}"
    return _mask(name, kind, grid.reshape(flat), inside.reshape(flat), out, len(shown), "kernels")


def _matrix(name: str, weight: FloatArray) -> Markup:
    shown = weight[: max(1, MOST_CELLS // weight.shape[1])]
    kind = f"{count(weight.shape[0])} outputs × {count(weight.shape[1])} inputs"
    inside = np.ones(shown.shape, dtype=bool)
    return _mask(name, kind, shown, inside, len(weight), len(shown), "matrix")


def _mask(
    name: str, kind: str, values: FloatArray, inside: Mask, outputs: int, shown: int, form: str
) -> Markup:
    rows, columns = values.shape
    note = "" if shown == outputs else f"; the first {count(shown)} outputs are drawn"
    stretch = "none" if form == "matrix" else None
    height = f"height:{min(max(8 * rows, 60), 260)}px" if form == "matrix" else None
    cell = min(14, max(5, 880 // columns))
    width = f"max-width:{cell * columns}px"
    picture = tag(
        "svg",
        cells(inside, "empty"),
        cells(values > 0, "plus"),
        cells(values < 0, "minus"),
        viewBox=f"0 0 {columns} {rows}",
        preserveAspectRatio=stretch,
        class_="mask",
        style=";".join(filter(None, (width, height))),
        role="img",
        aria_label=f"Mask of {name}",
    )
    title = join([tag("strong", name), f" {kind}{note}"])
    return tag("figure", tag("figcaption", title), picture)


def _numbers(model: Model) -> Markup:
    return table(
        ["layer", "weights", "kept", "share", "threshold"],
        (
            [
                layer.name,
                count(layer.weights),
                count(layer.nonzero),
                percent(layer.nonzero / layer.weights) if layer.weights else "",
                "" if layer.threshold is None else f"{layer.threshold:.4g}",
            ]
            for layer in model.layers
        ),
    )
