"""Rows in batches are those of the file, in order, and far ones are read without what lies between them."""

import io

import numpy as np
import pytest
import torch

from frozenalign.data import rows as module
from frozenalign.data.rows import RowFile, open_rows

ROWS, WIDTH = 200, 3
ROW_BYTES = 4 * WIDTH
PATTERNS = {
    "all": np.arange(ROWS),
    "every fifth": np.arange(2, ROWS, 5),
    "runs": np.flatnonzero(np.arange(ROWS) // 5 % 4 == 1),
    "scattered": np.array([0, 1, 2, 50, 52, 53, 140, 141, 160, ROWS - 1]),
    "none": np.empty(0, dtype=np.int64),
}


@pytest.fixture
def file(tmp_path) -> RowFile:
    torch.save(torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0)), tmp_path / "rows.pt")
    return open_rows(tmp_path / "rows.pt")


@pytest.mark.parametrize("near", [1, 4, 60])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_batches_are_the_rows_in_order(file, monkeypatch, pattern, size, near):
    monkeypatch.setattr(module, "NEAR_BYTES", near * ROW_BYTES)
    monkeypatch.setattr(module, "CHUNK_BYTES", 23 * ROW_BYTES)
    rows, whole = PATTERNS[pattern], file.read(0, ROWS)
    places, found = [], []
    for where, batch in file.batches(rows, size * ROW_BYTES):
        assert len(batch) == where.stop - where.start <= size
        places += range(where.start, where.stop)
        found.append(batch.clone())
        batch.zero_()
    assert places == list(range(len(rows)))
    assert torch.equal(torch.cat([torch.empty(0, WIDTH), *found]), whole[rows])


@pytest.mark.parametrize(("near", "read"), [(1, 10), (2, 11), (100, ROWS)])
def test_what_lies_between_far_rows_is_not_read(file, monkeypatch, near, read):
    monkeypatch.setattr(module, "NEAR_BYTES", near * ROW_BYTES)
    counts, fill = [], RowFile.fill

    def counted(file: RowFile, rows: torch.Tensor, start: int) -> torch.Tensor:
        counts.append(len(rows))
        return fill(file, rows, start)

    monkeypatch.setattr(RowFile, "fill", counted)
    list(file.batches(PATTERNS["scattered"], 1 << 20))
    assert sum(counts) == read


def test_a_disk_that_gives_a_few_bytes_at_a_time_gives_all_rows(file, monkeypatch):
    whole, read_some = file.read(0, ROWS), io.FileIO.readinto

    class Slow(io.FileIO):
        def readinto(self, content):
            return read_some(self, memoryview(content)[:100])

    monkeypatch.setattr("pathlib.Path.open", lambda path, mode, buffering: Slow(path, mode))
    assert torch.equal(file.read(0, ROWS), whole)
