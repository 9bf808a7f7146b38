"""Examples in the documentation do what they say."""

import doctest
from pathlib import Path

import pytest

PAGES = sorted(Path(__file__).parents[2].glob("docs/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_examples_of_a_page_run(page):
    assert doctest.testfile(str(page), module_relative=False).failed == 0
