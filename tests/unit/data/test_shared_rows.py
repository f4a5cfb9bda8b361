"""Rows that trainings share are those that each would load for itself, and are read once."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from frozenalign.data import shared_rows as module
from frozenalign.data.pairs import PairFiles, load_pairs, row_statistics
from frozenalign.data.rows import RowFile
from frozenalign.data.shared_rows import bytes_to_hold, shared_pairs


@pytest.fixture
def given(data_dir, split_dir, tmp_path):
    """Training files of their own, which no other test shares, with the statistics of their rows."""
    names = [f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    train = PairFiles.open(*(shutil.copy(data_dir / name, tmp_path) for name in names), split_dir / "train.npz")
    image = row_statistics(train.images, train.split.image_rows)
    return train, image, row_statistics(train.texts, train.split.text_rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_shared_rows_are_bit_for_bit_those_that_are_loaded(given, dtype):
    shared, loaded = shared_pairs(*given, dtype, dtype), load_pairs(*given, dtype, dtype)
    assert torch.equal(shared.images, loaded.images)
    assert torch.equal(shared.texts, loaded.texts)
    assert torch.equal(shared.text_image, loaded.text_image)


def test_rows_that_are_shared_are_read_once_and_count_once(given, monkeypatch):
    train, held = given[0], torch.float16
    alone = 2 * train.values
    assert bytes_to_hold(train, held) == alone
    pairs = shared_pairs(*given, held, held)
    assert bytes_to_hold(train, held) == 0
    assert bytes_to_hold(train, torch.float32) == 2 * alone
    with monkeypatch.context() as patch:
        patch.setattr(RowFile, "fill", lambda *_: pytest.fail("read again"))
        again = shared_pairs(*given, held, held)
    assert torch.equal(again.texts, pairs.texts)
    del pairs, again
    assert bytes_to_hold(train, held) == alone


def test_other_rows_statistics_or_content_are_not_shared(given):
    train, image, text = given
    pairs = shared_pairs(*given, torch.float32, torch.float32)
    other = shared_pairs(train, image, replace(text, mean=text.mean + 1), torch.float32, torch.float32)
    torch.testing.assert_close(other.texts, pairs.texts - 1 / text.scale)
    fewer = replace(train, split=replace(train.split, image_rows=np.delete(train.split.image_rows, 0)))
    assert bytes_to_hold(fewer, torch.float32) == 4 * len(fewer.split.image_rows) * train.image_file.width
    path, status = train.texts.path, train.texts.path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert bytes_to_hold(train, torch.float32) == 4 * len(train.split.text_rows) * train.texts.width


def test_rows_are_loaded_where_memory_cannot_be_shared(given, monkeypatch):
    def refuse(*_):
        raise PermissionError("belongs to another user")

    monkeypatch.setattr(module, "shared_bytes", refuse)
    assert torch.equal(
        shared_pairs(*given, torch.float16, torch.float16).texts, load_pairs(*given, torch.float16).texts
    )
