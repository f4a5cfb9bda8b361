"""The steps by hand, without Snakemake: train in either number format, evaluate with an extra set, report."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from frozenalign.evaluation.encoder_similarity import KNOWN_CKA, EncoderSimilarity
from frozenalign.models.model_file import load_heads
from frozenalign.system.errors import UserError
from tests.conftest import related_embeddings, write_set
from workflow.scripts.baselines import main as baselines
from workflow.scripts.evaluate import main as evaluate
from workflow.scripts.evaluate_part import main as evaluate_part
from workflow.scripts.report import main as report
from workflow.scripts.split import main as split
from workflow.scripts.train import main as train

EXPERIMENT = """
model: {type: mlp, output_dim: 8, hidden_dim: 16, skip: cca}
loss: {type: siglip, bias_init: auto}
training: {batch_size: 16, num_epochs: 3}
"""


@pytest.fixture
def folder_with_extra_set(data_dir, tmp_path) -> Path:
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    images, texts, ids = related_embeddings(20, 2, seed=1)
    write_set(folder, images, texts, {"image_ids": ids}, prefix="val2017")
    return folder


def arguments(*values: object) -> list[str]:
    return [str(value) for value in values]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_head_is_trained_evaluated_and_reported(folder_with_extra_set, split_dir, tmp_path, precision):
    data, run = folder_with_extra_set, tmp_path / "mine" / "seed0"
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    folders = arguments("--data-dir", data, "--split-dir", split_dir, "--device", "cpu")
    where = arguments("--experiment", tmp_path / "mine.yaml", "--output-dir", run, "--precision", precision)
    train([*where, *folders])
    evaluate([*arguments("--model", run / "best_model.pt", "--output-dir", run / "evaluation_results"), *folders])
    metrics = json.loads((run / "evaluation_results" / "metrics.json").read_text())
    assert metrics["protocol"]["images"] == 10
    extra = metrics["extra"]["val2017"]
    assert extra["protocol"] == {"split": "val2017", "images": 20, "captions": 40, "captions_rule": "all"}

    manifest = arguments("--dataset-name", "small", "--data-dir", data, "--manifest", split_dir / "manifest.json")
    report([*manifest, *arguments("--runs", run, "--output-dir", tmp_path / "report")])
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Extra set val2017" in page
    assert f"{precision} matrix products in training" in page

    model, facts = load_heads(run / "best_model.pt")
    assert facts["experiment"] == "mine"
    assert all(value.dtype != torch.bfloat16 for value in model.state_dict().values())


def report_of_a_baseline(data: Path, split_dir: Path, folder: Path) -> str:
    run = folder / "cca" / "seed0"
    folders = arguments("--data-dir", data, "--split-dir", split_dir)
    baselines([*folders, *arguments("--baselines", "cca", "--output-dir", folder)])
    where = arguments("--model", run / "best_model.pt", "--output-dir", run / "evaluation_results", "--device", "cpu")
    evaluate([*where, *folders])
    manifest = arguments("--dataset-name", "small", "--data-dir", data, "--manifest", split_dir / "manifest.json")
    report([*manifest, *arguments("--runs", run, "--output-dir", folder / "report")])
    return (folder / "report" / "index.html").read_text()


def test_the_page_diagnoses_every_run_and_shows_captions_as_text(data_dir, split_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "data")
    path = tmp_path / "data" / "train2017_metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"captions": ["<b>bold</b> claim"] * len(metadata["captions"])}))
    page = report_of_a_baseline(tmp_path / "data", split_dir, tmp_path)
    section = page[page.index('<section id="diagnostics"') : page.index('<section id="pictures"')]
    assert '<a href="#diagnostics">' in page
    assert "linear CKA" in section
    assert section.count('<tr class="baseline">') == 1
    assert "Recall by caption length" in section
    assert section.count("<li>&lt;b&gt;bold&lt;/b&gt; claim") == 10
    assert "<b>" not in page


def test_a_page_without_captions_names_the_worst_queries_by_their_image(data_dir, split_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "data")
    path = tmp_path / "data" / "train2017_metadata.json"
    path.write_text(json.dumps({"image_ids": json.loads(path.read_text())["image_ids"]}))
    page = report_of_a_baseline(tmp_path / "data", split_dir, tmp_path)
    section = page[page.index('<section id="diagnostics"') : page.index('<section id="pictures"')]
    assert "ecall by caption length" not in section
    assert section.count("<li>image 10") == section.count('<span class="soft">rank ') == 10
    assert "None" not in page


def test_the_two_number_formats_agree(data_dir, split_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    losses = []
    for precision in ("fp32", "bf16"):
        folders = arguments("--data-dir", data_dir, "--split-dir", split_dir, "--device", "cpu")
        where = arguments("--experiment", tmp_path / "mine.yaml", "--output-dir", tmp_path / precision)
        train([*where, *folders, "--precision", precision])
        history = json.loads((tmp_path / precision / "loss_history.json").read_text())
        losses.append([record["loss"] for record in history["epochs"][1:]])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_model_of_other_widths_is_refused_in_words(data_dir, split_dir, tmp_path):
    images, texts, ids = related_embeddings(60, 3)
    write_set(tmp_path / "wide", torch.cat([images, images], 1), texts, {"image_ids": ids})
    folders = arguments("--data-dir", data_dir, "--split-dir", split_dir, "--output-dir", tmp_path)
    baselines([*folders, "--baselines", "ridge"])
    counts = json.dumps({"train": 40, "val": 10, "test": 10})
    wide = arguments("--data-dir", tmp_path / "wide")
    split([*wide, *arguments("--dataset", "wide", "--output-dir", tmp_path / "split", "--counts", counts)])
    others = [*wide, *arguments("--split-dir", tmp_path / "split", "--output-dir", tmp_path / "out")]
    with pytest.raises(UserError, match="the model takes image embeddings of 12 dimensions but got 24"):
        evaluate([*arguments("--model", tmp_path / "ridge" / "seed0" / "best_model.pt"), *others])


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_by_hand_give_the_files_of_one_evaluation_also_of_an_extra_set(
    folder_with_extra_set, split_dir, tmp_path, parts
):
    folders = arguments("--data-dir", folder_with_extra_set, "--split-dir", split_dir)
    baselines([*arguments("--baselines", "ridge", "--output-dir", tmp_path), *folders])
    common = [*arguments("--model", tmp_path / "ridge/seed0/best_model.pt", "--device", "cpu"), *folders]
    counted = [tmp_path / "parts" / str(part) for part in range(1, parts + 1)]
    for part, folder in enumerate(counted, 1):
        evaluate_part([*common, *arguments("--part", part, "--of", parts, "--output-dir", folder)])
    evaluate([*common, *arguments("--output-dir", tmp_path / "one")])
    files = arguments("--parts", *(folder / "counts.npz" for folder in counted))
    evaluate([*common, *files, *arguments("--output-dir", tmp_path / "several")])
    written = sorted(path.name for path in (tmp_path / "one").glob("[!.]*"))
    assert written == ["examples.json", "metrics.json", "ranks.npz", "samples.npz", "worst_queries.json"]
    for name in written:
        assert (tmp_path / "several" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


def test_the_encoders_are_compared_once_for_all_models(data_dir, split_dir, tmp_path, monkeypatch):
    own_split = shutil.copytree(split_dir, tmp_path / "split")
    (own_split / KNOWN_CKA).unlink(missing_ok=True)
    folders = arguments("--data-dir", data_dir, "--split-dir", own_split)
    baselines([*folders, *arguments("--baselines", "ridge", "cca", "--output-dir", tmp_path)])
    found = []
    for name in ("ridge", "cca"):
        evaluate([*folders, *arguments("--model", tmp_path / name / "seed0/best_model.pt", "--output-dir", tmp_path)])
        found.append(json.loads((tmp_path / "metrics.json").read_text())["diagnostics"]["encoder_cka"])
        monkeypatch.setattr(EncoderSimilarity, "add", lambda *_: pytest.fail("compared again"))
    assert 0 < found[0] == found[1] < 1
    other = [*folders, "--captions-rule", "first5", "--split", "val"]
    with pytest.raises(pytest.fail.Exception, match="compared again"):
        evaluate([*other, *arguments("--model", tmp_path / "cca/seed0/best_model.pt", "--output-dir", tmp_path)])


def test_parts_of_a_model_that_has_been_trained_again_are_refused(data_dir, split_dir, tmp_path):
    folders = arguments("--data-dir", data_dir, "--split-dir", split_dir)
    baselines([*arguments("--baselines", "ridge", "cca", "--output-dir", tmp_path), *folders])
    before, after = (arguments("--model", tmp_path / name / "seed0/best_model.pt") for name in ("ridge", "cca"))
    out = arguments("--output-dir", tmp_path / "out", "--device", "cpu")
    evaluate_part([*before, *folders, *out, "--part", "1", "--of", "1"])
    with pytest.raises(
        UserError, match=r"counts\.npz was counted with another model: delete the file and run the step"
    ):
        evaluate([*after, *folders, *out, *arguments("--parts", tmp_path / "out/counts.npz")])
    with pytest.raises(UserError, match=r"--part 3: give a number from 1 to 2, the value of --of"):
        evaluate_part([*before, *folders, *out, "--part", "3", "--of", "2"])
