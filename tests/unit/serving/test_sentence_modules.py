"""Heads as modules of sentence-transformers: what the real library makes of raw rows, and which heads have none."""

import pytest
import torch

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.serving.dense_layers import applied, layers_of
from frozenalign.serving.folding import fold, tried_rows
from frozenalign.serving.sentence_modules import routes_of, write_modules
from tests.unit.serving.conftest import random_model

VARIANTS = {
    "plain": {},
    "skip": {"skip": "cca"},
    "hubs": {"hub_prototypes": 6},
    "both": {"skip": "cca", "hub_prototypes": 6, "hub_temperature": 0.03},
}
EXPRESSED = ["linear", "clip", "align"]


def projections(model: DualEncoder, count: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return raw rows and their projections by modality."""
    images, texts = tried_rows(model.image_statistics, count), tried_rows(model.text_statistics, count)
    return {"image": (images, model.encode_images(images)), "text": (texts, model.encode_texts(texts))}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", EXPRESSED)
def test_layers_project_as_the_head_does(head, variant):
    model = random_model(head, **VARIANTS[variant])
    routes = routes_of(fold(model), model)
    for modality, (rows, expected) in projections(model, 100).items():
        assert (applied(routes[modality], rows) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("head", EXPRESSED)
def test_the_real_library_loads_the_modules_and_projects_alike(head, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="envs/requirements-encode.txt is not installed")
    model = random_model(head, **VARIANTS["both"])
    write_modules(tmp_path, routes_of(fold(model), model))
    loaded = library.SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    for count in (1, 3, 1000):
        for modality, (rows, expected) in projections(model, count).items():
            features = loaded({"sentence_embedding": rows}, modality=modality)
            assert (features["sentence_embedding"] - expected).abs().max() < 1e-5


def test_a_residual_as_wide_as_the_input_is_not_taken_for_the_identity(tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="envs/requirements-encode.txt is not installed")
    # 16 hidden values and 10 of the path.
    model = random_model("clip", image_dim=26, text_dim=26, skip="cca")
    write_modules(tmp_path, routes_of(fold(model), model))
    loaded = library.SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    rows, expected = projections(model, 20)["image"]
    found = loaded({"sentence_embedding": rows}, modality="image")["sentence_embedding"]
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("head", ["mlp", "attention", "cross_modal", "siglip", "blip"])
def test_other_heads_have_no_modules_and_the_log_says_so(head, caplog):
    model = random_model(head)
    assert layers_of(model.image_tower) is None
    with caplog.at_level("INFO"):
        assert routes_of(fold(model) or model, model) is None
    assert f"the head {head} is not made of layers that it has" in caplog.text


def test_a_model_whose_standardisation_is_not_folded_has_no_modules():
    model = random_model("linear")
    assert routes_of(model, model) is None


def test_a_temperature_at_which_rounding_would_show_gives_no_modules(caplog):
    model = random_model("linear", hub_prototypes=6, hub_temperature=1e-6)
    with caplog.at_level("INFO"):
        assert routes_of(fold(model), model) is None
    assert "they would differ from the model by" in caplog.text
