"""A clock that asks for a line about long jobs now and then."""

import threading
from collections.abc import Callable

SECONDS_BETWEEN_LOOKS = 60.0


class Watch:
    """Calls a function every so many seconds, in a thread of its own, until it is stopped."""

    def __init__(self, look: Callable[[], None], seconds: float = SECONDS_BETWEEN_LOOKS) -> None:
        """Begin at once; the first call comes after the first pause."""
        self._look, self._seconds, self._stopped = look, seconds, threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Call no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._look()
