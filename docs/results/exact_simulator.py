"""How fast the exact simulator is: next to its competitors, and as networks grow.

    python docs/results/exact_simulator.py                under an hour on 2 quiet cores
    python docs/results/exact_simulator.py --quick        a tiny run of everything: minutes

measures what is not there yet and writes exact_simulator.json, exact_simulator.md (between
its two markers; the text around them stays) and the pictures simulators.svg and
simulator_scaling.svg. Stop it whenever you like and start it again: what is measured is kept
in the JSON file under the name of its setting and its contender, with the commit, the machine
and the load at that time. `--again PART` forgets what has PART in its name.

How it is measured: tests/benchmarks/simulators.py. How to install the competitors:
tests/benchmarks/simulators_requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "benchmarks")]

# ruff: noqa: E402 - the path is set first
import exact_simulator_pictures as pictures
import exact_simulator_tables as tables
import simulators
import simulators_lava
from simulators_contenders import BASELINE, CONTENDERS
from simulators_networks import Setting, Shape
from simulators_peak import peaks
from snnc.ir.files import write_bytes
from snnc.provenance import commit, machine, versions

Record = dict[str, Any]
SPARSITIES = (0.0, 0.9, 0.95, 0.99)
PACKAGES = ("numpy", "numba", "llvmlite", "nengo")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True, kw_only=True)
class Lava:
    """A run of Lava: some images, or where a step takes too long, some steps."""

    setting: Setting
    contender: str
    samples: int
    steps: int | None

    @property
    def name(self) -> str:
        """What the run is kept under."""
        return f"lava/{self.setting.name}/{self.contender}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is measured."""

    compared: tuple[Setting, ...]  # by all contenders
    lava: tuple[Lava, ...]
    sweeps: Mapping[str, tuple[Setting, ...]]  # by ours and the baseline
    repetitions: int
    sweep_repetitions: int


@dataclass(kw_only=True)
class Book:
    """What is measured so far, and where it is kept."""

    path: Path
    records: dict[str, Record] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, again: str | None) -> Book:
        """Read what is there, less what is to be measured again."""
        records = json.loads(path.read_text())["measurements"] if path.exists() else {}
        kept = {name: record for name, record in records.items() if not (again and again in name)}
        return Book(path=path, records=kept)

    def done(self, name: str) -> bool:
        """Say whether there is a result, or a reason that will not change by itself."""
        if name not in self.records:
            return False
        problem = self.records[name]["result"]["problem"]
        return not problem or "not installed" in problem

    def keep(self, name: str, record: Record) -> None:
        """Write a record down at once."""
        self.records[name] = record
        content = {"measurements": dict(sorted(self.records.items()))}
        write_bytes(self.path, (json.dumps(content, indent=1) + "\n").encode(), force=True)


def full() -> Plan:
    """Return the plan whose results are published."""
    vgg = Setting(shape=Shape.VGG16, width=64, sparsity=0.9, steps=8, samples=128)
    conv = Setting(shape=Shape.CONV, width=32, sparsity=0.9, steps=8, samples=1024)
    dense = Setting(shape=Shape.DENSE, width=64, sparsity=0.9, steps=8, samples=1024)
    runs = [
        Lava(setting=vgg, contender="lava-stock", samples=1, steps=1),
        Lava(setting=vgg, contender="lava", samples=3, steps=None),
        Lava(setting=vgg, contender="lava-inproc", samples=3, steps=None),
    ]
    for small in (conv, dense):
        for contender in simulators_lava.TITLES:
            runs.append(Lava(setting=small, contender=contender, samples=5, steps=None))
    return Plan(
        compared=(*(replace(vgg, sparsity=level) for level in SPARSITIES), conv, dense),
        lava=tuple(runs),
        sweeps={
            "density": _sweep(vgg, sparsity=(0.0, 0.5, 0.8, 0.9, 0.95, 0.99)),
            "images at once": _sweep(vgg, samples=(1, 4, 16, 64, 128)),
            "steps T": _sweep(vgg, steps=(1, 2, 4, 8, 16)),
            "width": _sweep(vgg, width=(16, 32, 64)),
        },
        repetitions=4,
        sweep_repetitions=3,
    )


