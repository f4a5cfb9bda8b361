"""How fast an encoding is, and how long it may still take."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts what has been encoded and says so now and then: `2,048 of 118,287 pictures, 41.2 a second, …`."""

    def __init__(self, total: int, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing encoded; what: what is counted, in the plural."""
        self.total, self.what, self.clock = total, what, clock
        self.done = self.encoded = 0
        self.began = self.said = clock()

    def keep(self, count: int) -> None:
        """Count what an earlier run had encoded."""
        self.done += count

    def add(self, count: int) -> None:
        """Count what has just been encoded."""
        self.done += count
        self.encoded += count
        if self.clock() - self.said >= SECONDS_BETWEEN_LINES:
            self.said = self.clock()
            logger.info("progress: %s", self.line())

    def rate(self) -> float:
        """Return how many were encoded in a second, of those that this run has encoded."""
        return self.encoded / max(self.clock() - self.began, 1e-9)

    def closing_line(self) -> str:
        """Return what has been done, and how fast what this run has encoded."""
        kept = f", of which {self.done - self.encoded:,} were finished before" if self.done > self.encoded else ""
        speed = f", {self.rate():,.0f} a second" if self.encoded else ""
        return f"{self.done:,} {self.what}{kept}{speed}"

    def line(self) -> str:
        """Return what has been done, how fast, and what is left."""
        counted = f"{self.done:,} of {self.total:,} {self.what}"
        if not self.encoded:
            return counted
        return f"{counted}, {self.rate():.1f} a second, {time_left((self.total - self.done) / self.rate())}"


def time_left(seconds: float) -> str:
    """Return an estimate in the unit that fits."""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"
