"""A trained model for use: the projections of its heads, with what is known of it."""

import numpy as np
import pytest
import torch

from frozenalign.models.model_file import load_heads
from frozenalign.serving import aligned_model
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.system.errors import UserError
from tests.unit.serving.conftest import IMAGE_DIM, TEXT_DIM, WIDTH, random_model, save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"), random_model("mlp"))


def test_rows_are_projected_by_the_towers_in_batches(run, monkeypatch):
    monkeypatch.setattr(aligned_model, "BATCH_ROWS", 4)
    model, (heads, _) = AlignedModel.from_run(run, device="cpu"), load_heads(run)
    images, texts = torch.randn(11, IMAGE_DIM), np.random.default_rng(0).normal(size=(7, TEXT_DIM))
    torch.testing.assert_close(model.project_images(images), heads.encode_images(images))
    torch.testing.assert_close(model.project_texts(texts), heads.encode_texts(texts))
    assert model.project_images(images).dtype == torch.float32
    torch.testing.assert_close(model.project_texts(texts).norm(dim=1), torch.ones(7))


def test_widths_and_empty_input(run):
    model = AlignedModel.from_run(run, device=torch.device("cpu"))
    assert (model.width, model.input_widths) == (WIDTH, {"image": IMAGE_DIM, "text": TEXT_DIM})
    assert model.project_texts(torch.empty(0, TEXT_DIM)).shape == (0, WIDTH)


def test_rows_of_another_width_are_refused(run):
    with pytest.raises(UserError, match=f"takes image embeddings of {IMAGE_DIM} dimensions but got {TEXT_DIM}"):
        AlignedModel.from_run(run, device="cpu").project_images(torch.randn(5000, TEXT_DIM))


def test_the_facts_say_what_encoded_the_data_it_was_trained_on(encoded, run_of_encoded, run, caplog):
    assert AlignedModel.from_run(run_of_encoded, device="cpu").facts["encoders"] is None
    facts = AlignedModel.from_run(run_of_encoded, encoded, "cpu").facts
    assert facts["encoders"]["texts"]["encoder"] == "demo-words"
    assert (facts["dataset"], facts["epoch"], facts["metrics"]) == ("small", 3, None)
    assert AlignedModel.from_run(run, encoded, "cpu").facts["encoders"] is None
    assert "is of other files than those beside it" in caplog.text
