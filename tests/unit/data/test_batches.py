"""Batches: every pair once an epoch, never two captions of one image; rows standardised as they are loaded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from frozenalign.data.batches import deal_pairs, false_negative_rate, shuffle_pairs
from frozenalign.data.pairs import RAW, PairFiles, ResidentPairs, load_pairs, load_rows, row_statistics, spread
from frozenalign.data.rows import open_rows
from frozenalign.training.epochs import batch_warnings
from tests.small_training import experiment


def pairs_of(captions) -> np.ndarray:
    return np.repeat(np.arange(len(captions)), captions)


@pytest.mark.parametrize(
    "captions",
    [[5] * 200, list(range(1, 8)) * 30, [1] * 97, [40] + [1] * 60, [5, 5]],
    ids=["five each", "one to seven", "one each", "one with forty", "two images"],
)
@pytest.mark.parametrize("batch_size", [2, 7, 64, 5000])
def test_an_epoch_deals_every_pair_once_and_no_image_twice_in_a_batch(captions, batch_size, rng):
    pair_image = rng.permutation(pairs_of(captions))
    batches = list(deal_pairs(pair_image, batch_size, rng))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(pair_image)))
    for batch in batches:
        assert len(set(pair_image[batch].tolist())) == len(batch) <= batch_size
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1


def test_the_generator_decides_the_batches_and_epochs_differ():
    pair_image = pairs_of([5] * 40)
    first, again, other = (
        np.concatenate(list(deal_pairs(pair_image, 16, np.random.default_rng([0, epoch])))) for epoch in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_any_two_images_meet_about_as_often_as_chance_has_it(rng):
    pair_image = pairs_of([5] * 60)
    meetings = np.zeros((60, 60))
    for _ in range(200):
        for batch in deal_pairs(pair_image, 30, rng):
            images = pair_image[batch]
            meetings[images[:, None], images[None, :]] += 1
    off_diagonal = meetings[~np.eye(60, dtype=bool)]
    assert off_diagonal.std() / off_diagonal.mean() < 0.1


@pytest.fixture
def train(data_dir, split_dir) -> PairFiles:
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    return PairFiles.open(*names, split_dir / "train.npz")


def test_loaded_pairs_are_the_rows_of_the_files(train, data_dir):
    pairs = load_pairs(train, RAW, RAW, torch.float32)
    texts = torch.load(data_dir / "train2017_text_embeddings.pt", weights_only=True)
    images = torch.load(data_dir / "train2017_image_embeddings.pt", weights_only=True)
    assert torch.equal(pairs.texts, texts[train.split.text_rows])
    found, _, _ = pairs.batch(torch.arange(len(pairs)))
    assert torch.equal(found, images[train.split.text_rows])


def test_statistics_standardise_the_training_rows(train):
    image, text = (
        row_statistics(train.images, train.split.image_rows),
        row_statistics(train.texts, train.split.text_rows),
    )
    pairs = load_pairs(train, image, text, torch.float32)
    for rows in (pairs.images, pairs.texts):
        torch.testing.assert_close(rows.mean(0), torch.zeros(rows.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(rows.std(0, correction=0), torch.ones(rows.shape[1]), atol=1e-4, rtol=0)


def test_a_dimension_that_never_varies_stays_finite(tmp_path):
    rows = torch.randn(50, 3)
    rows[:, 1] = 123.456
    torch.save(rows, tmp_path / "rows.pt")
    statistics = row_statistics(open_rows(tmp_path / "rows.pt"), np.arange(50))
    assert statistics.scale[1] == 1.0
    assert statistics.mean[1].item() == pytest.approx(123.456, rel=1e-6)


def test_rows_held_in_16_bits_come_out_in_the_format_of_the_computation(train):
    image, text = (row_statistics(file, np.arange(file.rows)) for file in (train.images, train.texts))
    exact = load_pairs(train, image, text, torch.float32)
    held = load_pairs(train, image, text, torch.float16)
    assert held.texts.dtype == torch.float16
    for found, expected in zip(held.batch(torch.arange(20)), exact.batch(torch.arange(20)), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=2**-11, atol=1e-6)


def test_a_row_far_outside_the_training_rows_stays_finite(tmp_path):
    rows = torch.full((3, 2), 1.0)
    rows[2] = 1e9
    torch.save(rows, tmp_path / "rows.pt")
    loaded = load_rows(open_rows(tmp_path / "rows.pt"), np.arange(3), RAW, torch.float16)
    assert loaded.isfinite().all()


def test_statistics_of_many_rows_come_from_blocks_spread_over_all(tmp_path, monkeypatch):
    rows = torch.randn(1000, 4) + torch.arange(1000)[:, None] / 100
    torch.save(rows, tmp_path / "rows.pt")
    file = open_rows(tmp_path / "rows.pt")
    exact = row_statistics(file, np.arange(1000))
    monkeypatch.setattr("frozenalign.data.pairs.STATISTICS_ROWS", 400)
    monkeypatch.setattr("frozenalign.data.pairs.BLOCK_ROWS", 10)
    estimated = row_statistics(file, np.arange(1000))
    assert not torch.equal(estimated.mean, exact.mean)
    torch.testing.assert_close(estimated.mean, exact.mean, rtol=0.05, atol=0.05)
    torch.testing.assert_close(estimated.scale, exact.scale, rtol=0.05, atol=0)


@pytest.mark.parametrize(("count", "blocks"), [(384, 3), (130, 1), (50, 1), (1, 1)])
def test_spread_rows_are_blocks_of_neighbours(count, blocks):
    rows = 3 * np.arange(1000)
    found = spread(rows, count)
    assert set(found) <= set(rows)
    assert len(np.unique(found)) == len(found) <= count
    assert (np.diff(found) > 3).sum() == blocks - 1


def test_few_rows_are_all_taken():
    assert spread(np.arange(7), 7).tolist() == list(range(7))


def test_shuffled_pairs_are_all_pairs_once_and_captions_of_an_image_may_meet():
    owner = np.repeat(np.arange(20), 5)
    batches = list(shuffle_pairs(owner, 30, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == [25, 25, 25, 25]
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert false_negative_rate(owner, batches) > 0.5


def test_the_false_negative_rate_counts_pairs_that_meet_their_own_image():
    owner = np.array([0, 0, 1, 2, 2, 2])
    assert false_negative_rate(owner, [np.array([0, 1, 2]), np.array([3, 4, 5])]) == 5 / 6
    assert false_negative_rate(owner, [np.array([0, 3]), np.array([1, 4]), np.array([2, 5])]) == 0


def with_captions(captions: list[int]) -> ResidentPairs:
    owner = torch.arange(len(captions)).repeat_interleave(torch.tensor(captions))
    return ResidentPairs(torch.zeros(len(captions), 1), torch.zeros(len(owner), 1), owner)


@pytest.mark.parametrize("batch_size", [8, 64, 199])
def test_nothing_is_said_of_full_batches(batch_size):
    assert batch_warnings(with_captions([5] * 200), experiment(batch_size=batch_size).training) == []


@pytest.mark.parametrize(
    ("captions", "batch_size", "said"),
    [
        ([5] * 200 + [1000], 256, "asks for 256 pairs but batches hold 2: an image has 1000 of the 2000 captions"),
        ([5] * 200, 512, "asks for 512 pairs but batches hold 200: an image has 5 of the 1000 captions"),
    ],
)
def test_batches_that_an_image_with_many_captions_keeps_small_are_said(captions, batch_size, said):
    settings = experiment(batch_size=batch_size).training
    (found,) = batch_warnings(with_captions(captions), settings)
    assert said in found
    owner = with_captions(captions).text_image.numpy()
    held = [len(batch) for batch in deal_pairs(owner, batch_size, np.random.default_rng(0))]
    assert f"hold {np.mean(held):.4g}:" in found
    assert batch_warnings(with_captions(captions), replace(settings, same_image="masked")) == []
