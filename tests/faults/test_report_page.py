"""Whatever stands in data, results and studies is text on the page: nothing of it runs, loads or is looked up."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.data.inputs import Inputs, Manifest
from frozenalign.plots.figures import embedding_map, recall_at_k, similarity_histogram, training_curves
from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.plots.tuning import optimization_history, parameter_importance
from frozenalign.reporting.pictures import thumbnail
from frozenalign.system.files import read_json, write_json, write_yaml
from tests.conftest import related_embeddings, write_set
from tests.faults.hostile import FILES, INJECTIONS, SCRIPT, write_pictures
from workflow.scripts import baselines, curves, evaluate, figures, report, split, train

HOSTILE = "".join(INJECTIONS)
IMAGES = 60


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory) -> Path:
    """A finished small run in which every text that a person or a file can choose is hostile."""
    folder = tmp_path_factory.mktemp("run")
    data, division, results = folder / "data", folder / "split", folder / "results"
    write_pictures(data)
    images, texts, _ = related_embeddings(IMAGES, 1)
    ids = [f"{INJECTIONS[i % len(INJECTIONS)]}{i}" for i in range(IMAGES)]
    captions = [f"{i}: {INJECTIONS[i % len(INJECTIONS)]}" if i % 3 else "" for i in range(IMAGES)]
    files = {name: FILES[i % len(FILES)] for i, name in enumerate(ids)}
    write_set(data, images, texts, {"image_ids": ids, "captions": captions, "image_files": files})
    common = [f"--data-dir={data}", f"--dataset={HOSTILE}"]
    counts = '--counts={"train": 30, "val": 15, "test": 15}'
    split.main([*common, f"--output-dir={division}", counts])
    common.append(f"--split-dir={division}")
    experiment = folder / "head.yaml"
    write_yaml(
        experiment,
        {
            "description": HOSTILE,
            "model": {"type": "linear", "output_dim": 4},
            "loss": {"type": "infonce"},
            "training": {"batch_size": 8, "num_epochs": 1},
        },
    )
    train.main([*common, f"--experiment={experiment}", f"--output-dir={results / 'head'}", "--device=cpu"])
    baselines.main([*common, "--baselines=cca", f"--output-dir={results}"])
    names = ("head", "cca/seed0")
    for name in names:
        arguments = [f"--model={results / name / 'best_model.pt'}", f"--output-dir={results / name}/evaluation_results"]
        evaluate.main([*arguments, f"--data-dir={data}", f"--split-dir={division}", "--device=cpu"])
        facts = read_json(results / name / "run.json")
        write_json(results / name / "run.json", facts | {"device_name": HOSTILE})
        write_evaluation_sets(results / name / "evaluation_sets", facts["models"])
    figures.main(["--evaluations", *(str(results / name / "evaluation_results") for name in names)])
    curves.main(["--runs", str(results / "head")])
    study = folder / HOSTILE.replace("/", "_")[:100]
    write_study(study, results / "head", Manifest.read(division).inputs("train_tuning"))
    runs = [str(results / name) for name in names]
    source = [f"--dataset-name={HOSTILE}", f"--data-dir={data}", f"--manifest={division / 'manifest.json'}"]
    further = ["--studies", str(study), "--evaluation-sets", HOSTILE, f"--output-dir={folder / 'report'}"]
    report.main([*source, "--runs", *runs, *further])
    return folder / "report"


def write_evaluation_sets(folder: Path, models: list[str]) -> None:
    """Write results on a set in which every name and every sentence is hostile."""
    numbers = {HOSTILE: 50.0}
    found = {"kind": HOSTILE, "source": HOSTILE, "counts": {HOSTILE: 1}, "warnings": [HOSTILE]}
    found |= {"metrics": numbers, "chance": numbers, "intervals": {HOSTILE: [1.0, 2.0]}}
    write_json(folder / "sets.json", {"format": 1, "models": models, "sets": {HOSTILE: found}})


def write_study(folder: Path, head: Path, inputs: Inputs) -> None:
    folder.mkdir()
    rows = [
        ["number", "state", "value", "epochs", "seconds", "reason", HOSTILE, "choice"],
        [0, "COMPLETE", 100.0, 1, 1.0, "", 0.1, SCRIPT],
        [1, "FAIL", "", 1, 1.0, f"{HOSTILE}\n{SCRIPT}", 0.2, "=cmd()"],
    ]
    with (folder / "trials.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    write_yaml(folder / "best_config.yaml", {"description": HOSTILE})
    write_json(folder / "study.json", {"format": 2, "study": "s", "inputs": asdict(inputs), "importances": {}})
    for name in ("optimization_history", "parameter_importance"):
        (folder / f"{name}.png").write_bytes((head / "training_curves.png").read_bytes())


class Page(HTMLParser):
    """The elements of a page with their attributes, the text inside each kind of them, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, str] = {}
        self.text = ""
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        self.inside[self.open] = self.inside.get(self.open, "") + data
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(page_folder) -> Page:
    return Page((page_folder / "index.html").read_text())


