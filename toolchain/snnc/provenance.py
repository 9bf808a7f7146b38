"""What a result must say about where it came from."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from snnc import __version__


def versions() -> dict[str, str]:
    """Return the versions that decide what a run computes."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "not installed"
    return {"snnc": __version__, "python": platform.python_version(), "torch": torch}


def machine() -> str:
    """Describe this machine without naming it."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def commit() -> str | None:
    """Return the commit of the source tree that is running, with "+changes" if it was edited.

    None where snnc was installed without its history.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        return f"{head}+changes" if git("status", "--porcelain", "--untracked=no") else head
    except (OSError, subprocess.CalledProcessError):
        return None
