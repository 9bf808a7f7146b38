"""Picture: one image on its way through the network, every spike shown."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from snnc.errors import InvalidFile
from snnc.ir.files import read_bytes
from snnc.ir.program import Layer, Program
from snnc.report.markup import Child, Markup, join, tag
from snnc.report.page import Section, absent, paragraph
from snnc.report.svg import cells, for_both_widths
from snnc.report.wording import count, number, plural

S = TypeVar("S", bound=np.generic)
MOST_BYTES = 2**28  # of all arrays of a raster: more than any picture needs
MOST_PIXELS = 96  # along one side of the drawn image
MOST_NEURONS = 4096  # of one layer in the raster
MOST_MAPS = 64  # channels of one layer drawn as maps
CELL = 6.0  # the size of a cell in a row of maps that fills the page
COLUMNS = 64  # cells in one line of a layer without rows and columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One image and the spikes it caused."""

    image: npt.NDArray[np.float64]  # (channels, height, width), values in [0, 1]
    label: int
    prediction: int
    rasters: Mapping[str, npt.NDArray[np.bool_]]  # layer -> (steps, neurons)


def read_example(path: Path, program: Program) -> Example:
    """Read raster.npz: `image`, `label`, `prediction`, and one array for each layer.

    Raises:
        InvalidFile: it is damaged, or its arrays are not those of the program.
    """
    arrays = _arrays(path)
    rasters = {layer.name: (program.steps, layer.size) for layer in program.layers}
    expected: dict[str, tuple[int, ...]] = {"label": (), "prediction": (), **rasters}
    expected["image"] = arrays["image"].shape if "image" in arrays else ()
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected or len(found["image"]) not in (1, 3):
        raise InvalidFile(
            f"{path}: holds {_shapes(found)}; the program needs {_shapes(expected)}; write it again"
        )
    if any(arrays[name].dtype != np.bool_ for name in rasters):
        raise InvalidFile(f"{path}: a raster is not of booleans; write it again")
    image = arrays["image"].astype(np.float64)
    if not (image.size and image.min() >= 0.0 and image.max() <= 1.0):  # NaN fails too
        raise InvalidFile(f"{path}: the image is not within [0, 1]; write it again")
    return Example(
        image=image if image.ndim == 3 else image.reshape(1, 1, -1),
        label=int(arrays["label"]),
        prediction=int(arrays["prediction"]),
        rasters={name: arrays[name] for name in rasters},
    )


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    content = read_bytes(path, "the raster.npz of a run")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidFile(f"{path}: not a readable raster ({error}); write it again") from error


def example(found: Example | None, program: Program | None) -> Section:
    """Draw the image, the spike counts of each layer as maps, and the raster."""
    return Section(
        anchor="example",
        title="One image, every spike",
        caption=(
            "What the deployed integers did with one test image. In the maps, a cell is a neuron, "
            "in stronger colour the more often it spiked; below them, a column is a neuron and a "
            "row a time step, and every mark is one spike. Much empty space is good: what stays "
            "silent costs next to nothing."
        ),
        body=absent("raster.npz and the compiled program are not both in the run directory")
        if found is None or program is None
        else _pictures(found, program),
    )


def _pictures(found: Example, program: Program) -> Markup:
    names = program.class_names
    verdict = "which is right" if found.label == found.prediction else "which is wrong"
    said = f"label {_class(names, found.label)}, predicted {_class(names, found.prediction)}"
    total = sum(int(raster.sum()) for raster in found.rasters.values())
    neurons = sum(layer.size for layer in program.layers)
    return join(
        [
            tag(
                "div",
                tag(
                    "figure",
                    _image(found.image),
                    tag("figcaption", f"{said}, {verdict}"),
                    class_="image",
                ),
                paragraph(
                    tag("strong", f"{count(total)} spikes"),
                    f" in {plural(program.steps, 'step')} from {count(neurons)} neurons, "
                    f"{number(total / neurons, 3)} per neuron. The image itself is the input "
                    "current of the first layer at every step.",
                ),
                class_="beside",
            ),
            *(_layer(layer, found.rasters[layer.name]) for layer in program.layers),
        ]
    )


def _class(names: tuple[str, ...], index: int) -> str:
    return names[index] if 0 <= index < len(names) else str(index)


