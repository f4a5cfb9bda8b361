"""Signals that end a run, held back while a step is under way."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a cluster sends it at a time limit; code that handles Ctrl-C handles this as well."""


def terminate_like_interrupt() -> None:
    """Let the first SIGTERM raise `Terminated`, so that a run ends in the same way as with Ctrl-C.

    Slurm sends two at a time limit, milliseconds apart: the second would interrupt the writing of a state before it has
    begun.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, do_nothing)
        raise Terminated

    # Not SIG_IGN, which programs that are started later would inherit.
    def do_nothing(number: int, frame: FrameType | None) -> None:
        pass

    signal.signal(signal.SIGTERM, terminate)


def exit_status(interruption: KeyboardInterrupt) -> int:
    """Return the exit status that shells expect after a signal: 128 plus its number."""
    return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let signals that arrive within the block take effect at its end; only the main thread receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
