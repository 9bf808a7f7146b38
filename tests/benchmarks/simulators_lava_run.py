"""Run a generated Lava program with a clock, in Lava's own Python; used by simulators_lava.py.

    python3.10 simulators_lava_run.py BUNDLE CODES.npy OUTPUT MODE [STEPS]

MODE is `stock`, `lava` or `inproc`. The generated program is used as it is but for what its
host.py offers as two functions: which models run (`settings`: for `stock` Lava's own, without
the faster ones that the program brings), and the loop over the steps (`simulate`), which here
takes the time. With STEPS only so many steps are timed, after one that is not; else all
samples are run, and those after the first are timed. OUTPUT/times.json gets the result.
"""

# mypy: ignore-errors
import json
import runpy
import sys
import time
from pathlib import Path

bundle, codes, output, mode, *rest = sys.argv[1:]
sys.path[:0] = [bundle, str(Path(bundle) / "procs")]

import host  # noqa: E402 - of the bundle


def stock_settings():
    """Choose Lava's own fixed-point models."""
    from lava.magma.core.run_configs import Loihi2SimCfg

    return Loihi2SimCfg(select_tag="fixed_pt")


def timed(advance, run, lag):
    """Run and take the time of one step."""
    if rest:
        advance(1)
        steps = int(rest[0])
    else:
        advance(lag - 1 + run.steps)
        steps = (run.samples - 1) * run.steps
    start = time.perf_counter()
    advance(steps)
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "steps": steps, "complete": not rest}
    (run.output / "times.json").write_text(json.dumps(found))


if not all(hasattr(host, name) for name in ("settings", "simulate", "start_lava")):
    raise SystemExit("this program's host.py is of another time than this benchmark")
host.simulate = timed
if mode == "stock":
    host.settings = stock_settings
sys.argv = ["network.py", "--input", codes, "--output", output]
sys.argv += ["--in-process"] if mode == "inproc" else []
runpy.run_path(str(Path(bundle) / "network.py"), run_name="__main__")