def _image(image: npt.NDArray[np.float64]) -> Markup:
    """Draw the pixels; of a large image, every n-th."""
    every = -(-max(image.shape[1:]) // MOST_PIXELS)
    shown = np.rint(255 * image[:, ::every, ::every]).astype(int)
    colour = shown if len(shown) == 3 else np.repeat(shown[:1], 3, axis=0)
    _, high, wide = colour.shape
    pixels = (
        tag(
            "rect",
            x=x,
            y=y,
            width=1.02,  # a little overlap hides seams
            height=1.02,
            fill="#" + "".join(f"{part:02x}" for part in colour[:, y, x]),
        )
        for y in range(high)
        for x in range(wide)
    )
    return tag(
        "svg",
        *pixels,
        viewBox=f"0 0 {wide} {high}",
        role="img",
        aria_label="The image",
        class_="pixels",
    )


def _layer(layer: Layer, raster: npt.NDArray[np.bool_]) -> Markup:
    counts = raster.sum(axis=0)
    silent = int((counts == 0).sum())
    shape = "×".join(map(str, layer.shape))
    title: Child = join(
        [
            tag("strong", layer.name),
            f" {shape}: {count(int(counts.sum()))} spikes, {count(silent)} of "
            f"{plural(layer.size, 'neuron')} silent",
        ]
    )
    return tag(
        "figure",
        tag("figcaption", title),
        for_both_widths(lambda width: _maps(layer, counts, len(raster), width)),
        _raster(layer, raster),
    )


def _maps(layer: Layer, counts: npt.NDArray[np.int64], steps: int, width: float) -> Markup:
    """Draw the spike count of every neuron where it sits: a map for each channel."""
    grid, inside = _tiles(layer, counts, columns=int(width / CELL))
    levels = (
        cells((grid == level) & inside, f"level l{_shade(level, steps)}", plural(level, "spike"))
        for level in np.unique(grid[inside]).tolist()
        if level
    )
    rows, columns = grid.shape
    return tag(
        "svg",
        cells(inside, "empty"),
        *levels,
        viewBox=f"0 0 {columns} {rows}",
        style=f"max-width:{9 * columns}px",
        class_="mask deployed",
        role="img",
        aria_label=f"Spike counts of {layer.name}",
    )


def _tiles(
    layer: Layer, counts: npt.NDArray[np.int64], columns: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return counts as one picture of tiles, and which of its cells are neurons."""
    if len(layer.shape) != 3 or prod(layer.shape[1:]) == 1:
        counts = counts[: MOST_MAPS * COLUMNS]
        columns = min(columns, COLUMNS, len(counts))
        rows = -(-len(counts) // columns)
        padding = rows * columns - len(counts)
        grid = np.pad(counts, (0, padding)).reshape(rows, columns)
        return grid, np.pad(np.ones(len(counts), bool), (0, padding)).reshape(rows, columns)
    channels, high, wide = layer.shape
    shown = min(channels, MOST_MAPS)
    across = min(shown, max(1, columns // (wide + 1)))
    down = -(-shown // across)
    grid = np.zeros((down * across, high + 1, wide + 1), dtype=np.int64)
    inside = np.zeros(grid.shape, dtype=bool)
    grid[:shown, :high, :wide] = counts.reshape(layer.shape)[:shown]
    inside[:shown, :high, :wide] = True
    return _mosaic(grid, down, across), _mosaic(inside, down, across)


def _mosaic(tiles: npt.NDArray[S], down: int, across: int) -> npt.NDArray[S]:
    _, high, wide = tiles.shape
    grid = tiles.reshape(down, across, high, wide).transpose(0, 2, 1, 3)
    return np.asarray(grid.reshape(down * high, across * wide))


def _shade(level: int, steps: int) -> int:
    """Return a darkness from 1 to 8 for 1 to `steps` spikes."""
    return max(1, round(8 * level / steps))


def _raster(layer: Layer, raster: npt.NDArray[np.bool_]) -> Markup:
    every = -(-layer.size // MOST_NEURONS)
    shown = raster[:, ::every]
    steps, neurons = shown.shape
    rows = (
        tag(
            "g",
            cells(shown[step : step + 1], "fill", f"step {step}: {plural(int(n), 'spike')}"),
            transform=f"translate(0 {step})",
        )
        for step, n in enumerate(raster.sum(axis=1))
    )
    note = "" if every == 1 else f"; one neuron in {every} is drawn"
    return join(
        [
            tag(
                "svg",
                *rows,
                viewBox=f"0 0 {neurons} {steps}",
                preserveAspectRatio="none",
                style=f"height:{max(40, min(8 * steps, 160))}px",
                class_="raster deployed",
                role="img",
                aria_label=f"Spike raster of {layer.name}",
            ),
            tag("p", f"step 0 at the top, {plural(neurons, 'neuron')} across{note}", class_="axis"),
        ]
    )


def _shapes(found: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in sorted(found))
