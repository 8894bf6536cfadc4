"""Ctrl-C while something must not be left half done: it waits until that is done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_wait(unless: Callable[[], bool]) -> Iterator[None]:
    """Have Ctrl-C wait until the end of the block, as long as somebody presses it only once.

    Only the main thread is interrupted; elsewhere this does nothing, nor where Ctrl-C is ignored.

    Parameters
    ----------
    unless : callable
        Says, when Ctrl-C is pressed, that this one is not to wait.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[FrameType | None] = []

    def wait(number: int, frame: FrameType | None) -> None:
        if waiting or unless():
            waiting.clear()
            handler(number, frame)
        else:
            waiting.append(frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(signal.SIGINT, waiting[0])
