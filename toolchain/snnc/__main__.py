"""Run the command line: python -m snnc (torchrun -m snnc for several processes)."""

from __future__ import annotations

import sys

from snnc.cli import main

if __name__ == "__main__":
    sys.exit(main())
