"""The CRC-32 of zip archives, of long streams: whole arrays of bytes are combined by exclusive or.

A CRC-32 is a remainder by a polynomial P, and P divides x^130360 + x^24749 + 1. It also divides that polynomial in x^8,
because squares of sums modulo 2 are sums of squares. A byte may therefore be taken away and added to the two bytes that
far behind it, until so few are left that zlib takes no time. Russell 2024, Chorba: A novel CRC32 implementation.
"""

import zlib

import numpy as np

# Bytes after which a byte is added again.
NEAR, FAR = 130_360 - 24_749, 130_360
AT_ONCE = 512 << 10
# These four bytes turn an empty remainder into the one that a CRC-32 begins with.
BEGIN = b"\x62\xf5\x26\x92"


class Checksum:
    """The CRC-32 of bytes that come piece by piece."""

    def __init__(self) -> None:
        # What was taken away lately, then room for what comes.
        self._taken = np.zeros(FAR + AT_ONCE, dtype=np.uint8)
        self._taken[FAR - len(BEGIN) : FAR] = np.frombuffer(BEGIN, dtype=np.uint8)

    def update(self, piece: memoryview) -> None:
        """Take in the bytes that follow."""
        content = np.frombuffer(piece, dtype=np.uint8)
        for start in range(0, len(content), AT_ONCE):
            self._add(content[start : start + AT_ONCE])

    def _add(self, content: np.ndarray) -> None:
        taken = self._taken
        for start in range(0, len(content), NEAR):
            stop = min(start + NEAR, len(content))
            new = taken[FAR + start : FAR + stop]
            np.bitwise_xor(content[start:stop], taken[FAR + start - NEAR : FAR + stop - NEAR], out=new)
            np.bitwise_xor(new, taken[start:stop], out=new)
        taken[:FAR] = taken[len(content) : len(content) + FAR]

    def value(self) -> int:
        """Return the CRC-32 of all bytes so far."""
        left = self._taken[:FAR].copy()
        # The last bytes stay where they are: what they have added to each other is taken back.
        left[NEAR:] ^= self._taken[: FAR - NEAR]
        return zlib.crc32(left, 0xFFFFFFFF)