def quick() -> Plan:
    """Return the same plan on tiny networks: its numbers mean nothing."""
    plan = full()

    def tiny(setting: Setting) -> Setting:
        return replace(setting, width=max(4, setting.width // 8), samples=min(setting.samples, 4))

    compared = (plan.compared[0], *plan.compared[3:])  # the VGG-16 at 0 and 99 %, both small ones
    small = [run for run in plan.lava if run.setting.shape is Shape.DENSE]
    return Plan(
        compared=tuple(tiny(setting) for setting in compared),
        lava=tuple(replace(run, setting=tiny(run.setting), samples=2) for run in small),
        sweeps={
            name: tuple(dict.fromkeys(tiny(setting) for setting in (row[0], row[-1])))
            for name, row in plan.sweeps.items()
        },
        repetitions=2,
        sweep_repetitions=2,
    )


def _sweep(base: Setting, **values: Sequence[float]) -> tuple[Setting, ...]:
    ((name, levels),) = values.items()
    return tuple(replace(base, **{name: level}) for level in levels)


def complete(plan: Plan, book: Book, cores: Sequence[int]) -> None:
    """Measure what is not there."""
    for setting in plan.compared:
        able = [name for name in CONTENDERS if setting.shape in CONTENDERS[name].shapes]
        _compare(book, "compared", setting, able, cores, plan.repetitions)
    for name, settings in plan.sweeps.items():
        for setting in settings:
            kind = f"sweep/{name}"
            _compare(book, kind, setting, ("ours", BASELINE), cores, plan.sweep_repetitions)
    for run in plan.lava:
        if book.done(run.name):
            continue
        click.echo(f"{run.name}: measuring")
        where = conditions(cores)
        result = simulators_lava.measure(
            run.setting, run.contender, samples=run.samples, steps=run.steps, cores=cores
        )
        book.keep(run.name, {"result": asdict(result), "where": where})


def _compare(
    book: Book,
    kind: str,
    setting: Setting,
    contenders: Sequence[str],
    cores: Sequence[int],
    repetitions: int,
) -> None:
    """Measure the contenders that are missing, with the baseline in the same turns."""
    names = {name: f"{kind}/{setting.name}/{name}" for name in contenders}
    missing = [name for name in contenders if not book.done(names[name])]
    if not missing:
        return
    click.echo(f"{kind}/{setting.name}: measuring {', '.join(missing)}")
    where = conditions(cores)
    for result in simulators.measure(setting, missing, cores=cores, repetitions=repetitions):
        if result.contender in missing:
            record = {"result": simulators.as_json(result), "where": where}
            book.keep(names[result.contender], record)


def conditions(cores: Sequence[int]) -> Record:
    """Return where and when something is measured, and the peaks of the cores right now."""
    mine = os.sched_getaffinity(0)
    load = os.getloadavg()[0]
    os.sched_setaffinity(0, cores)
    try:
        fastest = peaks(len(cores))
    finally:
        os.sched_setaffinity(0, mine)
    return {
        **versions(),
        **{package: _version(package) for package in PACKAGES},
        "commit": commit(),
        "machine": machine(),
        "cores": len(cores),
        "load": round(load, 2),  # of the minute before: other programs, and the run before
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "peaks": {kind: round(rate) for kind, rate in fastest.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write(plan: Plan, book: Book, directory: Path, images: Path) -> None:
    """Write the tables and both pictures of what is measured."""
    measured = tables.Measured(
        compared=plan.compared,
        lava=tuple((run.setting, run.contender, run.name) for run in plan.lava),
        sweeps=plan.sweeps,
        records=book.records,
    )
    images.mkdir(parents=True, exist_ok=True)
    page = directory / "exact_simulator.md"
    files: dict[Path, Callable[[], str]] = {
        images / "simulators.svg": lambda: pictures.comparison(measured),
        images / "simulator_scaling.svg": lambda: pictures.scaling(measured),
        page: lambda: _inserted(page, tables.markdown(measured)),
    }
    for path, content in files.items():
        write_bytes(path, content().encode(), force=True)


def _inserted(page: Path, content: str) -> str:
    """Return the page with new content between the markers; a new page is only that."""
    block = f"{BEGIN}\n\n{content}\n{END}\n"
    if not page.exists():
        return f"# How fast the exact simulator is\n\n{block}"
    before, _, rest = page.read_text().partition(BEGIN)
    return before + block + rest.partition(END)[2].removeprefix("\n")


def main() -> None:
    """Complete the plan, then write tables and pictures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny networks, into runs/")
    parser.add_argument("--output", type=Path, help="directory (default: that of this file)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", metavar="PART", help="measure again what has PART in its name")
    parser.add_argument("--draw", action="store_true", help="measure nothing: tables and pictures")
    chosen = parser.parse_args()
    output = chosen.output or (Path("runs/exact_simulator") if chosen.quick else HERE)
    images = HERE.parent / "images" if output.resolve() == HERE else output
    plan = quick() if chosen.quick else full()
    book = Book.open(output / "exact_simulator.json", chosen.again)
    if not chosen.draw:
        complete(plan, book, simulators.cores_here(chosen.threads))
    write(plan, book, output, images)
    click.echo(f"results are in {output}, pictures in {images}")


if __name__ == "__main__":
    main()
