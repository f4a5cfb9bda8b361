"""Controls: training pairs from which nothing can be learned, and what the page says of heads trained on them."""

import numpy as np
import pandas as pd
import pytest
import torch

from frozenalign.configuration.experiments import experiment_from
from frozenalign.data.controls import altered
from frozenalign.data.pairs import PairFiles, ResidentPairs
from frozenalign.reporting.controls import control_results
from frozenalign.system.errors import UserError
from frozenalign.training.data import TrainingData, load_training_data
from frozenalign.training.fit import fit
from frozenalign.training.starts import fit_start

CONTROLS = ["shuffled_pairs", "shifted_pairs", "random_embeddings"]
IMAGES, CAPTIONS = 50, 5


@pytest.fixture
def pairs() -> ResidentPairs:
    generator = torch.Generator().manual_seed(0)
    rows = torch.full((IMAGES, 12), 7.0, dtype=torch.float16), torch.randn(IMAGES * CAPTIONS, 9, generator=generator)
    return ResidentPairs(*rows, torch.arange(IMAGES).repeat_interleave(CAPTIONS), torch.bfloat16)


@pytest.fixture(scope="module")
def data(data_dir, split_dir) -> TrainingData:
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    files = [PairFiles.open(*names, split_dir / f"{split}.npz") for split in ("train", "val")]
    return load_training_data(*files, torch.float32)


def experiment(control: str = "none", **model):
    document = {
        "model": {"type": "linear", "output_dim": 4, "init": "cca", **model},
        "loss": {"type": "clip"},
        "training": {"batch_size": 32, "num_epochs": 1, "control": control},
    }
    return experiment_from(document, "test")


@pytest.mark.parametrize("seed", range(20))
def test_no_shuffled_caption_keeps_its_image_and_every_image_its_number_of_captions(pairs, seed):
    dealt = altered(pairs, "shuffled_pairs", seed).text_image
    assert not (dealt == pairs.text_image).any()
    assert (dealt.bincount() == CAPTIONS).all()


def test_shuffling_separates_the_captions_of_an_image(pairs):
    dealt = altered(pairs, "shuffled_pairs", 0).text_image.view(IMAGES, CAPTIONS)
    assert np.mean([len(images.unique()) for images in dealt]) > 4


def test_captions_of_uneven_images_are_dealt_to_others_as_long_as_that_is_possible():
    owners = torch.tensor([0, 0, 0, 1, 1, 2])
    uneven = ResidentPairs(torch.zeros(3, 2), torch.zeros(6, 2), owners)
    for seed in range(20):
        dealt = altered(uneven, "shuffled_pairs", seed).text_image
        assert sorted(dealt.tolist()) == owners.tolist()
        assert not (dealt == owners).any()


def test_shifted_captions_get_the_next_image(pairs):
    dealt = altered(pairs, "shifted_pairs", 0).text_image.view(IMAGES, CAPTIONS)
    assert (dealt == (torch.arange(IMAGES)[:, None] + 1) % IMAGES).all()


@pytest.mark.parametrize("control", ["shuffled_pairs", "shifted_pairs"])
def test_an_image_with_most_captions_cannot_lose_them_all(control):
    lopsided = ResidentPairs(torch.zeros(2, 2), torch.zeros(3, 2), torch.tensor([0, 0, 1]))
    with pytest.raises(UserError, match=f"training.control: {control} .* one image has 2 of the 3"):
        altered(lopsided, control, 0)


def test_random_embeddings_are_standard_normal_in_both_modalities(pairs):
    noise = altered(pairs, "random_embeddings", 0)
    for rows, before in ((noise.images, pairs.images), (noise.texts, pairs.texts)):
        assert (rows.shape, rows.dtype) == (before.shape, before.dtype)
        assert rows.float().mean().abs() < 0.1
        assert rows.float().std() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(noise.text_image, pairs.text_image)
    assert not torch.equal(noise.images[:, :9].float(), noise.texts[:IMAGES])


@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_given_stays_as_it_was_and_the_number_format_too(pairs, control):
    before = pairs.images.clone(), pairs.texts.clone(), pairs.text_image.clone()
    assert altered(pairs, control, 0).compute == torch.bfloat16
    for now, then in zip((pairs.images, pairs.texts, pairs.text_image), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("control", ["shuffled_pairs", "random_embeddings"])
def test_the_seed_decides(pairs, control):
    first, again, other = (altered(pairs, control, seed) for seed in (0, 0, 1))
    for part in ("images", "texts", "text_image"):
        assert torch.equal(getattr(first, part), getattr(again, part))
    assert not (torch.equal(first.text_image, other.text_image) and torch.equal(first.texts, other.texts))


def test_without_a_control_the_pairs_are_the_given_ones(pairs):
    assert altered(pairs, "none", 0) is pairs


@pytest.mark.parametrize("control", CONTROLS)
def test_a_head_starts_and_ends_without_what_the_true_pairs_teach(data, control):
    true, wrong = fit(experiment(), data, seed=0), fit(experiment(control), data, seed=0)
    for epoch in (0, 1):
        assert wrong.history[epoch]["val"]["RSUM"] < 0.8 * true.history[epoch]["val"]["RSUM"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_never_starts_from_the_cca_of_true_pairs(data, control):
    alone = fit(experiment(control), data, seed=0).history
    assert fit(experiment(control), data, seed=0, canonical=fit_start(data)).history == alone
    assert fit(experiment(), data, seed=0, canonical=fit_start(data)).history[0] != alone[0]


def test_validation_stays_true(data):
    """A head that gets no step is as good as its start, whatever the training pairs are."""
    histories = [fit(experiment(control, init="random"), data, seed=0).history for control in ("none", *CONTROLS)]
    assert all(history[0]["val"] == histories[0][0]["val"] for history in histories)


def board(rsum: float, low: float, high: float) -> pd.DataFrame:
    rows = [("clip", "head", 300.0, 290.0, 310.0), ("clip-shuffled_pairs", "control", rsum, low, high)]
    return pd.DataFrame(rows, columns=["experiment", "kind", "RSUM", "RSUM_low", "RSUM_high"])


@pytest.mark.parametrize(
    ("rsum", "low", "high", "at_chance"),
    [
        (5.0, 4.0, 6.0, True),
        (1.0, 0.5, 1.5, True),
        (7.0, 6.0, 8.0, True),
        (12.0, 4.0, 20.0, True),
        (12.0, 9.0, 15.0, False),
        (250.0, 240.0, 260.0, False),
    ],
    ids=["at chance", "collapsed", "a lucky epoch", "too few images to tell", "a small leak", "a large leak"],
)
def test_a_control_leaks_where_it_is_clearly_and_by_far_above_chance(rsum, low, high, at_chance):
    (found,) = control_results(board(rsum, low, high), chance_rsum=5.3)
    assert (found.experiment, found.rsum, found.at_chance) == ("clip-shuffled_pairs", rsum, at_chance)
