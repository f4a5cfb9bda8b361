"""The CKA of two encoders, summed by batches, is that of the centred kernels of all pairs in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from frozenalign.data import moments as moments_module
from frozenalign.data.pairs import PairFiles
from frozenalign.evaluation import encoder_similarity as module
from frozenalign.evaluation import image_batches as batches_module
from frozenalign.evaluation.encoder_similarity import EncoderSimilarity, KnownCKA
from frozenalign.evaluation.image_batches import ImageBatch, image_batches

CPU = torch.device("cpu")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def files(data_dir, split_dir) -> PairFiles:
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    return PairFiles.open(*names, split_dir / "test.npz")


def brute_force(images: np.ndarray, texts: np.ndarray) -> float:
    """Compare the centred kernel matrices of all pairs."""
    centre = np.eye(len(images)) - 1 / len(images)
    kernels = [centre @ (rows @ rows.T) @ centre for rows in (images, texts)]
    product = (kernels[0] * kernels[1]).sum()
    return product / (np.linalg.norm(kernels[0]) * np.linalg.norm(kernels[1]))


def similarity(images: Tensor, texts: Tensor, owner: Tensor, size: int = 1000) -> float | None:
    """Sum batches of texts, each with all images."""
    sums = EncoderSimilarity(len(texts), CPU)
    for part in torch.arange(len(texts)).split(size):
        sums.add(ImageBatch(slice(0, 0), part.numpy(), images, texts[part], owner[part]))
    return sums.cka


@pytest.mark.parametrize(("size", "panel"), [(1000, 1024), (7, 3)])
def test_it_compares_the_centred_kernels_of_all_pairs(generator, monkeypatch, size, panel):
    monkeypatch.setattr(moments_module, "PANEL_ROWS", panel)
    images = torch.randn(20, 7, generator=generator) + 30.0
    owner = torch.randint(20, (60,), generator=generator)
    texts = torch.randn(60, 5, generator=generator) - 10.0
    texts[:, :3] += images[owner][:, :3]
    expected = brute_force(images[owner].double().numpy(), texts.double().numpy())
    assert similarity(images, texts, owner, size) == pytest.approx(expected, rel=1e-5)


def test_it_ignores_rotation_and_scale(generator):
    images = torch.randn(60, 6, generator=generator)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert similarity(images, 0.1 * images @ rotation + 1.0, torch.arange(60)) == pytest.approx(1.0, rel=1e-5)


def test_an_encoder_that_never_varies_has_none(generator):
    assert similarity(torch.ones(8, 3), torch.randn(8, 3, generator=generator), torch.arange(8)) is None
    assert similarity(torch.randn(8, 3, generator=generator), torch.full((8, 3), 0.1), torch.arange(8), 3) is None


def test_the_encoders_are_compared_on_the_raw_pairs_of_a_split(files, monkeypatch):
    monkeypatch.setattr(batches_module, "ROWS_AT_ONCE", 4)
    images, texts = (
        torch.load(file.path, weights_only=True)[rows].double().numpy()
        for file, rows in ((files.images, files.split.image_rows), (files.texts, files.split.text_rows))
    )
    sums = EncoderSimilarity.where_it_fits(files, CPU, 0)
    for batch in image_batches(files):
        sums.add(batch)
    assert sums.cka == pytest.approx(brute_force(images[files.split.text_image], texts), rel=1e-5)


def test_encoders_too_wide_to_be_compared_are_left_uncompared(files, monkeypatch, caplog):
    monkeypatch.setattr(module, "memory_left", lambda: 10_000)
    assert EncoderSimilarity.where_it_fits(files, CPU, 0) is not None
    assert EncoderSimilarity.where_it_fits(files, CPU, 9_000) is None
    assert "no CKA of the encoders" in caplog.text


def test_a_cka_is_known_for_the_pairs_it_was_found_on(tmp_path):
    known = KnownCKA(tmp_path / "known.json")
    assert known.of("a") is None
    known.add("a", 0.25)
    known.add("b", 1.0)
    assert [KnownCKA(tmp_path / "known.json").of(pairs) for pairs in "abc"] == [0.25, 1.0, None]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"a": "0.5"}', '{"a": -1.0}', '{"a": 2.0}', '{"a": NaN}', '{"a": null}']
)
def test_what_is_no_cka_is_computed_again(tmp_path, content):
    (tmp_path / "known.json").write_text(content)
    known = KnownCKA(tmp_path / "known.json")
    assert known.of("a") is None
    known.add("a", 0.5)
    assert known.of("a") == 0.5


def test_a_cka_that_cannot_be_written_is_not_remembered(tmp_path):
    known = KnownCKA(tmp_path / "missing" / "file" / "known.json")
    (tmp_path / "missing").write_text("")
    known.add("a", 0.5)
    assert known.of("a") is None
