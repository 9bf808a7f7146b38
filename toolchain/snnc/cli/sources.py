"""What commands read: a network as a graph, a data split, a build."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.errors import InvalidSetting, UnknownName

if TYPE_CHECKING:
    from snnc.data import Split
    from snnc.ir.graph import Graph

SPLITS = ("train", "validation", "test")


def load_network(path: Path, *, trust: bool = False) -> Graph:
    """Read a graph from a checkpoint (`*.pt`) or a graph file (`*.snn`), see `snnc.api.load`."""
    from snnc.api import load

    find_modules_here(trust)
    return load(path, trust=trust)


def find_modules_here(trust: bool) -> None:
    """Let `module:callable` name a module of the working directory, as `python -m` does."""
    if trust and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def load_split(
    name: str,
    *,
    split: str,
    samples: int | None,
    root: Path | None,
    classes: tuple[str, ...] = (),
) -> Split:
    """Return a split of a data set, or its first `samples` in class-balanced order.

    `classes` are the names of the network's classes, if it knows them.

    Raises:
        UnknownName, InvalidFile, Refusal, MissingDependency.
        InvalidSetting: the data set has other classes, or fewer samples.
    """
    from snnc import data

    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    dataset = data.load(name, root=root)
    if classes and dataset.class_names != classes:
        raise InvalidSetting(
            f"the network names {_few(classes)}, data set {name!r} {_few(dataset.class_names)}; "
            "pass --data with the data set that it was trained on"
        )
    found: Split = getattr(dataset, split)
    return found if samples is None else found.take(samples)


def apart(output: Path, source: Path) -> None:
    """Refuse to write to what is read, or into it.

    Raises:
        InvalidSetting: `output` is `source`, or lies in it.
    """
    place, read = output.resolve(), source.resolve()
    if place == read or read in place.parents:
        raise InvalidSetting(
            f"{output} {'is' if place == read else 'lies in'} {source}, which is read; choose "
            "another path"
        )


def _few(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:3])
    return f"{len(classes)} classes ({shown}{', ...' if len(classes) > 3 else ''})"


def trust_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --trust."""
    return click.option(
        "--trust",
        is_flag=True,
        help="Import the module:callable that a checkpoint names as its architecture; this "
        "runs that module's code.",
    )(command)


def data_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add --data, --data-root, --split and --samples."""
    for option in (
        click.option("--samples", type=int, help="Use so many, class balanced.  [default: all]"),
        click.option("--split", default="test", show_default=True, help="train, validation, test."),
        click.option(
            "--data-root",
            type=click.Path(path_type=Path),
            help="Folder with the files of the data set.  [default: what SNNC_DATA names]",
        ),
        click.option(
            "--data",
            "data_name",
            default="digits",
            show_default=True,
            help="digits, mnist, fashion_mnist, cifar10, cifar100, svhn, tinyimagenet, or folder: "
            "images of your own in train/CLASS/ and test/CLASS/ under --data-root.",
        ),
    ):
        command = option(command)
    return command


def same_network(graph: Graph, built: Graph | None, path: Path) -> None:
    """Refuse a network whose layers are not those of a build: the two would not compare."""
    from snnc.ir.graph import Conv2d, Linear

    if built is None:
        raise InvalidSetting(
            f"the build was imported as integers, nothing to compare {path} with; leave it out"
        )
    mine, theirs = (
        [(n.name, n.op.weight.shape) for n in each.nodes if isinstance(n.op, Conv2d | Linear)]
        for each in (graph, built)
    )
    if mine != theirs:
        raise InvalidSetting(
            f"the layers of {path} are {mine}, those of the build {theirs}; pass the network that "
            "the build was made of"
        )


def same_shape(graph_shape: tuple[int, ...], split: Split, data_name: str) -> None:
    """Refuse a data set whose images the network cannot read."""
    if split.pixels.shape[1:] != graph_shape:
        raise InvalidSetting(
            f"images of {data_name} have shape {split.pixels.shape[1:]}, the network reads "
            f"{graph_shape}; choose the data set it was trained on"
        )
