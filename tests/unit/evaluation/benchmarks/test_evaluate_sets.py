"""The script evaluate_sets: the sets of a run on a head, a baseline or an ensemble, known again if nothing changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.configuration.result_files import read_result
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.benchmarks import results as results_module
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json
from tests.conftest import related_embeddings, write_set
from workflow.scripts import baselines, evaluate, evaluate_sets, split

COUNTS = json.dumps({"train": 40, "val": 10, "test": 10})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Two baselines fitted on 60 images with 3 captions each, of which 10 images are tested; and three more sets."""
    folder = tmp_path_factory.mktemp("run")
    images, texts, ids = related_embeddings(60, 3)
    caption_ids = [7000 + i for i in range(len(ids))]
    write_set(folder / "data", images, texts, {"image_ids": ids, "caption_ids": caption_ids})
    common = [f"--data-dir={folder / 'data'}", "--dataset=small"]
    split.main([*common, f"--output-dir={folder / 'split'}", f"--counts={COUNTS}"])
    baselines.main(
        [*common, f"--split-dir={folder / 'split'}", "--baselines", "cca", "ridge", f"--output-dir={folder}"]
    )
    write_set(folder / "other", images[:30], texts[:30], {"image_ids": ids[:30]})
    rows = [{"image": 3 * i, "caption": 3 * i, "negative": (3 * i + 30) % 180} for i in range(60)]
    write_set(folder / "negatives", images, texts, {})
    (folder / "negatives" / "rows.json").write_text(json.dumps({"format": 1, "kind": "hard_negatives", "rows": rows}))
    positives = {name: [image, 1000 + name % 60] for name, image in zip(caption_ids, ids, strict=True)}
    (folder / "positives.json").write_text(json.dumps(positives))
    return folder


def sets_of(folder: Path) -> dict[str, dict[str, str]]:
    return {
        "several": {"kind": "retrieval", "positives": str(folder / "positives.json")},
        "other": {"kind": "retrieval", "dir": str(folder / "other")},
        "negatives": {"kind": "hard_negatives", "dir": str(folder / "negatives")},
    }


def evaluated(folder: Path, output: Path, *models: str, sets: dict | None = None) -> dict:
    given = ["--sets", json.dumps(sets_of(folder) if sets is None else sets), f"--output-dir={output}", "--device=cpu"]
    given += [f"--data-dir={folder / 'data'}", f"--split-dir={folder / 'split'}"]
    evaluate_sets.main([*given, *(models or [f"--model={folder / 'cca/seed0/best_model.pt'}"])])
    return read_result(output / "sets.json")["sets"]


def test_every_set_has_metrics_intervals_and_chance(finished, tmp_path):
    found = evaluated(finished, tmp_path)
    assert list(found) == ["several", "other", "negatives"]
    assert found["several"]["counts"] == {"images": 10, "captions": 30, "image_queries": 10, "caption_queries": 30}
    assert found["several"]["source"] == f"test split, positives of {finished / 'positives.json'}"
    assert found["other"]["counts"] == {"images": 10, "captions": 30}
    assert found["negatives"]["metrics"]["accuracy"] > 80
    assert found["several"]["warnings"] == []
    assert "120 of its 180 images are in train" in found["negatives"]["warnings"][1]
    for each in found.values():
        assert each["metrics"].keys() == each["chance"].keys() == each["intervals"].keys()
        for name, (low, high) in each["intervals"].items():
            assert low <= each["metrics"][name] <= high


def test_the_own_split_without_further_positives_has_the_recalls_of_the_board(finished, tmp_path):
    """Each of these 30 captions lists its own image alone, the others of the file are not tested."""
    test = SplitIndex.load(finished / "split" / "test.npz")
    metadata = read_json(finished / "data" / "train2017_metadata.json")
    own = {metadata["caption_ids"][row]: [metadata["image_ids"][row]] for row in test.text_rows.tolist()}
    (tmp_path / "own.json").write_text(json.dumps(own))
    sets = {"own": {"kind": "retrieval", "positives": str(tmp_path / "own.json")}}
    found = evaluated(finished, tmp_path / "sets", sets=sets)["own"]["metrics"]
    model = finished / "cca/seed0/best_model.pt"
    common = [f"--data-dir={finished / 'data'}", f"--split-dir={finished / 'split'}", "--device=cpu"]
    evaluate.main([f"--model={model}", f"--output-dir={tmp_path / 'board'}", *common])
    board = read_json(tmp_path / "board" / "metrics.json")["full"]
    for direction in ("i2t", "t2i"):
        for name in ("R@1", "R@5", "R@10"):
            assert found[f"{direction.upper()} {name}"] == pytest.approx(board[direction][name])


