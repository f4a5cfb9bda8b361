"""Shares of a computation that several jobs divide."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One of `parts` equal shares, numbered from 1."""

    part: int
    parts: int

    def of(self, count: int, unit: int = 1) -> slice:
        """Return this share of `count` rows in whole blocks of `unit` rows; it is empty if there are too few blocks."""
        blocks = -(-count // unit)
        start, stop = (min(count, blocks * done // self.parts * unit) for done in (self.part - 1, self.part))
        return slice(start, stop)


WHOLE = Share(1, 1)
