"""Pairs that stay in their files give the batches that pairs in memory give, and hold two groups at a time."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from frozenalign.data.batches import BlockOrder, batch_count, deal_pairs, shuffle_pairs
from frozenalign.data.controls import altered
from frozenalign.data.copied_pairs import CopiedPairs
from frozenalign.data.pairs import PairFiles, ResidentPairs, load_pairs, pair_chunks, row_statistics
from frozenalign.data.rows import open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.data.streamed_pairs import StreamedPairs

IMAGES, CAPTIONS = 70, 3
ORDER = BlockOrder(block=4, together=60)


@pytest.fixture(scope="module", params=["neighbours", "scattered", "averaged"])
def both(request, tmp_path_factory) -> tuple[ResidentPairs, StreamedPairs]:
    """The same pairs in memory and in files: captions of an image one after the other, or far apart, or averaged."""
    folder, generator = tmp_path_factory.mktemp("files"), torch.Generator().manual_seed(0)
    for name, rows, width in (("images", 2 * IMAGES, 7), ("texts", 2 * IMAGES * CAPTIONS, 5)):
        torch.save(torch.randn(rows, width, generator=generator), folder / f"{name}.pt")
    owners = np.arange(IMAGES).repeat(CAPTIONS)
    if request.param == "scattered":
        owners = np.arange(IMAGES * CAPTIONS) % IMAGES
    rows = np.sort(np.random.default_rng(0).permutation(2 * IMAGES)[:IMAGES])
    split = SplitIndex(rows, 2 * np.arange(IMAGES * CAPTIONS), owners)
    if request.param == "averaged":
        further = np.setdiff1d(np.arange(2 * IMAGES), rows)
        split = replace(split, further_rows=further[:20], further_image=np.arange(20) * 3)
    files = PairFiles(open_rows(folder / "images.pt"), open_rows(folder / "texts.pt"), split)
    image, text = (row_statistics(*each) for each in ((files.images, split.image_rows), (files.texts, split.text_rows)))
    formats = torch.float16, torch.float32
    return load_pairs(files, image, text, *formats), StreamedPairs(files, image, text, *formats, ORDER)


def batches_of(pairs: StreamedPairs, batch_size: int, apart: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return an epoch's groups and batches."""
    generator, owners = np.random.default_rng(5), pairs.text_image.numpy()
    groups = pairs.groups(batch_size, generator)
    divide = deal_pairs if apart else shuffle_pairs
    return groups, [group[at] for group in groups for at in divide(owners[group], batch_size, generator)]


def assert_same_batch(first: tuple, second: tuple) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("apart", [True, False])
def test_streamed_batches_are_bit_for_bit_those_of_pairs_in_memory(both, apart):
    resident, streamed = both
    groups, batches = batches_of(streamed, 16, apart)
    streamed.load_ahead(groups)
    assert len(groups) == 5
    for batch in batches:
        pairs = torch.from_numpy(batch)
        assert_same_batch(streamed.batch(pairs), resident.batch(pairs))


def test_a_resumed_epoch_begins_in_the_group_of_its_next_batch(both):
    resident, streamed = both
    groups, batches = batches_of(streamed, 16, True)
    streamed.load_ahead(groups)
    for batch in batches[9:]:
        pairs = torch.from_numpy(batch)
        assert_same_batch(streamed.batch(pairs), resident.batch(pairs))


def test_any_pairs_are_read_from_the_files_without_losing_what_is_loaded(both):
    """Batch norms are renewed by pairs from everywhere, and a batch that diverged is asked for again."""
    resident, streamed = both
    groups, batches = batches_of(streamed, 16, True)
    streamed.load_ahead(groups)
    everywhere = torch.arange(0, len(resident), 9)
    for pairs in (torch.from_numpy(batches[5]), everywhere, torch.from_numpy(batches[0]), torch.from_numpy(batches[5])):
        assert_same_batch(streamed.batch(pairs), resident.batch(pairs))


def test_each_group_is_read_once_and_only_the_next_one_ahead(both, monkeypatch):
    _, streamed = both
    read = []
    reading = StreamedPairs._read

    def recorded(self, pairs):
        read.append(pairs)
        return reading(self, pairs)

    monkeypatch.setattr(StreamedPairs, "_read", recorded)
    groups, batches = batches_of(streamed, 16, True)
    streamed.load_ahead(groups)
    of_group = [next(n for n, group in enumerate(groups) if np.isin(batch, group).all()) for batch in batches]
    for batch, number in zip(batches, of_group, strict=True):
        streamed.batch(torch.from_numpy(batch))
        assert len(read) <= number + 2
    assert of_group == sorted(of_group)
    assert [group.tolist() for group in read] == [group.tolist() for group in groups]


