"""A picture of a partition: every chip a block, every core a square, filled as far as it is full.

The number in a square is its layer's in the legend, so that colour is never the only difference.
Colours follow the viewer's light or dark scheme; the file stands alone.
"""

from __future__ import annotations

from math import ceil

from snnc.report.markup import Markup, join, tag
from snnc.report.svg import box, line, text

from snnc_targets.loihi.cores.chip import Chip, Constant
from snnc_targets.loihi.cores.cut import Core, Cut, fullness, scarcest, share
from snnc_targets.loihi.cores.partition import Partition
from snnc_targets.loihi.cores.placement import Slot, slots

WIDTH = 960.0
MARGIN = 24.0
CELL = 26.0  # of a core, its gap included
GAP = 2.0
SIDE = 2  # of a tile of four cores
ROW = 23.0  # of the legend
COLOURS = 8  # neighbours differ; the numbers tell apart those that share one

STYLE = """
svg { --paper: #ffffff; --ink: #16191d; --quiet: #5b646e; --rule: #dfe3e7; --empty: #f3f5f7;
  background: var(--paper); font-family: system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
.c0 { --c: #0b6fb0; } .c1 { --c: #c2571a; } .c2 { --c: #0a8a66; } .c3 { --c: #8a4fa3; }
.c4 { --c: #a87900; } .c5 { --c: #c03a5b; } .c6 { --c: #17808f; } .c7 { --c: #6b6f78; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #111417; --ink: #e7eaee; --quiet: #9aa5b1; --rule: #2b3138; --empty: #191d22; }
  .c0 { --c: #58b2e8; } .c1 { --c: #f0904f; } .c2 { --c: #35c79b; } .c3 { --c: #c08be0; }
  .c4 { --c: #e0b13c; } .c5 { --c: #f07a97; } .c6 { --c: #4cc3d4; } .c7 { --c: #a6adb7; }
}
text { fill: var(--ink); font-size: 13.5px; font-variant-numeric: tabular-nums; }
.title { font-size: 20px; font-weight: 650; }
.tick { fill: var(--quiet); font-size: 12.5px; }
.head { fill: var(--quiet); font-size: 12.5px; }
.number { font-size: 10.5px; font-weight: 600; text-anchor: middle; pointer-events: none; }
.chip { fill: none; stroke: var(--rule); stroke-width: 1; }
.free { fill: var(--empty); }
.room { fill: var(--c); fill-opacity: .16; }
.full { fill: var(--c); fill-opacity: .62; pointer-events: none; }
.rule { stroke: var(--rule); stroke-width: 1; }
"""


