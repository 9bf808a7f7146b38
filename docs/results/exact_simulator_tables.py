"""The measurements of the exact simulator as Markdown tables; exact_simulator.py calls this."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import simulators
from simulators_contenders import BASELINE, CONTENDERS
from simulators_lava import TITLES as LAVA_TITLES
from simulators_lava import LavaResult
from simulators_networks import Setting, Shape, uncalibrated
from simulators_peak import UPDATES

OURS = "ours"
PEAKS = (
    "An update is one stored weight at one position, step and image, whether its source spiked or "
    "not. Peaks are multiplications and additions that these cores can do in the same minute when "
    "they do nothing else (G/s): in 16-bit lanes, in pairs (vpmaddwd), in fours of 8 bits "
    "(vpdpbusd). The last column is how many logical operations on single bits they could do "
    "for each update."
)

MEMORY = (
    "Megabytes at most while all images are run, beyond interpreter and libraries. The last row "
    "is what the goal of twice as much refers to: 4 bytes for each weight that is not zero, and "
    "for each neuron of the largest layer, each step and image, 2 bytes of current and 1 of spike."
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was planned and what of it is measured."""

    compared: Sequence[Setting]
    lava: Sequence[tuple[Setting, str, str]]  # setting, contender, name of the record
    sweeps: Mapping[str, Sequence[Setting]]
    records: Mapping[str, Mapping[str, Any]]

    def result(self, kind: str, setting: Setting, contender: str) -> simulators.Result | None:
        """Return what a contender did, None if that is not measured or it cannot."""
        record = self.records.get(f"{kind}/{setting.name}/{contender}")
        if record is None or record["result"]["problem"]:
            return None
        return simulators.from_json(record["result"])

    def where(self, kind: str, setting: Setting, contender: str) -> Mapping[str, Any]:
        """Return the conditions of a measurement."""
        found: Mapping[str, Any] = self.records[f"{kind}/{setting.name}/{contender}"]["where"]
        return found

    def lava_result(self, setting: Setting, contender: str) -> LavaResult | None:
        """Return what Lava did, None if that is not measured or it cannot."""
        for its, name, key in self.lava:
            if (its, name) == (setting, contender) and key in self.records:
                result = LavaResult(**self.records[key]["result"])
                return None if result.problem else result
        return None

    @cached_property
    def vgg(self) -> tuple[Setting, ...]:
        """The settings of the large network."""
        return tuple(s for s in self.compared if s.shape is Shape.VGG16)

    @cached_property
    def small(self) -> tuple[Setting, ...]:
        """The settings of the small networks."""
        return tuple(s for s in self.compared if s.shape is not Shape.VGG16)

    @cached_property
    def counted(self) -> dict[Setting, tuple[int, int]]:
        """The updates of an image, and the bytes that nobody can do without, of each setting."""
        networks = ((setting, uncalibrated(setting)) for setting in self.compared)
        return {
            setting: (network.updates(stored=True), network.least_bytes())
            for setting, network in networks
        }

    def rows(self) -> list[str]:
        """Return everybody: the contenders, then the ways to run Lava."""
        return [*CONTENDERS, *LAVA_TITLES]

    def each(self, setting: Setting, name: str) -> float | None:
        """Return the seconds for one image, None if there is no such number."""
        found = (
            self.lava_result(setting, name)
            if name in LAVA_TITLES
            else self.result("compared", setting, name)
        )
        return None if found is None else found.each

    def ratio(self, setting: Setting, name: str) -> float | None:
        """Return how many times as fast as the baseline: in the same turns, but for Lava."""
        if name not in LAVA_TITLES:
            found = self.result("compared", setting, name)
            return None if found is None else found.ratio
        each, baseline = self.each(setting, name), self.each(setting, BASELINE)
        return None if each is None or baseline is None else baseline / each


def title(name: str) -> str:
    """Return the name of a contender for people."""
    return LAVA_TITLES[name] if name in LAVA_TITLES else CONTENDERS[name].title


def network(setting: Setting) -> str:
    """Return what a setting is, for people."""
    names = {
        Shape.VGG16: "VGG-16 of HYDRA's shape, 3x32x32",
        Shape.CONV: "small convolutional network, 1x28x28",
        Shape.DENSE: "small dense network, 784 inputs",
    }
    width = f"first layer {setting.width} channels" if setting.shape is not Shape.DENSE else ""
    words = [names[setting.shape], width, f"T = {setting.steps}", f"{setting.samples} images"]
    return ", ".join(word for word in words if word)


