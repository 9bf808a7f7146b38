"""Our exact simulator against what a user could run instead: one network, the same spikes.

    python tests/benchmarks/simulators.py                           VGG-16, 90 % of weights zero
    python tests/benchmarks/simulators.py --sparsity 0.99 --samples 32 --threads 1
    python tests/benchmarks/simulators.py --shape conv --width 8 --contenders ours,dense

prints a table. `simulators_requirements.txt` says how to install the competitors; those that
are not installed are named with the reason. Who they are and how each is run:
`simulators_contenders.py`; what they run: `simulators_networks.py`.

Before anything is timed, every neuron of every layer must have spiked as often in each
simulator as in dense PyTorch; else there is no table. Then the simulators run in turn, each
in a process of its own that waits meanwhile, all on the same cores: times are medians with
their extremes, ratios are of medians of the same turns. From encoded images in memory to
logits in memory; building the network is not timed. Memory is the largest resident set of a
fresh process during its second run, less what it held before it knew the network. Nothing
here asserts on time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from simulators_contenders import BASELINE, CONTENDERS
from simulators_networks import Setting, Shape, draw, save, uncalibrated
from simulators_peak import UPDATES, peaks

WORKER = Path(__file__).with_name("simulators_worker.py")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Disagreement(Exception):
    """Two simulators computed different spikes: there is nothing to compare."""


class Failed(Exception):
    """A contender's process did not answer as it should."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one contender did on one network, next to the baseline in the same turns."""

    contender: str
    problem: str  # why it does not take part; then the rest is empty
    version: str = ""
    variant: str = ""
    samples: int = 0
    seconds: tuple[float, ...] = ()
    baseline: float = 0.0  # median seconds of the baseline for one image, in the same turns
    memory: int = 0  # bytes

    @property
    def each(self) -> float:
        """The median of the seconds for one image."""
        return statistics.median(self.seconds) / self.samples

    @property
    def ratio(self) -> float:
        """How many times as fast as the baseline."""
        return self.baseline / self.each


class Worker:
    """A contender's process. `with` ends it."""

    def __init__(
        self,
        contender: str,
        network: Path,
        *,
        samples: int,
        cores: Sequence[int],
        variant: str | None = None,
    ) -> None:
        self.contender = contender
        self.samples = min(samples, CONTENDERS[contender].samples or samples)
        words = [sys.executable, str(WORKER), contender, str(network)]
        words += ["--samples", str(self.samples), "--cores", ",".join(map(str, cores))]
        words += ["--variant", variant] if variant else []
        environ = {**os.environ, **dict.fromkeys(THREADS, str(len(cores)))}
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environ,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and return the answer.

        Raises:
            Failed: the process reports a problem, or ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it says why in what is read now
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer and return it.

        Raises:
            Failed: the process reports a problem, or ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"its process ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if "problem" in found:
            raise Failed(found["problem"])
        return found


def measure(
    setting: Setting, contenders: Sequence[str], *, cores: Sequence[int], repetitions: int
) -> list[Result]:
    """Run contenders in turn on one network, the baseline always among them.

    Raises:
        Disagreement: they do not compute the same spikes or logits.
        Failed: the baseline does not run.
    """
    results: dict[str, Result] = {}
    network = draw(setting)
    taking_part = []
    for name in dict.fromkeys((BASELINE, *contenders)):
        if setting.shape in CONTENDERS[name].shapes:
            taking_part.append(name)
        else:
            results[name] = Result(contender=name, problem="cannot run convolutions")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "network.npz"
        save(network, path)
        workers: dict[str, Worker] = {}
        about: dict[str, dict[str, Any]] = {}
        try:
            for name in taking_part:
                worker = Worker(name, path, samples=setting.samples, cores=cores)
                workers[name] = worker
                try:
                    about[name] = {**worker.answer(), **worker.ask("verify")}
                except Failed as problem:
                    if name == BASELINE:
                        raise
                    results[name] = Result(contender=name, problem=str(problem))
                    worker.__exit__()
                    del workers[name]
            _same_spikes(about)
            seconds, failed = _in_turn(workers, repetitions)
        finally:
            for worker in workers.values():
                worker.__exit__()
        baseline = statistics.median(seconds[BASELINE]) / workers[BASELINE].samples
        for name, worker in workers.items():
            try:
                if name in failed:
                    raise failed[name]
                memory = _memory(name, path, setting.samples, cores, about[name]["variant"])
            except Failed as problem:
                if name == BASELINE:
                    raise
                results[name] = Result(contender=name, problem=str(problem))
                continue
            results[name] = Result(
                contender=name,
                problem="",
                version=about[name]["version"],
                variant=about[name]["variant"],
                samples=worker.samples,
                seconds=tuple(seconds[name]),
                baseline=baseline,
                memory=memory,
            )
    return [results[name] for name in CONTENDERS if name in results]