def test_an_ensemble_is_evaluated_as_one(finished, tmp_path):
    models = [str(finished / name / "seed0/best_model.pt") for name in ("cca", "ridge")]
    one, both = evaluated(finished, tmp_path / "one"), evaluated(finished, tmp_path / "both", "--models", *models)
    assert both["several"]["counts"] == one["several"]["counts"]
    assert both["several"]["metrics"] != one["several"]["metrics"]
    assert len(read_json(tmp_path / "both" / "sets.json")["models"]) == 2


def test_nothing_is_computed_again_until_a_file_of_a_set_changes(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    asked = []
    real = results_module.positive_files
    monkeypatch.setattr(evaluate_sets, "write_sets", lambda *each: asked.append(1) or results_module.write_sets(*each))
    first = evaluated(folder, tmp_path / "sets")
    assert evaluated(folder, tmp_path / "sets") == first
    assert len(asked) == 1
    assert real(str(folder / "positives.json")) == [folder / "positives.json"]
    path = folder / "positives.json"
    path.write_text(json.dumps(read_json(path) | {"7000": [1000]}))
    evaluated(folder, tmp_path / "sets")
    texts = torch.load(folder / "other" / "train2017_text_embeddings.pt", weights_only=True)
    torch.save(texts.roll(7, 0), folder / "other" / "train2017_text_embeddings.pt")
    changed = evaluated(folder, tmp_path / "sets")
    assert len(asked) == 3
    assert changed["other"]["metrics"] != first["other"]["metrics"]
    assert changed["negatives"] == first["negatives"]


def test_a_head_of_another_split_may_have_seen_the_images_and_is_refused(finished, tmp_path):
    again = [f"--data-dir={finished / 'data'}", "--dataset=small", f"--counts={COUNTS}", "--seed=7"]
    split.main([*again, f"--output-dir={tmp_path / 'split'}"])
    given = [f"--model={finished / 'cca/seed0/best_model.pt'}", f"--data-dir={finished / 'data'}", "--device=cpu"]
    given += [f"--split-dir={tmp_path / 'split'}", f"--output-dir={tmp_path / 'sets'}"]
    with pytest.raises(UserError, match="was trained on another split of these images"):
        evaluate_sets.main([*given, "--sets", json.dumps(sets_of(finished))])


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        ([], "write a JSON object of sets by name"),
        ({}, "write a JSON object of sets by name"),
        ({"a": {"kind": "captioning", "dir": "x"}}, "a kind of hard_negatives, retrieval, zero_shot_classification"),
        ({"a": {"kind": "retrieval", "folder": "x"}}, "write kind, dir, positives"),
        ({"a": {"kind": "retrieval"}}, "give the folder of its embeddings as dir"),
        ({"a": {"kind": "retrieval", "dir": 1}}, "give the folder of its embeddings as dir"),
    ],
)
def test_sets_that_name_nothing_to_evaluate_are_refused(finished, tmp_path, sets, problem):
    with pytest.raises(UserError, match=problem):
        evaluated(finished, tmp_path, sets=sets)


def test_a_set_with_a_width_of_other_encoders_is_refused(finished, tmp_path):
    write_set(
        tmp_path / "wide", torch.from_numpy(np.eye(20, dtype="f4")), torch.eye(20), {"image_ids": list(range(20))}
    )
    with pytest.raises(UserError, match="has 20 dimensions, the data of the run have 12"):
        evaluated(finished, tmp_path / "sets", sets={"wide": {"kind": "retrieval", "dir": str(tmp_path / "wide")}})
