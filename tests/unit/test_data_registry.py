"""Data sets by name, from Python and from the command line."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from snnc import data
from snnc.cli.sources import data_options
from snnc.errors import UnknownName


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(UnknownName, match="no data set named 'cifar-10'; did you mean 'cifar10'"):
        data.load("cifar-10")


def test_the_help_of_data_names_every_data_set():
    @click.command()
    @data_options
    def command(**_):
        """Do nothing."""

    words = (
        CliRunner().invoke(command, ["--help"]).output.replace(",", " ").replace(":", " ").split()
    )
    assert set(data.names()) <= set(words)
