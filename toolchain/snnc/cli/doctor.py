"""snnc doctor."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import click

from snnc import __version__
from snnc.cli.output import emit, json_option
from snnc.targets.setup import Check

OPTIONAL = {  # package -> (extra that brings it, what it is for)
    "torch": ("train", "train, attack and read checkpoints"),
    "pydantic": ("train", "read recipes"),
    "scikit-learn": ("train", "the embedded digits"),
    "numba": ("fast", "the fast simulator, fast training on processors"),
    "pillow": ("images", "read TinyImageNet and folders of images"),
}


@click.command(epilog="Example: snnc doctor --json")
@json_option
def doctor(as_json: bool) -> None:
    """Say what works on this machine and what is missing; exit with 1 if something is."""
    checks = [*_packages(), *_targets()]
    lines = [
        f"{'ok     ' if check.ok else 'missing'}  {check.name}: {check.detail}"
        + (f"\n         -> {check.remedy}" if check.remedy else "")
        for check in checks
    ]
    emit({"checks": [vars(check) for check in checks]}, "\n".join(lines), as_json=as_json)
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(1)


def _packages() -> Iterator[Check]:
    detail = f"{__version__}, Python {platform.python_version()} at {sys.executable}"
    yield Check(name="snnc", ok=True, detail=detail, remedy="")
    for package, (extra, purpose) in OPTIONAL.items():
        try:
            yield Check(name=package, ok=True, detail=version(package), remedy="")
        except PackageNotFoundError:
            remedy = f"pip install 'snnc[{extra}]' (with -c constraints.txt for torch)"
            yield Check(name=package, ok=False, detail=f"not installed: {purpose}", remedy=remedy)


def _targets() -> Iterator[Check]:
    from snnc.errors import SnncError
    from snnc.targets import registry
    from snnc.targets.setup import NeedsSetup

    for name in sorted(registry.available()):
        try:
            target = registry.load(name)
        except SnncError as error:
            yield Check(
                name=f"target {name}", ok=False, detail=str(error), remedy="install it again"
            )
            continue
        yield Check(name=f"target {name}", ok=True, detail=target.summary, remedy="")
        if isinstance(target, NeedsSetup):
            found = target.doctor()
            yield from found[:1]  # the rest is what was tried on the way
            if not found[0].ok:
                yield from found[1:]
