"""Models and states of training after accidents and edits: the weights as written, or one sentence."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frozenalign.configuration.result_files import checked_facts
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import load_heads, read_checkpoint, write_checkpoint
from frozenalign.system.errors import UserError
from frozenalign.training.checkpoints import Checkpoint
from tests.faults.property import altered, answer, cases, damaged, flipped, refusal


@pytest.fixture
def run(chain) -> Path:
    """A head that was trained for an epoch."""
    return chain.results / "train"


def the_same_model(run: Path):
    own = load_heads(run / "best_model.pt")[0].state_dict()

    def holds(found: tuple[DualEncoder, dict]) -> None:
        state = found[0].state_dict()
        assert list(state) == list(own)
        assert all(torch.equal(state[name], own[name]) for name in own)

    return holds


@cases(50)
@given(st.data())
def test_a_flipped_bit_changes_no_weight_unseen(run, tmp_path, data):
    (tmp_path / "best_model.pt").write_bytes(data.draw(flipped((run / "best_model.pt").read_bytes())))
    answer(lambda: load_heads(tmp_path / "best_model.pt"), "best_model.pt", the_same_model(run))


@cases(40)
@given(st.data())
def test_accidents_of_a_model(run, tmp_path, data):
    (tmp_path / "best_model.pt").write_bytes(data.draw(damaged((run / "best_model.pt").read_bytes())))
    answer(lambda: load_heads(tmp_path / "best_model.pt"), "best_model.pt", the_same_model(run))


def usable(found: tuple[DualEncoder, dict]) -> None:
    model, facts = found
    assert {"dataset", "experiment", "kind", "seed", "selected"} <= set(facts)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    for modality, encode in (("image", model.encode_images), ("text", model.encode_texts)):
        assert encode(torch.ones(2, model.dims[modality])).isfinite().all()


def read_model(path: Path) -> tuple[DualEncoder, dict]:
    model, facts = load_heads(path)
    return model, checked_facts(facts, path)


def edited(run: Path, tmp_path: Path, change: Any) -> Path:
    content = read_checkpoint(run / "best_model.pt")
    change(content)
    torch.save(content, tmp_path / "best_model.pt")
    return tmp_path / "best_model.pt"


@cases(50)
@given(st.data())
def test_one_value_of_a_model_replaced(run, tmp_path, data):
    torch.save(data.draw(altered(read_checkpoint(run / "best_model.pt"))), tmp_path / "best_model.pt")
    answer(lambda: read_model(tmp_path / "best_model.pt"), "best_model.pt", usable)


WEIGHTS = "image_tower.0.weight"
EDITS = {
    "newer format": lambda content: content.update(format=3),
    "unknown parameter": lambda content: content["model"].update(depth=3),
    "parameter of another kind": lambda content: content["model"].update(hidden_dim="wide"),
    "too wide for any memory": lambda content: content["model"].update(hidden_dim=10**12),
    "negative width": lambda content: content["model"].update(output_dim=-1),
    "no input widths": lambda content: content.pop("input_dims"),
    "wider input than its weights": lambda content: content["input_dims"].update(image=10**9),
    "missing weights": lambda content: content["state"].popitem(),
    "further weights": lambda content: content["state"].update(more=torch.ones(1)),
    "weights of another shape": lambda content: content["state"].update({WEIGHTS: torch.ones(1)}),
    "weights of another format": lambda content: content["state"].update({WEIGHTS: content["state"][WEIGHTS].double()}),
    "sparse weights": lambda content: content["state"].update({WEIGHTS: content["state"][WEIGHTS].to_sparse()}),
    "weights without memory": lambda content: content["state"].update({WEIGHTS: content["state"][WEIGHTS].to("meta")}),
    "weights that are not a number": lambda content: content["state"][WEIGHTS].fill_(float("nan")),
    "infinite statistics": lambda content: content["state"]["text_statistics.scale"].fill_(float("inf")),
    "facts of nothing": lambda content: content.update(facts={}),
    "experiment without a name": lambda content: content["facts"].update(experiment=None),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_model_is_refused(run, tmp_path, kind):
    path = edited(run, tmp_path, EDITS[kind])
    refusal(lambda: read_model(path), "best_model.pt")


def test_a_compressed_model_is_refused_before_it_unpacks(run, tmp_path):
    with (
        zipfile.ZipFile(run / "best_model.pt") as old,
        zipfile.ZipFile(tmp_path / "best_model.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "compressed" in refusal(lambda: load_heads(tmp_path / "best_model.pt"), "best_model.pt")


STATE = {"fingerprint": "f", "epoch": 3, "history": [{"epoch": 1}], "best_state": {"weight": torch.ones(3, 4)}}


@cases(80)
@given(st.data())
def test_a_damaged_checkpoint_is_not_taken_up(tmp_path, data):
    write_checkpoint(tmp_path / "whole.pt", STATE)
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(data.draw(st.one_of(damaged(whole), flipped(whole))))

    def as_written(content: dict) -> None:
        assert {**content, "best_state": None} == {**STATE, "best_state": None}
        assert torch.equal(content["best_state"]["weight"], torch.ones(3, 4))

    if answer(lambda: read_checkpoint(tmp_path / "checkpoint.pt"), "checkpoint.pt", as_written):
        assert not Checkpoint(tmp_path / "checkpoint.pt", "f").read_into(None)


@pytest.mark.parametrize("name", ["train2017_image_embeddings.pt", "train2017_metadata.json"])
def test_what_is_no_model_is_not_to_be_deleted(data_dir, name):
    with pytest.raises(UserError) as refused:
        load_heads(data_dir / name)
    assert "give the path of a best_model.pt; if this is one, delete it and train again" in str(refused.value)
