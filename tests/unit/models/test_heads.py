"""Heads: registration, shapes, unit outputs, saved files, and what they need of training."""

import pytest
import torch
from torch import nn

from frozenalign.configuration.experiments import experiment_from
from frozenalign.configuration.registrations import heads, losses
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import load_heads, save_heads
from frozenalign.models.registry import HEADS, register_head

NAMES = ["linear", "mlp", "attention", "cross_modal", "siglip", "clip", "align", "blip"]


def model_section(name: str, **parameters) -> dict:
    loss = name if name in ("blip", "clip") else "infonce"
    document = {"model": {"type": name, "output_dim": 16, **parameters}, "loss": {"type": loss}}
    return experiment_from(document, "test").model


def test_the_eight_heads_of_the_design_are_registered_with_their_defaults():
    assert list(HEADS) == NAMES == list(heads())
    assert model_section("attention") == {
        "type": "attention",
        "output_dim": 16,
        "skip": "none",
        "whitening": "none",
        "shrinkage": 0.1,
        "hub_prototypes": 0,
        "hub_temperature": 0.1,
        "hub_rate": 1,
        "hidden_dim": 1024,
        "num_tokens": 8,
        "num_heads": 8,
        "num_layers": 2,
        "dropout": 0.1,
    }
    assert model_section("cross_modal")["rerank_k"] == 64
    assert model_section("align")["hidden_dim"] == 2048
    assert model_section("blip")["momentum"] == 0.995
    assert DualEncoder(model_section("clip"), 20, 31).text_tower[0].out_features == 15


def test_every_parameter_is_described():
    for registered in (*heads().values(), *losses().values()):
        assert registered.description
        for name, schema in registered.parameters.items():
            assert schema["description"], f"{registered.name}.{name}"
            assert "default" in schema, f"{registered.name}.{name}"


@pytest.mark.parametrize("name", NAMES)
def test_any_widths_go_in_and_unit_vectors_come_out(name):
    model = DualEncoder(model_section(name), 20, 31).eval()
    x, y = model.encode_images(torch.randn(5, 20)), model.encode_texts(torch.randn(6, 31))
    assert x.shape == (5, 16)
    assert y.shape == (6, 16)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(y.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("name", NAMES)
def test_the_towers_share_a_type_not_weights(name):
    model = DualEncoder(model_section(name), 20, 20)
    mine, other = (dict(tower.named_parameters()) for tower in (model.image_tower, model.text_tower))
    assert list(mine) == list(other)
    assert all(mine[key] is not other[key] for key in mine)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_is_rebuilt_from_its_file_alone(name, tmp_path):
    model = DualEncoder(model_section(name), 20, 31).eval().requires_grad_(False)
    model.image_statistics.mean.fill_(0.5)
    save_heads(tmp_path / "best_model.pt", model, {"epoch": 3, "inputs_hash": "abc"})
    again, facts = load_heads(tmp_path / "best_model.pt")
    x = torch.randn(4, 20)
    assert torch.equal(again.encode_images(x), model.encode_images(x))
    assert facts == {"epoch": 3, "inputs_hash": "abc"}
    content = torch.load(tmp_path / "best_model.pt", weights_only=True)
    assert content["input_dims"] == {"image": 20, "text": 31}


@pytest.mark.parametrize("name", NAMES)
def test_one_embedding_or_none_is_encoded_as_many_are(name):
    model = DualEncoder(model_section(name), 20, 31).eval().requires_grad_(False)
    x, y = torch.randn(5, 20), torch.randn(5, 31)
    for encode, rows in ((model.encode_images, x), (model.encode_texts, y)):
        many = encode(rows)
        assert encode(rows[0]).shape == (16,)
        torch.testing.assert_close(encode(rows[0]), many[0])
        torch.testing.assert_close(encode(rows[:1]), many[:1])
        assert encode(rows[:0]).shape == (0, 16)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_with_nan_becomes_nan_and_changes_no_other(name):
    model = DualEncoder(model_section(name), 20, 31).eval().requires_grad_(False)
    x = torch.randn(5, 20)
    expected = model.encode_images(x)
    x[2, 7] = torch.nan
    found = model.encode_images(x)
    assert found[2].isnan().all()
    assert torch.equal(found[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


def test_attention_has_more_than_one_token_to_attend_to():
    tower = DualEncoder(model_section("attention"), 20, 31).image_tower
    assert tower.with_tokens(torch.randn(3, 20))[1].shape == (3, 8, 128)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'mlp' is registered twice"):
        register_head("mlp")(nn.Identity)


class PlainTower(nn.Sequential):
    """A tower as a user writes one."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(nn.Linear(input_dim, output_dim))


def test_a_plain_module_is_a_head_that_asks_nothing_of_training(monkeypatch):
    monkeypatch.setitem(HEADS.data, "plain", PlainTower)
    model = DualEncoder({"type": "plain", "output_dim": 16}, 20, 31)
    assert (model.traits.learnable_temp, model.traits.momentum, model.scorer) == (True, None, None)
    assert isinstance(model.head, PlainTower)


@pytest.mark.parametrize(
    "around", [{}, {"skip": "cca"}, {"skip": "cca", "whitening": "zca"}, {"hub_prototypes": 5}], ids=str
)
def test_what_a_head_asks_of_training_is_seen_through_what_surrounds_it(around):
    for name, parameters in (("clip", {"learnable_temp": False}), ("blip", {"momentum": 0.5}), ("cross_modal", {})):
        model = DualEncoder(model_section(name, **parameters, **around), 20, 31)
        assert model.traits.learnable_temp is (name != "clip")
        assert model.traits.momentum == (0.5 if name == "blip" else None)
        assert (model.scorer is not None) is (name == "cross_modal")
