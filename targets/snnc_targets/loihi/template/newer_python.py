"""Run a program that imports lava-nc 0.10.0 under Python 3.11 or newer.

    python -P newer_python.py network.py ...
    python -P newer_python.py -c "import lava.proc.lif.process"

lava-nc is made for Python 3.10. Two things in it break on newer Pythons and numpys; both are put
right here from outside, before the program imports Lava:

    ByteEncoder(), a dataclass, as a default in another    since 3.11 a default must be hashable
    np.reshape(..., newshape=...)                          gone since numpy 2.4
"""

# mypy: ignore-errors
import dataclasses
import functools
import runpy
import sys

import numpy as np


def make_hashable():
    """Import the module of ByteEncoder with a `dataclass` that makes this one class hashable."""
    original = dataclasses.dataclass

    def dataclass(cls=None, /, **settings):
        if cls is not None and cls.__name__ == "ByteEncoder":
            settings["unsafe_hash"] = True
        return original(cls, **settings)

    dataclasses.dataclass = dataclass
    try:
        import lava.magma.compiler.var_model  # noqa: F401
    finally:
        dataclasses.dataclass = original


def take_newshape():
    """Let np.reshape take its former argument."""
    original = np.reshape

    @functools.wraps(original)
    def reshape(array, *positional, newshape=None, **named):
        if newshape is not None:
            return original(array, newshape, *positional, **named)
        return original(array, *positional, **named)

    np.reshape = reshape


def main(arguments):
    """Run a script, or the text after -c, as Python would."""
    if sys.version_info >= (3, 11):
        try:
            make_hashable()
        except ImportError:
            pass  # the program says what is missing when it imports Lava
        take_newshape()
    if arguments[0] == "-c":
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