def test_the_page_has_its_own_elements_alone(page):
    assert len(page.all("script")) == len(page.all("style")) == len(page.all("title")) == 1
    assert page.all("script") == page.all("style") == [{}]
    assert not {tag for tag, _ in page.elements} & {"iframe", "svg", "object", "embed", "base", "form", "link", "b"}
    assert [attributes.get("http-equiv") for attributes in page.all("meta")] == [None, None, "Content-Security-Policy"]


def test_no_element_has_a_handler_or_refers_to_anything_outside_the_page(page):
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "action", "formaction", "srcset", "data", "poster", "background", "xlink:href"):
            assert attributes.get(name, "#").startswith("#"), (tag, name)
        assert re.match(
            r"data:image/(png|jpeg|svg\+xml);base64,[A-Za-z0-9+/=]+$", attributes.get("src", "data:image/png;base64,A")
        )
    assert page.all("img")


def test_the_styles_and_the_script_fetch_nothing(page):
    for kind in ("style", "script"):
        assert not re.search(r"@import|url\(|https?:|//[a-z]|fetch|XMLHttp|import\(|eval|innerHTML", page.inside[kind])


def test_the_policy_admits_the_pages_own_style_and_script_by_their_hashes_and_nothing_else(page):
    policy = next(each["content"] for each in page.all("meta") if "http-equiv" in each)
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    hashes = {
        kind: "'sha256-" + base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode() + "'"
        for kind in ("style", "script")
    }
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashes["style"],
        "script-src": hashes["script"],
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_every_hostile_text_is_shown_as_it_is(page):
    for place in ("head, seed 0", "Reasons of failed trials"):
        assert place in page.text
    assert page.inside["title"].startswith(HOSTILE)
    assert page.text.count(HOSTILE) >= 6
    assert SCRIPT in page.text


def test_no_picture_from_outside_the_data_folder_is_on_the_page(page_folder, page):
    secret = thumbnail(page_folder.parent, "secret.png").uri
    inside = thumbnail(page_folder.parent / "data", "photo.png").uri
    assert inside
    assert secret == inside  # both pictures look alike, so that the next line counts the harmless one alone
    shown = [each["alt"] for each in page.all("img") if each["src"] == inside]
    names = read_json(page_folder.parent / "data" / "train2017_metadata.json")
    harmless = {i for i, name in enumerate(names["image_ids"]) if names["image_files"][name] == "photo.png"}
    captions = {names["captions"][i] or f"image {names['image_ids'][i]}" for i in harmless}
    assert set(shown) <= captions | {f"image {names['image_ids'][i]}" for i in harmless}


def test_the_page_counts_the_pictures_that_it_does_not_show(page):
    said = re.search(r"(\d+) of (\d+) pictures are not shown: (.*)", page.text)
    assert 0 < int(said[1]) <= int(said[2])
    assert "outside" in said[3]
    assert "not found in" in said[3]


def test_no_cell_of_the_board_is_a_formula(page_folder):
    with (page_folder / "leaderboard.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows[1:]]
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
        assert not cell.startswith("-") or re.fullmatch(r"-\d[\d.]*(e-?\d+)?", cell), cell


def test_no_name_of_a_result_could_be_a_formula():
    pattern = read_yaml("workflow/schemas/config.schema.yaml")["properties"]["dataset"]["pattern"]
    assert not [name for name in ("=a", "+a", "-a", "@a", "\ta") if re.fullmatch(pattern, name)]


@pytest.mark.parametrize("name", [r"$x$ $\frac{$ a_b^c \$ %s <b> ü 日本 {x}", "$"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_every_figure_takes_a_name_as_it_is(name, rng):
    xy, ranks = rng.normal(size=(9, 2)), rng.integers(0, 50, 30)
    recalls = {direction: dict.fromkeys(("R@1", "R@5", "R@10"), 1.0) for direction in ("i2t", "t2i")}
    record = {"epoch": 1, "loss": 1.0, "learning_rate": 0.1, "val": recalls, "loss_terms": {}}
    history = {"best_epoch": 1, "monitor": "RSUM", "epochs": [record]}
    trials = pd.DataFrame([{"number": 0, "state": "COMPLETE", "value": 1.0}])
    row = {"experiment": name, "kind": "head", "RSUM": 3.0, "RSUM_low": 2.0, "RSUM_high": 4.0}
    figures = [
        training_curves(history, name),
        recall_at_k(ranks, ranks, name),
        similarity_histogram(xy[:, 0], xy[:, 1], name),
        embedding_map(xy, xy, name, "PCA"),
        optimization_history(trials, name),
        parameter_importance({name: 0.5, "other": 0.5}, name),
        parameter_importance({}, name),
        leaderboard_figure(pd.DataFrame([row])),
    ]
    for figure in figures:
        figure.savefig(io.BytesIO(), dpi=20)


def test_metadata_with_hostile_ids_are_data(page_folder):
    manifest = json.loads((page_folder.parent / "split" / "manifest.json").read_text())
    assert manifest["dataset"] == HOSTILE
    assert manifest["images"] == IMAGES