def markdown(measured: Measured) -> str:
    """Return all tables."""
    parts = [
        "## Against others",
        "Milliseconds for one image, and in brackets how many times as fast as dense PyTorch.",
        *(f"**{network(each[0])}**\n\n{_times(measured, each)}" for each in _groups(measured)),
        *_extrapolated(measured),
        "## Our rate, spread and memory",
        _rates(measured),
        _memory(measured),
        "## How our cost grows",
        *(_sweep(measured, name) for name in measured.sweeps),
        "## Who was run, and how",
        _modes(measured),
        *_absent(measured),
        _conditions(measured),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _groups(measured: Measured) -> list[tuple[Setting, ...]]:
    return [group for group in (measured.vgg, *((s,) for s in measured.small)) if group]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numbers = all(cell[:1].isdigit() for row in rows for cell in row[1:] if cell)
    rule = "---:" if numbers else "---"
    lines = [" | ".join(head), " | ".join(["---", *[rule for _ in head[1:]]])]
    return "\n".join(f"| {line} |" for line in [*lines, *(" | ".join(row) for row in rows)])


def _percent(setting: Setting) -> str:
    return f"{100 * setting.sparsity:g} % zero"


def _times(measured: Measured, settings: Sequence[Setting]) -> str:
    rows = []
    for name in measured.rows():
        cells = []
        for setting in settings:
            each, ratio = measured.each(setting, name), measured.ratio(setting, name)
            some = each is not None and ratio is not None
            cells.append(f"{number(1e3 * each)} ({times(ratio)})" if some else "")
        if any(cells):
            rows.append([title(name), *cells])
    return _table(["", *map(_percent, settings)], rows)


def number(value: float) -> str:
    """Return a number with three digits that count.

    >>> number(0.01234), number(12.34), number(123456.0)
    ('0.0123', '12.3', '123,456')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: float) -> str:
    """Return how many times as fast, or how small a part of it.

    >>> times(12.34), times(0.5), times(0.00002)
    ('12.3 x', '0.5 x', '1/50,000 x')
    """
    return f"{number(ratio)} x" if ratio >= 0.1 else f"1/{number(1 / ratio)} x"


def _extrapolated(measured: Measured) -> list[str]:
    """Say which numbers of Lava stand for steps that were not run."""
    found = []
    for setting, name, _ in measured.lava:
        result = measured.lava_result(setting, name)
        if result is not None and not result.complete:
            found.append(
                f"{title(name)} on {network(setting)}: {result.steps} "
                f"step{'s' if result.steps > 1 else ''} timed ({number(result.seconds)} s) and "
                f"multiplied by T; its spikes were not compared."
            )
    return found


def _rates(measured: Measured) -> str:
    kinds: list[str] = []
    rows = []
    for setting in measured.compared:
        result = measured.result("compared", setting, OURS)
        if result is None:
            continue
        peaks = measured.where("compared", setting, OURS)["peaks"]
        kinds = [kind for kind in UPDATES if kind in peaks]
        rate = measured.counted[setting][0] / result.each
        low, high = (1e3 * f(result.seconds) / result.samples for f in (min, max))
        row = [f"{setting.shape.value}, {_percent(setting)}", f"{1e3 * result.each:.3g}"]
        row += [f"{low:.3g} to {high:.3g}", f"{result.ratio:.3g}", f"{rate / 1e9:.3g}"]
        row += [f"{100 * rate / peaks[kind]:.3g} % of {peaks[kind] / 1e9:.0f}" for kind in kinds]
        row.append(number(peaks["bits"] / rate))
        rows.append(row)
    head = ["", "ms/image", "extremes", "x dense", "G updates/s", *(f"{k} peak" for k in kinds)]
    head.append("bit operations an update")
    return f"{PEAKS}\n\n{_table(head, rows)}"


def _memory(measured: Measured) -> str:
    rows = []
    for name in measured.rows():
        cells = []
        for setting in measured.compared:
            if name in LAVA_TITLES:
                lava = measured.lava_result(setting, name)
                cells.append(f"{lava.memory / 1e6:,.0f}" if lava else "")
            else:
                result = measured.result("compared", setting, name)
                cells.append(f"{result.memory / 1e6:,.0f}" if result else "")
        if any(cells):
            rows.append([title(name), *cells])
    least = [f"{measured.counted[setting][1] / 1e6:,.0f}" for setting in measured.compared]
    rows.append(["weights and one layer's activity", *least])
    head = [f"{s.shape.value}, {_percent(s)}" for s in measured.compared]
    return f"{MEMORY}\n\n{_table(['', *head], rows)}"


def _sweep(measured: Measured, name: str) -> str:
    levels = measured.sweeps[name]
    rows = []
    for contender in (OURS, BASELINE):
        results = [measured.result(f"sweep/{name}", setting, contender) for setting in levels]
        cells = [number(1e3 * result.each) if result else "" for result in results]
        rows.append([f"{title(contender)}, ms/image", *cells])
    results = [measured.result(f"sweep/{name}", setting, OURS) for setting in levels]
    rows.append(["times as fast", *(f"{r.ratio:.3g}" if r else "" for r in results)])
    return _table([name, *(level(name, setting) for setting in levels)], rows)


def level(name: str, setting: Setting) -> str:
    """Return the value of a sweep's variable."""
    match name:
        case "density":
            return f"{100 * (1 - setting.sparsity):g} %"
        case "images at once":
            return str(setting.samples)
        case "steps T":
            return str(setting.steps)
        case _:
            return str(setting.width)


def _modes(measured: Measured) -> str:
    rows = []
    for name in CONTENDERS:
        results = [r for s in measured.compared if (r := measured.result("compared", s, name))]
        if results:
            modes = "; ".join(dict.fromkeys(result.variant for result in results))
            rows.append([title(name), results[0].version, modes])
    return _table(["", "version", "mode that was fastest, network by network"], rows)


def _absent(measured: Measured) -> list[str]:
    """Say who could not be measured, and why."""
    found = {}
    for key, record in measured.records.items():
        if problem := record["result"]["problem"]:
            found[f"{title(record['result']['contender'])}: {problem}"] = key
    return [f"Not measured: {text}." for text in found]


def _conditions(measured: Measured) -> str:
    records = list(measured.records.values())
    if not records:
        return ""
    places = [record["where"] for record in records]

    def all_of(key: str) -> str:
        return ", ".join(dict.fromkeys(str(place.get(key)) for place in places))

    loads = [place["load"] for place in places]
    times = sorted(place["time"] for place in places)
    return (
        f"{all_of('machine')}; {all_of('cores')} of them used. Commit {all_of('commit')}. "
        f"Python {all_of('python')}, torch {all_of('torch')}, numpy {all_of('numpy')}, "
        f"numba {all_of('numba')}. {times[0]} to {times[-1]} UTC; load of the machine in the "
        f"minute before each measurement {min(loads)} to {max(loads)}, median "
        f"{statistics.median(loads):.2g}."
    )
