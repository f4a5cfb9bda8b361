"""What the check of an embedding file finds while it reads the file once."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data import row_checks
from frozenalign.data.row_checks import RowDigests, check_rows, row_digests
from frozenalign.data.rows import RowFile, open_rows

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def rows_of_images(dtype: torch.dtype, width: int = 7) -> torch.Tensor:
    """Return 60 rows of which neighbours, rows far apart, and rows of one first number are the same."""
    rows = torch.randn(20, width, generator=torch.Generator().manual_seed(0))
    rows[5, 1:] = rows[4, 1:]
    rows[6, :-1] = rows[5, :-1]
    order = torch.tensor([*range(20), *np.repeat(range(10), 3), *range(10)])
    return rows[order].to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("at_once", [1, 7, 60])
def test_every_row_has_the_digest_of_its_bytes(dtype, at_once):
    rows = rows_of_images(dtype)
    expected = [hashlib.blake2b(row, digest_size=16).digest() for row in rows.view(torch.uint8).numpy()]
    assert row_digests(rows.split(at_once)).tolist() == np.array(expected, dtype="V16").tolist()


def test_digests_of_a_buffer_that_is_filled_anew_are_those_of_its_contents():
    rows, buffer, digests = rows_of_images(torch.float32), torch.empty(4, 7), RowDigests()
    for part in rows.split(4):
        digests.add(buffer.copy_(part))
    assert digests.found().tolist() == row_digests([rows]).tolist()


def test_numbers_that_are_equal_but_not_in_their_bits_are_different_rows():
    zeros = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0]])
    first, second, third = row_digests([zeros]).tolist()
    assert first == third != second


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("checksums", [True, False])
def test_each_row_is_read_once_for_the_hash_the_digests_and_the_checks(dtype, checksums, tmp_path: Path, monkeypatch):
    rows = rows_of_images(dtype)
    path = tmp_path / "rows.pt"
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(rows, path)
    finally:
        torch.serialization.set_crc32_options(True)
    read, fill = [], RowFile.fill

    def counted(self: RowFile, tensor: torch.Tensor, start: int) -> torch.Tensor:
        read.extend(range(start, start + len(tensor)))
        return fill(self, tensor, start)

    monkeypatch.setattr(RowFile, "fill", counted)
    monkeypatch.setattr(row_checks, "PIECE_BYTES", 7 * rows.shape[1] * rows.itemsize)
    digests = RowDigests()
    file = open_rows(path)
    assert bool(file.checksum) == checksums
    checked = check_rows(file, digests)
    # The first row is what the others are compared with.
    assert sorted(read) == [0, *range(60)]
    assert checked.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (checked.equal, checked.warnings) == (False, [])
    assert digests.found().tolist() == row_digests([rows]).tolist()


def test_pytorch_computes_with_as_many_threads_after_a_check_as_before(tmp_path: Path):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.save(torch.ones(4, 3), tmp_path / "rows.pt")
        assert check_rows(open_rows(tmp_path / "rows.pt")).equal
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
