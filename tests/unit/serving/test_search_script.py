"""`search` by hand: what it finds is what the evaluation ranked, as JSON or as a page that runs nothing."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.system.errors import UserError
from workflow.scripts import search


@pytest.fixture(scope="module")
def captions_of_test(encoded, explored) -> list[str]:
    captions = json.loads((encoded / "train2017_metadata.json").read_text())["captions"]
    return [captions[row] for row in np.load(explored / "split" / "test.npz")["text_rows"]]


@pytest.fixture
def found(explored, encoded, capsys):
    """Return what a search with the ridge or another model of the run prints."""

    def run(*options: object, model: str = "ridge") -> dict:
        where = ["--model", explored / model / "seed0" / "best_model.pt", "--data-dir", encoded, "--device", "cpu"]
        search.main([str(each) for each in [*where, *options]])
        return json.loads(capsys.readouterr().out)

    return run


def rows_of(answer: dict) -> list[int]:
    return [result["row"] for result in answer["results"]]


@pytest.mark.parametrize(("hubness", "ranking"), [("off", "t2i"), ("on", "hubness_corrected_t2i")])
def test_every_caption_finds_its_image_at_the_rank_of_the_evaluation(found, explored, hubness, ranking):
    ranks = np.load(explored / "ridge" / "seed0" / "evaluation_results" / "ranks.npz")
    for caption, image in enumerate(ranks["caption_image"]):
        answer = found("--caption-row", caption, "--hubness", hubness)
        assert rows_of(answer).index(image) == ranks[ranking][caption]
        assert answer["hubness_correction"]["used"] == (hubness == "on")


@pytest.mark.parametrize(("hubness", "ranking"), [("off", "i2t"), ("on", "hubness_corrected_i2t")])
def test_every_image_finds_its_best_caption_at_the_rank_of_the_evaluation(found, explored, hubness, ranking):
    ranks = np.load(explored / "ridge" / "seed0" / "evaluation_results" / "ranks.npz")
    for image, rank in enumerate(ranks[ranking]):
        results = found("--row", image, "--hubness", hubness, "--count", 100)["results"]
        assert [result["image_row"] for result in results].index(image) == rank


def test_a_text_finds_what_the_row_of_that_text_finds(found, captions_of_test):
    by_text, by_row = found("--text", captions_of_test[4]), found("--caption-row", 4)
    assert by_text["query"] == {"kind": "text", "text": captions_of_test[4]}
    assert rows_of(by_text) == rows_of(by_row)
    assert by_text["find"] == "images"


def test_a_picture_finds_captions_and_itself_among_pictures(found, explored, encoded):
    row = np.load(explored / "split" / "test.npz")["image_rows"][2]
    picture = encoded / "images" / f"{row + 1:06d}.png"
    captions = found("--image", picture)
    assert captions["find"] == "captions"
    assert rows_of(captions) == rows_of(found("--row", 2))
    nearest = found("--image", picture, "--find", "images", "--count", 1)["results"][0]
    assert (nearest["row"], round(nearest["similarity"], 5)) == (2, 1.0)


def test_a_row_is_not_its_own_neighbour(found):
    answer = found("--row", 2, "--find", "images", "--count", 4)
    assert sorted([*rows_of(answer), 2]) == list(range(5))
    assert not answer["hubness_correction"]["used"]
    similar = found("--caption-row", 3, "--find", "captions", "--count", 9)
    assert 3 not in rows_of(similar)


def test_all_images_of_the_data_are_searched_if_asked_for(found):
    answer = found("--text", "a red star", "--split", "all", "--count", 50)
    assert answer["gallery"] == {"name": "small, all splits", "images": 40, "captions": 80}
    assert len(answer["results"]) == 40


def test_the_split_and_the_data_are_found_from_the_model(explored, encoded, capsys):
    model = explored / "cca" / "seed0" / "best_model.pt"
    search.main(["--model", str(model), "--text", "a red star", "--count", "2", "--device", "cpu"])
    assert json.loads(capsys.readouterr().out)["gallery"]["name"] == "small, test split"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--text", "  "], "is empty"),
        (["--text", "x" * 3000], "3000 characters"),
        (["--text", "qzx"], "demo-words knows no word of 'qzx'"),
        (["--row", "5"], "row 5 is not in the gallery: its images have the rows 0 to 4"),
        (["--row", "-1"], "row -1 is not"),
        (["--text", "a", "--count", "0"], "--count is 0"),
        (["--image", "absent.png"], "absent.png"),
    ],
)
def test_a_mistake_is_one_sentence(found, options, said):
    with pytest.raises(UserError, match=re.escape(said)):
        found(*options)


def test_a_model_outside_a_run_needs_its_split_named(explored, tmp_path):
    shutil.copy(explored / "cca" / "seed0" / "best_model.pt", tmp_path)
    with pytest.raises(UserError, match="--split-dir"):
        search.main(["--model", str(tmp_path / "best_model.pt"), "--text", "a", "--device", "cpu"])


@pytest.fixture
def hostile(encoded, tmp_path) -> Path:
    """The set with captions and pictures that try to get out of the page and out of the folder."""
    folder = tmp_path / "data"
    shutil.copytree(encoded, folder)
    metadata = json.loads((folder / "train2017_metadata.json").read_text())
    metadata["captions"] = [f"<script>alert({i})</script>\" onload='x'" for i in range(len(metadata["captions"]))]
    outside = tmp_path / "secret.png"
    shutil.copy(next((folder / "images").iterdir()), outside)
    metadata["image_files"] = dict.fromkeys(metadata["image_files"], "../secret.png")
    (folder / "train2017_metadata.json").write_text(json.dumps(metadata))
    return folder


def page_of(explored: Path, data: Path, *options: object) -> str:
    model = explored / "ridge" / "seed0" / "best_model.pt"
    page = data.parent / "page.html"
    asked = ["--model", model, "--data-dir", data, "--device", "cpu", "--html", page, *options]
    search.main([str(each) for each in asked])
    return page.read_text()


@pytest.mark.parametrize("options", [["--caption-row", 1], ["--row", 1], ["--text", "<img src=x> a red star"]])
def test_what_data_hold_stays_text_on_the_page(explored, hostile, options):
    page = page_of(explored, hostile, *options)
    assert not re.search(r"<(script|img src=x)", page)
    assert "&lt;" in page
    assert "data:image" not in page
    assert f"not shown: 5 outside {hostile}" in page or f"not shown: 10 outside {hostile}" in page


def test_the_page_holds_its_pictures_and_asks_for_nothing(explored, encoded, tmp_path):
    folder = tmp_path / "data"
    folder.symlink_to(encoded)
    page = page_of(explored, folder, "--text", "a red star", "--count", "3")
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert not re.search(r"""(?:src|href|url)\W+(?!data:)[\w/]""", page.split("<body>")[1])
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_without_captions_and_record_rows_are_still_found(explored, encoded, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for path in encoded.glob("*embeddings.pt"):
        shutil.copy(path, folder)
    metadata = json.loads((encoded / "train2017_metadata.json").read_text())
    kept = {name: metadata[name] for name in ("image_ids", "unique_image_ids")}
    (folder / "train2017_metadata.json").write_text(json.dumps(kept))
    where = ["--model", str(explored / "cca" / "seed0" / "best_model.pt"), "--data-dir", str(folder), "--device", "cpu"]
    search.main([*where, "--caption-row", "1"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["query"]["caption"] is None
    assert answer["results"][0]["captions"] == []
    assert "caption 1" in page_of(explored, folder, "--caption-row", 1)
    with pytest.raises(UserError, match="does not say what encoded the data"):
        search.main([*where, "--text", "a red star"])


def test_tensors_of_a_gallery_are_projected_once_per_kind(explored, encoded, monkeypatch):
    calls = []
    from frozenalign.serving import galleries

    project = galleries.map_rows
    monkeypatch.setattr(galleries, "map_rows", lambda *arguments: calls.append(1) or project(*arguments))
    where = [
        "--model",
        str(explored / "cca" / "seed0" / "best_model.pt"),
        "--data-dir",
        str(encoded),
        "--device",
        "cpu",
    ]
    search.main([*where, "--text", "a red star", "--hubness", "off"])
    assert len(calls) == 1
    assert torch.is_grad_enabled()
