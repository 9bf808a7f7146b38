"""The command line: parse, call, print; decides nothing.

Results go to standard output (as JSON with --json), everything meant for a person's eyes
while waiting to standard error. Exit status: 0 done, 1 refused or failed, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from snnc import __version__
from snnc.cli.lazy import LazyGroup
from snnc.errors import MissingDependency, Refusal, SnncError

COMMANDS = {  # name -> (module, attribute, help); a module is imported only to run it
    "demo": ("snnc.cli.demo", "demo", "Run the whole chain on real digits and write a report."),
    "train": ("snnc.cli.train", "train", "Train a robust, sparse spiking network by a recipe."),
    "recipes": ("snnc.cli.recipes", "recipes", "List the recipes, what to expect, what it costs."),
    "compile": ("snnc.cli.compile", "compile_", "Compile a network to integers for a target."),
    "check": ("snnc.cli.check", "check", "Say whether a network fits a target, and what it takes."),
    "simulate": ("snnc.cli.simulate", "simulate", "Run the deployed integers on a data set."),
    "attack": ("snnc.cli.attack", "attack", "Attack a network or the deployed integers."),
    "energy": ("snnc.cli.energy", "energy", "Price what the deployed integers do."),
    "import": ("snnc.cli.import_", "import_", "Read a network of another tool (netx of lava-dl)."),
    "export": ("snnc.cli.export", "export", "Write a compiled network for another tool."),
    "inspect": ("snnc.cli.inspect", "inspect", "Show what a model, graph, program or build holds."),
    "report": ("snnc.cli.report", "report", "Write the HTML report of a run."),
    "targets": ("snnc.cli.targets", "targets", "List the installed targets."),
    "lava": ("snnc.cli.lava", "lava", "Set up Lava, which runs the loihi target."),
    "doctor": ("snnc.cli.doctor", "doctor", "Say what works on this machine and what is missing."),
}

OPTIONAL = {  # modules that commands import where they need them -> the extra that has them
    "numba": "fast",
    "h5py": "netx",
    "PIL": "images",
    "pydantic": "train",
    "sklearn": "train",
    "torch": "train",
}


@click.group(
    cls=LazyGroup.of(COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: snnc demo. Every command has --help with an example, and --json.",
)
@click.version_option(__version__, prog_name="snnc")
def snnc() -> None:
    """Put robust, sparse spiking networks on neuromorphic chips.

    Train, convert, compile to integers, simulate, attack and price.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # we are the program, not a function of one
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = snnc.main(arguments, prog_name="snnc", standalone_mode=False)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SnncError as error:
        _show(error, as_json="--json" in arguments)
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("snnc: interrupted", err=True)
        if "--json" in arguments:
            click.echo(json.dumps({"error": "interrupted", "issues": []}, indent=1))
        return 130
    except BrokenPipeError:
        sys.stdout = None  # nobody reads on: nothing to flush at exit
        return 1
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        _show(MissingDependency(_missing(error.name)), as_json="--json" in arguments)
        return 1
    except OSError as error:  # files raise CannotWrite: this is standard output itself
        sys.stdout = None
        click.echo(f"snnc: error: cannot print the result: {error.strerror}", err=True)
        return 1
    return status if isinstance(status, int) else 0  # newer clicks return an Exit's status


def _missing(module: str) -> str:
    return (
        f"this needs {module}, which is not installed; install it with: "
        f"pip install 'snnc[{OPTIONAL[module]}]'"
    )


def _interrupt(*_: object) -> NoReturn:
    """Take a polite request to end (SIGTERM) as Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt


def _show(error: SnncError, *, as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes, the first one speaks
    click.echo(f"snnc: error: {error}", err=True)
    if as_json:
        issues = [vars(issue) for issue in error.issues] if isinstance(error, Refusal) else []
        click.echo(json.dumps({"error": str(error), "issues": issues}, indent=1))
