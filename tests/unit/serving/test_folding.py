"""Standardisation and whitening within the weights: the same projections, up to rounding, from the raw rows."""

import pytest
import torch

from frozenalign.models.heads import MLPTower
from frozenalign.models.registry import HEADS
from frozenalign.serving.folding import TOLERANCE, fold, is_neutral, tried_rows
from tests.small_training import SMALL
from tests.unit.serving.conftest import random_model

EVERYTHING = {"hub_prototypes": 6, "skip": "cca", "whitening": "zca", "shrinkage": 0.1}


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("head", [head for head in SMALL if head != "siglip"])
def test_a_head_that_begins_with_a_linear_map_projects_raw_rows_as_before(head, settings):
    model = random_model(head, **settings)
    folded = fold(model)
    assert is_neutral(folded.image_statistics)
    assert is_neutral(folded.text_statistics)
    assert folded.settings["whitening"] == "none"
    assert not any("matrix" in name for name in folded.state_dict())
    for encode, statistics in (("encode_images", model.image_statistics), ("encode_texts", model.text_statistics)):
        rows = tried_rows(statistics, 50)
        torch.testing.assert_close(getattr(folded, encode)(rows), getattr(model, encode)(rows), rtol=0, atol=TOLERANCE)


def test_folding_leaves_the_model_itself_alone():
    model = random_model("mlp")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_head_that_uses_its_input_twice_keeps_its_statistics(settings):
    assert fold(random_model("siglip", **settings)) is None


def test_statistics_that_rounding_would_show_are_kept():
    model = random_model("linear")
    model.image_statistics.mean.fill_(1e5)
    model.image_statistics.scale.fill_(1e-2)
    assert fold(model) is None


def test_a_head_of_ones_own_that_looks_linear_but_is_not_keeps_its_statistics(monkeypatch):
    class Own(MLPTower):
        def forward(self, x):
            return super().forward(x) + x[:, :1]

    monkeypatch.setitem(HEADS.data, "mlp", Own)
    assert fold(random_model("mlp")) is None


def test_tried_rows_are_distributed_as_the_training_rows():
    statistics = random_model("linear").image_statistics
    rows = tried_rows(statistics, 20_000)
    assert (rows.mean(0) - statistics.mean).abs().max() < 0.1
    assert (rows.std(0) / statistics.scale - 1).abs().max() < 0.05
