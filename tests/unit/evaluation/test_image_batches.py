"""A split is read in batches of texts with their images: every row once, and no row that the split lacks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.pairs import PairFiles
from frozenalign.data.rows import RowFile, open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation import image_batches as module
from frozenalign.evaluation.image_batches import image_batches, rows_at_once

IMAGES, ROWS = 40, 200


def files_of(folder: Path, shuffled: bool, at_most: int = 7) -> PairFiles:
    """Files of 200 pairs, and a split of 12 of their 40 images; image 3 has most captions of all."""
    generator = np.random.default_rng(0)
    owner = np.sort(np.concatenate([np.arange(IMAGES), np.full(at_most, 3), generator.integers(0, IMAGES, ROWS)]))[
        :ROWS
    ]
    owner = generator.permutation(owner) if shuffled else owner
    for name, width in (("images", 5), ("texts", 9)):
        torch.save(torch.from_numpy(generator.normal(size=(ROWS, width))).float(), folder / f"{name}.pt")
    _, first = np.unique(owner, return_index=True)
    chosen = np.sort(generator.choice(len(first), 12, replace=False))
    texts = np.flatnonzero(np.isin(owner, chosen))
    image_rows = np.sort(first[chosen])
    place = {int(row): number for number, row in enumerate(image_rows)}
    text_image = np.array([place[int(first[owner[row]])] for row in texts])
    return PairFiles(
        open_rows(folder / "images.pt"), open_rows(folder / "texts.pt"), SplitIndex(image_rows, texts, text_image)
    )


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_batches_hold_every_text_with_its_image_once(tmp_path, monkeypatch, shuffled, size):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", size)
    files = files_of(tmp_path, shuffled)
    split = files.split
    images, texts = (file.read(0, ROWS) for file in (files.images, files.texts))
    seen_images, seen_texts = [], []
    for batch in image_batches(files):
        assert len(batch.texts) <= size
        seen_images += range(batch.new.start, batch.new.stop)
        seen_texts += batch.texts.tolist()
        assert torch.equal(batch.new_rows, images[split.image_rows[batch.new]])
        assert torch.equal(batch.text_rows, texts[split.text_rows[batch.texts]])
        assert torch.equal(batch.image_rows[batch.owner], images[split.image_rows[split.text_image[batch.texts]]])
    assert seen_images == list(range(12))
    assert sorted(seen_texts) == list(range(len(split.text_rows)))


def test_no_row_is_read_twice_and_none_that_the_split_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    files = files_of(tmp_path, shuffled=True)
    read, fill = {}, RowFile.fill

    def counted(file: RowFile, rows: torch.Tensor, start: int) -> torch.Tensor:
        read.setdefault(file.path.name, []).extend(range(start, start + len(rows)))
        return fill(file, rows, start)

    monkeypatch.setattr(RowFile, "fill", counted)
    list(image_batches(files))
    assert sorted(read["images.pt"]) == files.split.image_rows.tolist()
    assert sorted(read["texts.pt"]) == files.split.text_rows.tolist()


def test_images_that_no_text_shows_are_read_as_well(tmp_path):
    files = files_of(tmp_path, shuffled=False)
    last = files.split.text_image.max()
    kept = files.split.text_image < last
    split = replace(files.split, text_rows=files.split.text_rows[kept], text_image=files.split.text_image[kept])
    batches = list(image_batches(replace(files, split=split)))
    assert batches[-1].new.stop == len(split.image_rows)


def test_batches_of_very_wide_rows_have_fewer():
    assert [rows_at_once(size) for size in (4, 16384, 1 << 22, 1 << 30)] == [1024, 1024, 8, 1]