def test_an_error_of_the_reading_thread_reaches_the_training(both, tmp_path):
    _, streamed = both
    lost = replace(streamed.files.texts, path=tmp_path / "lost.pt")
    streamed = replace(streamed, files=replace(streamed.files, texts=lost))
    groups, batches = batches_of(streamed, 16, True)
    streamed.load_ahead(groups)
    with pytest.raises(Exception, match=r"lost\.pt: rows .* cannot be read"):
        streamed.batch(torch.from_numpy(batches[0]))


def test_chunks_of_streamed_pairs_are_those_of_pairs_in_memory(both):
    for one, other in zip(*(pair_chunks(pairs) for pairs in both), strict=True):
        assert_same_batch(one, other)


@pytest.mark.parametrize("control", ["shuffled_pairs", "shifted_pairs"])
def test_controls_give_streamed_pairs_the_images_that_they_give_pairs_in_memory(both, control):
    resident, streamed = (altered(pairs, control, seed=3) for pairs in both)
    pairs = torch.arange(0, len(resident), 4)
    assert_same_batch(streamed.batch(pairs), resident.batch(pairs))


def test_noise_in_place_of_streamed_rows_is_standard_normal_and_always_the_same(both):
    noisy = altered(both[1], "random_embeddings", seed=3)
    images, texts, _ = noisy.batch(torch.arange(len(noisy)))
    for rows in (images[::CAPTIONS], texts):
        assert abs(rows.mean()) < 0.2
        assert 0.85 < rows.std() < 1.15
    again = noisy.batch(torch.arange(100, 105))
    assert torch.equal(again[1], texts[100:105])
    assert torch.equal(again[0], images[100:105])


def test_another_process_gets_the_pairs_without_what_is_loaded(both):
    resident, streamed = both
    groups, batches = batches_of(streamed, 16, True)
    streamed.load_ahead(groups)
    streamed.batch(torch.from_numpy(batches[0]))
    passed = pickle.dumps(streamed)
    pairs = torch.from_numpy(batches[1])
    assert_same_batch(pickle.loads(passed).batch(pairs), resident.batch(pairs))


@pytest.mark.parametrize("number", [0, 1], ids=["resident", "streamed"])
def test_copied_batches_are_those_of_pairs_on_the_device(both, number):
    resident = both[0]
    copied = CopiedPairs(replace(both[number], compute=torch.float16), torch.device("cpu"), torch.float32)
    pairs = torch.arange(3, 30, 2)
    assert_same_batch(copied.batch(pairs), resident.batch(pairs))
    assert_same_batch(copied.to(torch.device("cpu")).batch(pairs), resident.batch(pairs))
    assert copied.widths == resident.widths


@pytest.mark.parametrize(
    ("pairs", "batch_size", "block", "together"), [(1000, 16, 8, 128), (997, 10, 3, 75), (50, 7, 50, 7)]
)
def test_an_epoch_in_blocks_has_every_pair_once_in_the_batches_of_a_full_shuffle(pairs, batch_size, block, together):
    owners = np.arange(pairs) // 4
    order = BlockOrder(block, together)
    groups = order.groups(pairs, batch_size, np.random.default_rng(0))
    assert np.array_equal(np.sort(np.concatenate(groups)), np.arange(pairs))
    assert max(map(len, groups)) <= together
    for divide in (deal_pairs, shuffle_pairs):
        generator = np.random.default_rng(0)
        if divide is deal_pairs and order.batches(pairs, batch_size).min() < 4:
            continue
        made = [list(divide(owners[group], batch_size, generator)) for group in groups]
        assert [len(batches) for batches in made] == order.batches(pairs, batch_size).tolist()
        assert sum(map(len, made)) == batch_count(owners, batch_size)
        assert max(len(batch) for batches in made for batch in batches) <= batch_size
        if divide is deal_pairs:
            drawn = [owners[group][at] for group, batches in zip(groups, made, strict=True) for at in batches]
            assert all(len(np.unique(images)) == len(images) for images in drawn)


def test_blocks_meet_others_in_every_epoch():
    """Of a full shuffle's pairs of neighbours in a group, one in so many groups stays together; here blocks do."""
    order = BlockOrder(block=8, together=256)
    met = np.zeros((128, 128), dtype=int)
    for epoch in range(200):
        for group in order.groups(1024, 16, np.random.default_rng([0, epoch])):
            blocks = np.unique(group // 8)
            met[np.ix_(blocks, blocks)] += 1
    others = met[~np.eye(128, dtype=bool)] / 200
    assert others.mean() == pytest.approx(31 / 127, rel=0.1)
    assert others.min() > 0.08
