"""Ctrl-C and SIGTERM wait until nothing is half done.

An exception that a signal handler raises may come between the start of a process and the note
that it was started, or in the middle of cleaning up. So within `held` a signal is only noted;
the work asks for it at moments of its choice, and on leaving it is sent again, to whom it was
meant for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, MappingProxyType

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers
_DEFAULTS: Mapping[signal.Signals, _Handler] = MappingProxyType(
    {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
)


class Interruptions:
    """Signals that came."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._at_once = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come, whichever."""
        if self.came:
            raise KeyboardInterrupt

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Within, a signal raises KeyboardInterrupt wherever the work is."""
        try:
            self._at_once = True
            self.check()
            yield
        finally:
            self._at_once = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.came.append(number)
        if self._at_once:
            raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[Interruptions]:
    """Hold SIGINT and SIGTERM back; those whose handling is not Python's default stay as they are.

    Outside the main thread, to which signals go, there is nothing to hold.
    """
    interruptions = Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield interruptions
        return
    ours = [number for number, handler in _DEFAULTS.items() if signal.getsignal(number) is handler]
    for number in ours:
        signal.signal(number, interruptions.note)
    try:
        yield interruptions
    except KeyboardInterrupt:
        if not interruptions.came:
            raise  # else the signal itself says so, below
    finally:
        for number in ours:
            signal.signal(number, _DEFAULTS[number])
        for first in interruptions.came[:1]:
            signal.raise_signal(first)
