"""Signals that end a run: taken between two steps, never in the middle of one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a cluster sends it at a time limit; whatever handles Ctrl-C handles this as well."""


def terminate_like_interrupt() -> None:
    """Let SIGTERM raise `Terminated`, so that a run leaves by the same door whether a person or a cluster ends it."""
    signal.signal(signal.SIGTERM, _raise_terminated)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def exit_status(interruption: KeyboardInterrupt) -> int:
    """Return what a shell expects of a process that a signal ended: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let signals that arrive within the block take effect at its end; other threads than the main one get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number in handlers:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
