"""The CRC-32 of long streams is that of zlib."""

import zlib

import numpy as np
import pytest

from frozenalign.system.checksums import AT_ONCE, FAR, NEAR, Checksum


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, NEAR - 1, NEAR + 3, FAR, FAR + 1, 2 * AT_ONCE + 77_777])
@pytest.mark.parametrize("at_once", [1 << 22, 100_003])
def test_the_checksum_of_pieces_is_that_of_zlib(length, at_once):
    content = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    checksum = Checksum()
    for start in range(0, length, at_once):
        checksum.update(memoryview(content)[start : start + at_once])
    assert checksum.value() == zlib.crc32(content)


def test_a_value_may_be_asked_for_before_the_last_piece():
    content, checksum = bytes(range(256)) * 3000, Checksum()
    for start in range(0, len(content), 200_000):
        piece = content[start : start + 200_000]
        checksum.update(memoryview(piece))
        assert checksum.value() == zlib.crc32(content[: start + len(piece)])


def test_a_single_changed_bit_changes_the_checksum():
    content = bytearray(3 * FAR)
    expected = zlib.crc32(content)
    for place in (0, NEAR, FAR, len(content) - 1):
        content[place] ^= 1
        checksum = Checksum()
        checksum.update(memoryview(content))
        assert checksum.value() == zlib.crc32(content) != expected
        content[place] ^= 1