def _same_spikes(about: Mapping[str, Mapping[str, Any]]) -> None:
    expected = about[BASELINE]["spikes"]
    for name, each in about.items():
        if each["spikes"] != expected:
            layers = zip(each["spikes"], expected, strict=False)
            first = next((i for i, (a, b) in enumerate(layers, start=1) if a != b), len(expected))
            raise Disagreement(
                f"{name} and {BASELINE} differ in layer {first}; see tests/conformance"
            )


def _in_turn(
    workers: Mapping[str, Worker], repetitions: int
) -> tuple[dict[str, list[float]], dict[str, Failed]]:
    """Time every contender `repetitions` times; each round starts with another one.

    Return the seconds of those that ran, and why the others did not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    failed: dict[str, Failed] = {}
    logits: list[list[int]] | None = None
    names = list(workers)
    for turn in range(repetitions):
        first = turn % len(names)
        answers = {}
        for name in names[first:] + names[:first]:
            if name not in failed:
                try:
                    answers[name] = workers[name].ask("run")
                except Failed as problem:
                    failed[name] = problem
        if BASELINE in failed:
            raise failed[BASELINE]
        logits = logits or answers[BASELINE]["logits"]
        for name, answer in answers.items():
            if answer["logits"] != logits[: workers[name].samples]:
                raise Disagreement(f"{name} and {BASELINE} have other logits")
            seconds[name].append(answer["seconds"])
    return seconds, failed


def _memory(name: str, path: Path, samples: int, cores: Sequence[int], variant: str) -> int:
    """Return the bytes that a fresh process needs for the network and a run."""
    with Worker(name, path, samples=samples, cores=cores, variant=variant) as fresh:
        fresh.answer()
        return int(fresh.ask("memory")["bytes"])


def table(setting: Setting, results: Sequence[Result], fastest: Mapping[str, float]) -> str:
    """Return the results as a Markdown table, and who does not take part."""
    network = uncalibrated(setting)
    updates, least = network.updates(stored=True), network.least_bytes()
    kinds = [kind for kind in UPDATES if kind in fastest]
    head = ["simulator", "version", "mode", "ms/image", "spread", "x dense", "G updates/s"]
    head += [f"of {kind} peak" for kind in kinds] + ["MB", "x least"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for result in results:
        if result.problem:
            continue
        rate = updates / result.each
        low, high = (1e3 * f(result.seconds) / result.samples for f in (min, max))
        words = [CONTENDERS[result.contender].title, result.version, result.variant]
        words += [f"{1e3 * result.each:.3g}", f"{low:.3g} to {high:.3g}", f"{result.ratio:.3g}"]
        words += [f"{rate / 1e9:.3g}", *(f"{100 * rate / fastest[kind]:.2g} %" for kind in kinds)]
        words += [f"{result.memory / 1e6:.0f}", f"{result.memory / least:.2g}"]
        lines.append(" | ".join(words))
    rows = "\n".join(f"| {line} |" for line in lines)
    missing = [
        f"{CONTENDERS[result.contender].title} does not take part: {result.problem}."
        for result in results
        if result.problem
    ]
    return "\n\n".join([rows, *missing]) + "\n"


def as_json(result: Result) -> dict[str, Any]:
    """Return a result as what JSON holds."""
    return asdict(result)


def from_json(content: Mapping[str, Any]) -> Result:
    """Read what `as_json` wrote."""
    return Result(**{**content, "seconds": tuple(content["seconds"])})


def cores_here(threads: int) -> tuple[int, ...]:
    """Return the first cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))[:threads])


def main() -> int:
    """Measure one network and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=[shape.value for shape in Shape], default="vgg16")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    chosen = parser.parse_args()
    setting = Setting(
        shape=Shape(chosen.shape),
        width=chosen.width,
        sparsity=chosen.sparsity,
        steps=chosen.steps,
        samples=chosen.samples,
    )
    cores = cores_here(chosen.threads)
    names = chosen.contenders.split(",")
    results = measure(setting, names, cores=cores, repetitions=chosen.repetitions)
    sys.stdout.write(f"{setting.name}, {len(cores)} cores\n\n")
    sys.stdout.write(table(setting, results, peaks(len(cores))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
