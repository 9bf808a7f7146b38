"""What Lava's processes share and how they end, on systems with eventfd and prctl and without."""

import importlib.util
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from snnc_targets.loihi import emit


@pytest.fixture
def lifetime():
    """The module lifetime.py of the template, which needs Lava only when it runs."""
    path = Path(emit.__file__).parent / "template" / "lifetime.py"
    spec = importlib.util.spec_from_file_location("lifetime_of_the_template", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_child(work) -> int:
    """Fork; return the number of a process that does `work` and ends."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


@pytest.fixture(params=["eventfd", "pipe"])
def tokens(request, lifetime, monkeypatch):
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    return lifetime.Tokens


def test_tokens_are_counted_across_processes(tokens):
    to_child, to_parent = tokens(2), tokens(0)

    def work():
        for _ in range(3):
            to_child.acquire()
            to_parent.release()

    child = in_child(work)
    to_parent.acquire()
    to_parent.acquire()
    to_child.release()  # the third waits for this one
    to_parent.acquire()
    os.waitpid(child, 0)


def test_a_token_that_is_not_there_is_waited_for(tokens):
    semaphore, taken = tokens(0), []
    thread = threading.Thread(target=lambda: taken.append(semaphore.acquire()))
    thread.start()
    time.sleep(0.1)
    assert taken == []
    semaphore.release()
    thread.join()
    assert taken == [True]


def test_forked_processes_share_memory_without_a_name(lifetime):
    before = named_mappings()
    memory = lifetime.NamelessMemory()
    memory.start()
    piece = memory.create_shared_memory(8)
    assert named_mappings() == before
    os.waitpid(in_child(lambda: piece.buf.__setitem__(slice(0, 4), b"lava")), 0)
    assert bytes(piece.buf) == b"lava\0\0\0\0"
    memory.shutdown()


def named_mappings() -> list[str]:
    """Return what this process maps of /dev/shm, where /proc tells."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return [line.split()[-1] for line in lines if "/dev/shm" in line]


def test_a_mailbox_brings_errors_from_another_process(lifetime):
    box = lifetime.Mailbox()
    child = in_child(lambda: box.put(ValueError("words")))
    assert str(box.get()) == "words"
    os.waitpid(child, 0)


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_a_child_ends_with_its_parent_however_that_dies(kernel_tells, lifetime, monkeypatch):
    if not kernel_tells:
        monkeypatch.setattr(lifetime.sys, "platform", "another")
    reading, writing = os.pipe()

    def parent():
        lifetime.guard_children()
        child = in_child(lambda: time.sleep(600))
        os.write(writing, str(child).encode())
        time.sleep(600)

    leader = in_child(parent)
    child = int(os.read(reading, 20))
    time.sleep(0.1)
    assert runs(child)
    os.kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    until = time.monotonic() + 30
    while runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs(child)
    os.close(reading)
    os.close(writing)


def runs(process: int) -> bool:
    """Return whether a process is there and no zombie."""
    if Path("/proc/self/stat").exists():
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_whose_parent_is_gone_already_ends_at_once(lifetime):
    child = in_child(lambda: lifetime._look_for(parent=1 << 30))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1


@pytest.mark.parametrize(
    ("exitcode", "words"),
    [(3, "exit status 3"), (-9, "SIGKILL; is the memory or the disk full?")],
)
def test_endings_have_words(exitcode, words, lifetime):
    assert lifetime.ending(exitcode) == words
