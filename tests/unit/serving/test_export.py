"""The exported folder: read back without its run, refused where it was changed, and described by its card."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from frozenalign.models.model_file import load_heads
from frozenalign.serving import onnx_files
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.export import export
from frozenalign.serving.export_folder import write_sums
from frozenalign.serving.folding import tried_rows
from frozenalign.serving.model_card import model_card
from frozenalign.system.errors import UserError
from tests.unit.serving.conftest import random_model, save_run
from workflow.scripts import export as script

pytest.importorskip("safetensors", reason="envs/requirements-export.txt is not installed")
EVERYTHING = {"hub_prototypes": 6, "skip": "cca", "whitening": "zca", "shrinkage": 0.1}


def summary(value: float) -> dict:
    return {"i2t": dict.fromkeys(("R@1", "R@5", "R@10"), value), "t2i": dict.fromkeys(("R@1", "R@5", "R@10"), 2.0)}


METRICS = {
    "protocol": {"split": "test", "images": 1200, "captions": 6000, "captions_rule": "all"},
    "full": summary(61.25),
    "1k": None,
    "intervals": {"full": {"i2t": {"R@1": [60.0, 62.5]}}},
    "reranked": None,
    "hubness_corrected": {"full": summary(63.0), "intervals": None},
    "warnings": ["a doubt | with `marks`"],
}


@pytest.fixture(scope="module")
def exported(run_of_encoded, encoded, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "export"
    script.main(
        ["--model", str(run_of_encoded), "--data-dir", str(encoded), "--output-dir", str(folder), "--without-onnx"]
    )
    return folder


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


@pytest.mark.parametrize("head", ["linear", "cross_modal", "siglip"])
def test_an_exported_head_projects_as_the_trained_one(head, tmp_path):
    path = save_run(tmp_path, random_model(head, **EVERYTHING))
    export(tmp_path / "export", path, None, None, with_onnx=False)
    model, (trained, _) = AlignedModel.from_pretrained(tmp_path / "export", "cpu"), load_heads(path)
    images, texts = (tried_rows(each, 200) for each in (trained.image_statistics, trained.text_statistics))
    assert (model.project_images(images) - trained.encode_images(images)).abs().max() < 1e-5
    assert (model.project_texts(texts) - trained.encode_texts(texts)).abs().max() < 1e-5
    written = json.loads((tmp_path / "export" / "config.json").read_text())
    assert written["standardisation"] == ("explicit" if head == "siglip" else "folded")


def test_the_folder_keeps_what_is_known_of_the_model(exported, encoded):
    facts = AlignedModel.from_pretrained(exported, "cpu").facts
    record = json.loads((encoded / "encoding.json").read_text())
    assert facts["encoders"] == {kind: record[kind] for kind in ("images", "texts")}
    assert (facts["experiment"], facts["metrics"], facts["split"]) == ("tried", None, None)


def test_the_sums_are_those_of_sha256sum_and_leave_the_card_to_its_editor(copied):
    (copied / "README.md").write_text("changed")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=copied, check=True, capture_output=True)
    AlignedModel.from_pretrained(copied, "cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_file_is_refused(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[-3] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is not the file that .*SHA256SUMS lists: export it again"):
        AlignedModel.from_pretrained(copied, "cpu")


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"SHA256SUMS not found: give the path of a folder that the export step wrote"):
        AlignedModel.from_pretrained(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 7}, "has the format 7, this version reads 1"),
        ({"input_dims": {"image": 10**9, "text": 4}}, "input_dims.image: found 1000000000"),
        ({"input_dims": {"image": 257, "text": 256}}, "are not those of its settings: export it again"),
        ({"model": {"type": "unheard-of"}}, "holds the head 'unheard-of', which is not registered"),
        ({"model": {"type": "mlp"}}, "describes a model that cannot be built"),
        ({"facts": {}}, "is missing"),
    ],
)
def test_a_hostile_config_is_one_sentence(copied, changes, said):
    config = json.loads((copied / "config.json").read_text()) | changes
    (copied / "config.json").write_text(json.dumps(config))
    write_sums(copied, ["config.json", "model.safetensors"])
    with pytest.raises(UserError, match=said):
        AlignedModel.from_pretrained(copied, "cpu")


def test_weights_that_are_no_safetensors_are_refused(copied):
    torch.save({}, copied / "model.safetensors")
    write_sums(copied, ["config.json", "model.safetensors"])
    with pytest.raises(UserError, match=r"model\.safetensors is not readable as safetensors"):
        AlignedModel.from_pretrained(copied, "cpu")


def test_a_folder_with_other_files_is_left_alone(run_of_encoded, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds README\.md but no export: choose an empty or new folder"):
        export(tmp_path, run_of_encoded, None, None, with_onnx=False)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_parts_of_an_earlier_export_are_deleted(copied, run_of_encoded):
    (copied / "image.onnx").write_bytes(b"")
    (copied / "sentence_transformers").mkdir()
    (copied / "notes.txt").write_text("mine")
    export(copied, run_of_encoded, None, None, with_onnx=False)
    names = {path.name for path in copied.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "SHA256SUMS", "notes.txt"}


def test_missing_libraries_stop_the_export_before_it_writes(run_of_encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "imported", lambda name, install: (_ for _ in ()).throw(UserError(install)))
    with pytest.raises(UserError, match="requirements-export"):
        export(tmp_path / "export", run_of_encoded, None, None)
    assert not (tmp_path / "export").exists()


def card_of(run: Path, encoded: Path, **changes) -> str:
    model = AlignedModel.from_run(run, encoded, "cpu")
    return model_card({**model.facts, "metrics": METRICS, **changes}, model.model, ["image.onnx"])


def test_the_card_tells_data_encoders_and_metrics_with_intervals(run_of_encoded, encoded):
    card = card_of(run_of_encoded, encoded, split={"counts": {"train": {"images": 2100, "pairs": 10500}}})
    assert "| plain | image to text | 61.2 (60.0 to 62.5) | 61.2 | 61.2 |" in card
    assert "| hubness-corrected | image to text | 63.0 | 63.0 | 63.0 |" in card
    assert "| train | 2,100 | 10,500 |" in card
    assert "| revision | `0` | `0` |" in card
    header = yaml.safe_load(card.split("---")[1])
    assert "license" not in header
    assert header["model-index"][0]["results"][0]["metrics"][0]["value"] == 61.25


def test_the_hub_reads_the_header_of_the_card(run_of_encoded, encoded, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="envs/requirements-encode.txt is not installed")
    (tmp_path / "README.md").write_text(card_of(run_of_encoded, encoded))
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert data.model_name == "small-tried"
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values["R@1, image to text"] == 61.25
    assert data.eval_results[0].dataset_split == "test"


def test_the_card_names_encoders_of_the_hub_as_its_base(run_of_encoded, encoded):
    facts = AlignedModel.from_run(run_of_encoded, encoded, "cpu").facts
    texts = facts["encoders"]["texts"] | {"library": "transformers", "name": "owner/model", "revision": "abc"}
    header = yaml.safe_load(
        card_of(run_of_encoded, encoded, encoders=facts["encoders"] | {"texts": texts}).split("---")[1]
    )
    assert (header["base_model"], header["base_model_relation"]) == (["owner/model"], "adapter")


def test_texts_of_data_files_are_no_markup_in_the_card(run_of_encoded, encoded):
    facts = AlignedModel.from_run(run_of_encoded, encoded, "cpu").facts
    texts = facts["encoders"]["texts"] | {"name": "a`<script>|\n## b [c](d)"}
    card = card_of(run_of_encoded, encoded, encoders=facts["encoders"] | {"texts": texts}, warnings=["<script>*"])
    assert r"| name | `scenes` | `a'<script>\|\n## b [c](d)` |" in card
    assert r"- a doubt \| with \`marks\`" in card
    assert r"- &lt;script&gt;\*" in card
