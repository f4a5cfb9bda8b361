"""Moments of pairs whose images stand once in a chunk are those of the expanded pairs."""

import numpy as np
import pytest
import torch
from torch import Tensor

from frozenalign.data import moments as moments_module
from frozenalign.data import pairs as pairs_module
from frozenalign.data.moments import Moments, standardized_covariances
from frozenalign.data.pairs import PairFiles, caption_chunks


def assert_moments_are_those_of(images: Tensor, texts: Tensor, moments: Moments) -> None:
    """Compare with the plain formulas of expanded pairs, (N, D_image) and (N, D_text), in float64."""
    x, y = images.double().numpy(), texts.double().numpy()
    expected = np.cov(np.hstack([x, y]), rowvar=False, bias=True)
    width = images.shape[1]
    scale = np.abs(expected).max()
    for found, plain in (
        (moments.image_mean, x.mean(0)),
        (moments.text_mean, y.mean(0)),
        (moments.image_covariance, expected[:width, :width]),
        (moments.text_covariance, expected[width:, width:]),
        (moments.cross_covariance, expected[:width, width:]),
    ):
        np.testing.assert_allclose(found, plain, atol=1e-6 * scale, rtol=1e-6)


def captioned(images: int, texts: int, image_dim: int, text_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, texts that depend on them, and the image of each: in any order, of one as many as comes."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.randint(images, (texts,), generator=generator)
    rows = 3 + torch.randn(images, image_dim, generator=generator)
    mixed = rows[owner] @ torch.randn(image_dim, text_dim, generator=generator)
    return rows, mixed + torch.randn(texts, text_dim, generator=generator) - 2, owner


@pytest.mark.parametrize("widths", [(7, 530), (530, 7), (300, 300)], ids=str)
@pytest.mark.parametrize("images", [1, 40, 3000])
def test_texts_of_an_image_count_as_pairs_wherever_they_stand(widths, images, monkeypatch):
    monkeypatch.setattr(moments_module, "PAIRS_AT_ONCE", 170)
    rows, texts, owner = captioned(images, 2000, *widths)
    assert_moments_are_those_of(rows[owner], texts, Moments.of_rows(rows, texts, owner))


def test_an_image_without_text_counts_for_nothing():
    rows, texts, owner = captioned(30, 400, 5, 6)
    wrong = torch.cat([rows, torch.full((4, 5), 1e6)])
    assert_moments_are_those_of(rows[owner], texts, Moments.of_captions([(rows, texts, owner), (wrong, texts, owner)]))


def test_products_with_images_are_computed_once_an_image(monkeypatch):
    rows, texts, owner = captioned(20, 300, 5, 6)
    summed, product = [], moments_module.product
    monkeypatch.setattr(moments_module, "product", lambda x, y: (summed.append(x.shape[1]), product(x, y))[1])
    Moments.of_captions([(rows, texts, owner)])
    assert sorted(summed) == [20, 20, 300]


@pytest.mark.parametrize("format", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_covariances_of_standardized_rows_are_exact_in_every_format(format, monkeypatch):
    monkeypatch.setattr(moments_module, "STANDARDIZED_AT_ONCE", 170)
    images, texts, owner = captioned(300, 1000, 20, 300)
    rows = [((each - each.mean(0)) / each.std(0)).to(format) for each in (images[owner], texts)]
    chunks = zip(*(each.split(400) for each in rows), strict=True)
    for found, own in zip(standardized_covariances(chunks), rows, strict=True):
        plain = torch.cov(own.double().T, correction=0)
        torch.testing.assert_close(found, plain, atol=1e-6, rtol=0)


def test_chunks_of_captions_are_the_pairs_of_the_split(data_dir, split_dir, monkeypatch):
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    files = PairFiles.open(*names, split_dir / "train.npz")
    monkeypatch.setattr(pairs_module, "CAPTION_BYTES", 37 * 4 * (files.image_file.width + files.texts.width))
    chunks = list(caption_chunks(files))
    assert len(chunks) > 3
    assert all(len(texts) == 37 for _, texts, _ in chunks[:-1])
    assert all(len(images) == len(owner.unique()) < len(owner) for images, _, owner in chunks)
    expanded = [torch.cat(part) for part in zip(*((images[own], texts) for images, texts, own in chunks), strict=True)]
    for rows, name in zip(expanded, names, strict=True):
        assert torch.equal(rows, torch.load(name, weights_only=True)[files.split.text_rows])
    assert_moments_are_those_of(*expanded, Moments.of_captions(chunks))
