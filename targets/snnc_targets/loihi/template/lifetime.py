"""No process of a run outlives it, and nothing that a run uses can be left behind.

    what dies                   what follows
    the parent, --stop-with     a thread of this program sees it within LOOK seconds, removes the
                                results that nobody will read, and ends the program
    this program, however       the kernel kills every Lava process (Linux: PR_SET_PDEATHSIG);
                                a thread in each of them looks for it too
    a Lava process, or it fails the same thread ends the program and says why

Lava waits for ever when one of its processes is gone, so it is never asked to stop: the results
are in files by then, and its processes end with the program. It would share memory and count
with semaphores that have names in /dev/shm, which stay when a process is killed at the wrong
moment. Its processes are forked, so they inherit what they share and need no names:

    multiprocessing's            here               what it is
    SharedMemory, its manager    NamelessMemory     anonymous memory; no manager process
    Semaphore                    Tokens             an eventfd (Linux), else a pipe
    Queue                        Mailbox            a pipe
"""

# mypy: ignore-errors
import contextlib
import ctypes
import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time

LOOK = 0.25  # seconds between two looks at whether a process is still there
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
FILES = 10240  # open at once, if the system allows: two for each channel, four for each process
ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd counts by, see eventfd(2)


class Watchdog:
    """A thread that ends the program when a Lava process fails, or when the parent is gone.

    `run` is told the reason. `parent` is the process to end with; None for a run by hand.
    """

    def __init__(self, run, parent):
        self.process = None  # one of Lava's, as soon as there is a network
        self._run, self._parent = run, parent
        self._leaving = threading.Lock()  # whoever leaves first takes it along
        threading.Thread(target=self._watch, daemon=True).start()

    def leave(self):
        """End the program, which did what it should; Lava's processes end with it."""
        self._leaving.acquire()
        os._exit(0)

    def fail(self, problem):
        """End the program and every Lava process with a failed status."""
        self._leaving.acquire()
        try:
            self._run.report(state="failed", problem=problem)
            sys.stdout.flush()
        finally:
            kill_children()
            os._exit(1)  # a Lava runtime that lost a process never joins

    def _watch(self):
        while True:
            # a dead parent's number may come again, but never as that of this program's parent
            if self._parent is not None and os.getppid() != self._parent:
                self._vanish()
            if problem := self.problem():
                print(problem, flush=True)
                self.fail(last_line(problem))
            time.sleep(LOOK)

    def _vanish(self):
        """End the program and every Lava process, and leave no results."""
        self._leaving.acquire()
        kill_children()
        for _ in range(3):  # the main thread may still make files
            shutil.rmtree(self._run.output, ignore_errors=True)
        os._exit(1)

    def problem(self):
        """Return why a Lava process failed (its traceback, if it left one), or None."""
        runtime = self.process.runtime if self.process is not None else None
        messages = runtime._messaging_infrastructure if runtime is not None else None
        for actor in list(messages.actors) if messages is not None else []:
            try:
                if actor.exception:
                    return actor.exception[1]  # the traceback, as text
                if not actor._is_done and actor.exitcode not in (None, 0):
                    return f"a Lava process ended with {ending(actor.exitcode)}"
            except (ValueError, OSError, EOFError, AssertionError):
                continue  # Lava joined it between the two lines, or has not started it yet
        return None


def kill_children():
    """End every Lava process at once."""
    for child in multiprocessing.active_children():
        with contextlib.suppress(ValueError):  # Lava closed it meanwhile
            child.kill()


def last_line(text):
    """Return the line of a traceback that says what went wrong."""
    return text.strip().splitlines()[-1]


def ending(exitcode):
    """Say in words how a process ended."""
    if exitcode > 0:
        return f"exit status {exitcode}"
    return f"{signal.Signals(-exitcode).name}; is the memory or the disk full?"


def guard_children():
    """Make every process that is forked from now on end with this one, and deaf to Ctrl-C."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    os.register_at_fork(after_in_child=lambda: _end_with(parent, prctl))


def _end_with(parent, prctl):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends all, silently
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_look_for, args=(parent,), daemon=True).start()


def _look_for(parent):
    while os.getppid() == parent:  # false at once if it died before the kernel was asked to tell
        time.sleep(LOOK)
    os._exit(1)


def share_without_names():
    """Let Lava's runtime, before it is made, use what this module offers."""
    from lava.magma.compiler.channels import pypychannel
    from lava.magma.runtime import runtime
    from lava.magma.runtime.message_infrastructure import multiprocessing as infrastructure

    infrastructure.SharedMemoryManager = NamelessMemory
    pypychannel.Semaphore = Tokens
    runtime.Queue = Mailbox
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class NamelessMemory:
    """What Lava's runtime asks of its SharedMemoryManager."""

    def start(self):
        """Do nothing: there is no process to start."""

    def shutdown(self):
        """Do nothing: the memory goes with the last process that has it."""

    def create_shared_memory(self, size):
        """Return `size` bytes that every process forked from now on shares."""
        return Nameless(size)


class Nameless:
    """A piece of that memory, as Lava's channels use SharedMemory."""

    def __init__(self, size):
        self.buf = memoryview(mmap.mmap(-1, size))


class Tokens:
    """A semaphore as Lava's channels use it: they only release and acquire."""

    def __init__(self, value):
        if hasattr(os, "eventfd"):
            self._take = self._give = os.eventfd(value, os.EFD_SEMAPHORE | os.EFD_CLOEXEC)
        else:
            self._take, self._give = os.pipe()
            os.write(self._give, bytes(value))

    def acquire(self):
        """Wait for a token and take it."""
        return bool(os.read(self._take, 8 if self._take == self._give else 1))

    def release(self):
        """Add a token."""
        os.write(self._give, ONE if self._take == self._give else ONE[:1])


class Mailbox:
    """A queue as Lava uses it: one process puts, another gets."""

    def __init__(self):
        self._reading, self._writing = multiprocessing.Pipe(duplex=False)

    def put(self, message):
        """Send; raise what pickling raises."""
        self._writing.send(message)

    def get(self):
        """Wait for a message."""
        return self._reading.recv()
