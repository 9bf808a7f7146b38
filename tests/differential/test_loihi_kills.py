"""Whatever is killed, and whenever: no process and no shared memory of a Lava run survives.

Every case starts snnc, sends one signal at a random moment of the run, and looks at what is left
a while later. $SNNC_KILLS says how many cases there are; all follow from its number.
"""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.lava,
    pytest.mark.usefixtures("lava"),
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc"),
]

CASES = int(os.environ.get("SNNC_KILLS", "5"))
KINDS = {
    "kill the parent": lambda run, rng: run.parent.kill(),
    "terminate the parent": lambda run, rng: run.parent.terminate(),
    "kill a child": lambda run, rng: kill_a_child(run, rng),
    "Ctrl-C in the parent": lambda run, rng: run.parent.send_signal(signal.SIGINT),
    "Ctrl-C in the group": lambda run, rng: os.killpg(run.parent.pid, signal.SIGINT),
}
MANNERS = (("lava", 1), ("lava", 2), ("lava", 1), ("inproc", 2))
SIZE = {"samples": 12, "steps": 60}


def kill_a_child(run, rng: random.Random) -> None:
    """Kill one process that snnc started, as soon as there is one."""
    while run.parent.poll() is None:
        if children := run.children():
            os.kill(rng.choice(children), signal.SIGKILL)
            return


@pytest.fixture(scope="module")
def duration():
    """How many seconds an undisturbed run takes; the first case measures it."""
    return []


def undisturbed(start):
    began = time.monotonic()
    run = start(**SIZE)
    assert run.finish() == "emitted\ndone 12 1\n"
    seconds = time.monotonic() - began
    assert run.left() == ([], set())
    assert run.files_left() == []
    return seconds


@pytest.mark.parametrize("case", range(CASES))
def test_nothing_survives(case, start, duration):
    if not duration:
        duration.append(undisturbed(start))
    rng = random.Random(case)
    kind = list(KINDS)[case % len(KINDS)]
    engine, workers = MANNERS[case // len(KINDS) % len(MANNERS)]
    moment = rng.uniform(0, duration[0])
    run = start(engine=engine, workers=workers, **SIZE)
    time.sleep(moment)
    during = run.processes()
    with suppress(ProcessLookupError):  # it was done already
        KINDS[kind](run, rng)
    printed = run.finish()
    left = run.left(within=20.0)
    told = f"{kind} after {moment:.2f} of {duration[0]:.2f} s, {engine} with {workers}: {during}"
    assert left == ([], set()), told
    assert run.mapped == set(), told  # nothing with a name was ever there
    if kind == "kill a child":
        # the last is what a search for a Python with Lava says when its candidate was killed
        said = ("Lava did not finish", "done 12", "ended with SIGKILL")
        assert any(words in printed for words in said), told
        assert all(name.endswith("/log.txt") for name in run.files_left() if "/" in name), told
    elif kind != "kill the parent":
        assert run.files_left() == [], told
