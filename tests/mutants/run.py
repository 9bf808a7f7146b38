"""Break the toolchain on purpose, one fault at a time, and see that a test notices.

    python tests/mutants/run.py                     every fault of mutants.toml, about half an hour
    python tests/mutants/run.py zero-point-added    some of them

Run it before a release, and after writing a test that claims to guard something; the loihi
faults need Lava. It is no part of CI.

The import roots and the tests are copied into a temporary directory, whose copies come before
the installed packages. There a fault's test must pass, and with the fault it must fail. The
exit status is 0 when every fault was killed, else 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("toolchain", "targets", "models")  # each holds importable packages
PACKAGES = ("snnc", "snnc_targets", "snnc_models")
TIMEOUT = 600  # seconds for one fault
PASSED, FAILED = 0, 1  # exit statuses of pytest: all tests passed, some failed


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One deliberate fault and the test that must notice it."""

    name: str
    file: str
    old: str
    new: str
    killed_by: str  # a test file, or file::test


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one fault: "killed", "survived", or why that cannot be said."""

    fault: Fault
    word: str
    seconds: float


def load() -> tuple[Fault, ...]:
    """Return the faults of mutants.toml, in order."""
    text = Path(__file__).with_name("mutants.toml").read_text()
    return tuple(Fault(**fault) for fault in tomllib.loads(text)["fault"])


def judge(faults: Sequence[Fault]) -> Iterator[Verdict]:
    """Yield the verdict on each fault, as soon as it is known."""
    with TemporaryDirectory(prefix="snnc-mutants-") as directory:
        copy = Path(directory).resolve()
        _copy(copy)
        _prove_that_copies_win(copy)
        innocent: dict[str, bool] = {}
        for fault in faults:
            start = time.perf_counter()
            if fault.killed_by not in innocent:
                innocent[fault.killed_by] = _test(copy, fault.killed_by) == PASSED
            if not innocent[fault.killed_by]:
                word = "its test does not pass without it"
            else:
                with applied(fault, copy):
                    word = _word(_test(copy, fault.killed_by))
            yield Verdict(fault=fault, word=word, seconds=time.perf_counter() - start)


@contextmanager
def applied(fault: Fault, root: Path) -> Iterator[None]:
    """Put one fault into the copy, and take it out again.

    numba keeps kernels under a fingerprint of what they are made from, so a fault in them has
    kernels of its own, and by the time of their file. The file gets its old time back, so that
    those without a fault need not be compiled again.
    """
    path = root / fault.file
    text, stat = path.read_text(), path.stat()
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.name}: its old text is not once in {fault.file}; update it")
    path.write_text(text.replace(fault.old, fault.new))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _copy(directory: Path) -> None:
    for name in (*ROOTS, "tests"):
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", directory)  # holds pytest's settings


def _environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(directory / root) for root in ROOTS),
        "PYTHONDONTWRITEBYTECODE": "1",  # a changed file may keep size and time
        "SNNC_REQUIRE_LAVA": "1",  # a skipped test kills nothing
    }


def _prove_that_copies_win(directory: Path) -> None:
    code = f"import {', '.join(PACKAGES)}\nfor m in ({', '.join(PACKAGES)}): print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=_environment(directory),
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        if not Path(line).resolve().is_relative_to(directory):
            raise SystemExit(f"the installed {line} wins over its copy; nothing would be tested")


def _test(directory: Path, test: str) -> int | None:
    """Return pytest's exit status, or None if it took too long."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    try:
        return subprocess.run(
            command,
            cwd=directory,
            env=_environment(directory),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def _word(status: int | None) -> str:
    if status is None:
        return f"took more than {TIMEOUT} s"
    words = {FAILED: "killed", PASSED: "survived"}
    return words.get(status, f"pytest could not run its test (status {status})")


def main(names: Sequence[str]) -> int:
    """Judge the named faults, or all; print a table; return the exit status."""
    known = {fault.name: fault for fault in load()}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no fault named {unknown[0]!r}; known: {', '.join(known)}")
    alive = 0
    for verdict in judge([known[name] for name in names or known]):
        alive += verdict.word != "killed"
        fault = verdict.fault
        sys.stdout.write(
            f"{verdict.word:8}  {fault.name:44}  {verdict.seconds:5.1f} s  {fault.killed_by}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{len(names or known) - alive} killed, {alive} not\n")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