def picture(found: Partition) -> str:
    """Return an SVG file of a partition, its cores along the snake (see `placement`).

    The fill of a core is the share that it uses of its scarcest resource.
    """
    chip = found.chip
    at = slots(chip, found.cores)
    heading = 92.0
    blocks, below = _chips(found, at, heading)
    legend, end = _legend(found, below + 34)
    notes = _notes(found)
    height = end + 20 * len(notes) + MARGIN
    body = tag(
        "svg",
        tag("style", Markup(STYLE)),
        text(MARGIN, 40, _headline(found), class_="title"),
        text(MARGIN, 64, _subtitle(found), class_="tick"),
        blocks,
        legend,
        *(text(MARGIN, end + 20 * (n + 1), note, class_="tick") for n, note in enumerate(notes)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        width=WIDTH,
        height=height,
        role="img",
        aria_label=_headline(found),
    )
    return body.html + "\n"


def _headline(found: Partition) -> str:
    cores, chips = found.cores, found.chips
    return (
        f"{cores} core{'s' * (cores != 1)} on {chips} {found.chip.title} chip{'s' * (chips != 1)}"
    )


def _subtitle(found: Partition) -> str:
    usable = found.chip.constant(Constant.CORES_PER_CHIP)
    return (
        f"Each square is one of the {usable} cores of a chip: its number is its layer's, its fill "
        "the share used of its scarcest resource."
    )


def _notes(found: Partition) -> list[str]:
    """Return what leaving zeros out saved, and how well the limits are known."""
    kept = sum(cut.kept_cores for cut in found.cuts)
    words = sum(cut.words for cut in found.cuts)
    kept_words = sum(cut.kept_words for cut in found.cuts)
    zeros = sum(
        int(bundle.used.size - bundle.used.sum()) for cut in found.cuts for bundle in cut.wirings
    )
    saved = f"With every zero stored: {kept:,} cores and {kept_words:,} words; as drawn, {words:,}."
    evidence = sorted({known.evidence.value for known in found.chip.limits.values()})
    known = f"Evidence of these limits: {', '.join(evidence)}; mapping.json names their sources."
    return [saved, known] if zeros else [known]


def _chips(found: Partition, at: tuple[Slot, ...], top: float) -> tuple[Markup, float]:
    """Return the blocks, and where they end."""
    chip = found.chip
    wide = SIDE * chip.constant(Constant.TILE_COLUMNS) * CELL + 16
    high = SIDE * chip.constant(Constant.TILE_ROWS) * CELL + 16
    per_row = max(1, int((WIDTH - 2 * MARGIN + 20) // (wide + 20)))
    cores = [(n, cut, core) for n, cut in enumerate(found.cuts) for core in cut.cores]
    drawn = []
    corner = {
        each: (
            MARGIN + (each % per_row) * (wide + 20),
            top + (each // per_row) * (high + 40),
        )
        for each in range(found.chips)
    }
    inside = slots(chip, chip.constant(Constant.CORES_PER_CHIP))
    for each, (left, upper) in corner.items():
        drawn.append(text(left, upper + 4, f"chip {each + 1}", class_="tick"))
        drawn.append(box(left, upper + 12, wide, high, "chip"))
        for slot in inside:
            x, y = _place(slot)
            drawn.append(box(left + 8 + x, upper + 20 + y, CELL - GAP, CELL - GAP, "free"))
    for (number, cut, core), slot in zip(cores, at, strict=True):
        left, upper = corner[slot.chip]
        x, y = _place(slot)
        drawn.append(_core(chip, number, cut, core, left + 8 + x, upper + 20 + y))
    return join(drawn), top + ceil(found.chips / per_row) * (high + 40)


def _place(slot: Slot) -> tuple[float, float]:
    """Return where a core lies in its chip."""
    row, column = divmod(slot.core, SIDE)
    return CELL * (SIDE * slot.column + column), CELL * (SIDE * slot.row + row)


def _core(chip: Chip, number: int, cut: Cut, core: Core, x: float, y: float) -> Markup:
    side, level = CELL - GAP, min(fullness(chip, core), 1.0)
    worst = scarcest(chip, core)
    tip = (
        f"{cut.name}: {core.box.neurons} neurons, {core.use[worst]:,} {chip.limits[worst].unit} of "
        f"{chip.limit(worst):,} ({share(chip, worst, core.use[worst]):.0%}, {_words(worst.value)})"
    )
    colour = f"c{number % COLOURS}"
    return join(
        [
            box(x, y, side, side, f"room {colour}", tip),
            box(x, y + side * (1 - level), side, side * level, f"full {colour}"),
            text(x + side / 2, y + side / 2 + 4, str(number + 1), class_="number", anchor="middle"),
        ]
    )


def _legend(found: Partition, top: float) -> tuple[Markup, float]:
    """Return a table of the layers, and where it ends."""
    chip = found.chip
    heads = (
        (MARGIN, "start", "layer"),
        (400.0, "end", "neurons"),
        (480.0, "end", "cores"),
        (590.0, "end", "words"),
        (620.0, "start", "scarcest resource"),
        (WIDTH - MARGIN, "end", "fullest core uses"),
    )
    drawn = [text(x, top, name, class_="head", anchor=anchor) for x, anchor, name in heads]
    drawn.append(line((MARGIN, top + 9), (WIDTH - MARGIN, top + 9), "rule"))
    for number, cut in enumerate(found.cuts):
        y = top + 9 + ROW * (number + 1) - 5
        binding = cut.binding(chip)
        fullest = share(chip, binding, cut.largest(binding))
        cells = (
            f"{cut.neurons:,}",
            f"{len(cut.cores):,}",
            f"{cut.words:,}",
            _words(binding.value),
            f"{fullest:.0%}",
        )
        colour = f"c{number % COLOURS}"
        drawn += [
            box(MARGIN, y - 13, 18, 18, f"room {colour}"),
            box(
                MARGIN,
                y - 13 + 18 * (1 - min(fullest, 1)),
                18,
                18 * min(fullest, 1),
                f"full {colour}",
            ),
            text(MARGIN + 9, y, str(number + 1), class_="number", anchor="middle"),
            text(MARGIN + 28, y, _shortened(cut.name)),
        ]
        drawn += [
            text(x, y, cell, anchor=anchor)
            for (x, anchor, _), cell in zip(heads[1:], cells, strict=True)
        ]
    return join(drawn), top + 9 + ROW * len(found.cuts) + 6


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shortened(name: str, most: int = 38) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
