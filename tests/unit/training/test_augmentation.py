"""What a training batch goes through: mixing, zero-mean noise, dropout, each off by default."""

import numpy as np
import pytest
import torch

from frozenalign.training.augmentation import Augmentation

IMAGES, TEXTS = torch.randn(200, 30, generator=torch.Generator().manual_seed(0)), torch.arange(200.0)[:, None] * 10


def augmentation(**changed) -> Augmentation:
    return Augmentation(**{"mixup": 0.0, "image_noise": 0.0, "text_noise": 0.0, "input_dropout": 0.0, **changed})


def test_without_settings_the_batch_stays_as_it_is():
    images, texts = augmentation()(IMAGES, TEXTS, 1.0)
    assert images is IMAGES
    assert texts is TEXTS


def test_mixed_pairs_share_their_partner_and_their_lambda_in_both_modalities():
    torch.manual_seed(0)
    images, texts = augmentation(mixup=0.4)(IMAGES, TEXTS, 0.75)
    partners = ((texts - 0.75 * TEXTS) / 0.25 / 10).round().long().flatten()
    assert partners.sort().values.tolist() == list(range(200))
    torch.testing.assert_close(images, 0.75 * IMAGES + 0.25 * IMAGES[partners], rtol=1e-4, atol=1e-4)


def test_lambda_is_drawn_from_the_beta_distribution_and_never_below_one_half():
    shares = augmentation(mixup=0.4).shares(2000, np.random.default_rng(0))
    drawn = np.random.default_rng(1).beta(0.4, 0.4, 20000)
    assert min(shares) >= 0.5
    assert np.mean(shares) == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.01)
    assert augmentation().shares(3, np.random.default_rng(0)) == [1.0, 1.0, 1.0]


def test_noise_has_mean_zero_and_the_scale_of_its_modality():
    torch.manual_seed(0)
    zeros = torch.zeros(500, 400)
    images, texts = augmentation(image_noise=0.5, text_noise=0.1)(zeros, zeros, 1.0)
    for rows, scale in ((images, 0.5), (texts, 0.1)):
        assert rows.mean().item() == pytest.approx(0.0, abs=0.005)
        assert rows.std().item() == pytest.approx(scale, rel=0.01)


def test_input_dropout_zeroes_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    images, _ = augmentation(input_dropout=0.25)(torch.ones(500, 400), TEXTS, 1.0)
    assert (images == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert images.mean().item() == pytest.approx(1.0, abs=0.02)


def test_the_number_format_stays():
    images, _ = augmentation(mixup=0.4, image_noise=0.5, input_dropout=0.1)(IMAGES.bfloat16(), TEXTS, 0.7)
    assert images.dtype == torch.bfloat16
