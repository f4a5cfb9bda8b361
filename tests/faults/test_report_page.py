"""Whatever stands in data, results and studies is text on the page: nothing of it runs, loads or is looked up."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import struct
import time
import warnings
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.conftest import related_embeddings, write_set
from tests.faults.hostile import MARK, NAMES
from workflow.lib.figures import embedding_map, recall_at_k, similarity_histogram, training_curves
from workflow.lib.files import read_json, write_json, write_yaml
from workflow.lib.leaderboard_figure import leaderboard_figure
from workflow.lib.pictures import thumbnail
from workflow.lib.tuning_figures import optimization_history, parameter_importance
from workflow.lib.validation import read_yaml
from workflow.scripts import baseline, evaluate, report, split, train

SCRIPT = "<script>alert(1)</script>"
INJECTIONS = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</style><style>@import url(http://evil.example/x.css);</style>",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'x' %}",
    '"; rm -rf /; "',
    "&lt;b&gt; &amp; <b>",
    "<iframe src=http://evil.example></iframe>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example/>",
    "<!-- comment",
    "]]>",
]
FILES = [
    *INJECTIONS,
    "../secret.png",
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://evil.example/x.png",
    "data:image/svg+xml,<svg onload=alert(1)>",
    "link.png",
    "vector.svg",
    "\x00",
    "x" * 5000,
    "photo.png",
]
HOSTILE = "".join(INJECTIONS)
IMAGES = 60


def one_pixel(width: int, height: int) -> bytes:
    """Return a PNG that says it is of this size and holds almost nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in (folder / "photo.png", folder.parent / "secret.png"):
        Image.new("RGB", (300, 200), (200, 30, 30)).save(path)
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")


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
    baseline.main([*common, "--baseline=cca", f"--output-dir={results / 'cca'}"])
    for name in ("head", "cca"):
        arguments = [f"--model={results / name / 'best_model.pt'}", f"--output-dir={results / name}/evaluation_results"]
        evaluate.main([*arguments, f"--data-dir={data}", f"--split-dir={division}", "--device=cpu"])
        facts = read_json(results / name / "run.json")
        write_json(results / name / "run.json", facts | {"device_name": HOSTILE})
    study = folder / HOSTILE.replace("/", "_")[:100]
    write_study(study, results / "head")
    runs = [str(results / name) for name in ("head", "cca")]
    source = [f"--dataset-name={HOSTILE}", f"--data-dir={data}", f"--manifest={division / 'manifest.json'}"]
    report.main([*source, "--runs", *runs, "--studies", str(study), f"--output-dir={folder / 'report'}"])
    return folder / "report"


def write_study(folder: Path, head: Path) -> None:
    folder.mkdir()
    rows = [
        ["number", "state", "value", "epochs", "seconds", "reason", HOSTILE, "choice"],
        [0, "COMPLETE", 100.0, 1, 1.0, "", 0.1, SCRIPT],
        [1, "FAIL", "", 1, 1.0, f"{HOSTILE}\n{SCRIPT}", 0.2, "=cmd()"],
    ]
    with (folder / "trials.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    write_yaml(folder / "best_config.yaml", {"description": HOSTILE})
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
            r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", attributes.get("src", "data:image/png;base64,A")
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
    secret = thumbnail(page_folder.parent, "secret.png")
    inside = thumbnail(page_folder.parent / "data", "photo.png")
    assert inside
    assert secret == inside  # both pictures look alike, so that the next line counts the harmless one alone
    shown = [each["alt"] for each in page.all("img") if each["src"] == inside]
    names = read_json(page_folder.parent / "data" / "train2017_metadata.json")
    harmless = {i for i, name in enumerate(names["image_ids"]) if names["image_files"][name] == "photo.png"}
    captions = {names["captions"][i] or f"image {names['image_ids'][i]}" for i in harmless}
    assert set(shown) <= captions | {f"image {names['image_ids'][i]}" for i in harmless}


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


@pytest.fixture
def folder(tmp_path) -> Path:
    write_pictures(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", [*NAMES, *FILES[:-1]], ids=lambda name: repr(name)[:30])
def test_a_hostile_file_name_is_no_picture(folder, name):
    assert thumbnail(folder, name) is None


def test_a_data_folder_may_be_a_link_itself_and_a_link_inside_it_may_stay_inside(folder):
    (folder / "inner.png").symlink_to("photo.png")
    (folder.parent / "linked").symlink_to(folder)
    assert thumbnail(folder.parent / "linked", "photo.png")
    assert thumbnail(folder.parent / "linked", "inner.png")
    assert thumbnail(folder.parent / "linked", "link.png") is None


def test_links_in_a_circle_are_no_picture(folder):
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to("a.png")
    assert thumbnail(folder, "a.png") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.png", one_pixel(100_000, 100_000)),
        ("large.png", one_pixel(10_000, 10_000)),
        ("empty.png", b""),
        ("text.png", b"no picture"),
        ("cut.png", one_pixel(10, 10)[:40]),
        ("zero.png", one_pixel(0, 0)),
        ("wrong.jpg", b"\xff\xd8\xff\xe0" + bytes(200)),
        ("vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("page.eps", f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({MARK}) (w) file closefile\n".encode()),
    ],
)
def test_what_cannot_be_a_small_picture_ends_quickly_as_none(folder, name, content):
    (folder / name).write_bytes(content)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert thumbnail(folder, name) is None
    assert time.perf_counter() - began < 2
    assert not Path(MARK).exists()


def test_a_picture_that_nobody_writes_into_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    assert thumbnail(folder, "pipe.png") is None


def test_no_program_is_started_for_a_picture(folder, monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "EPS")
    (folder / "page.png").write_bytes(stream.getvalue())
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    assert thumbnail(folder, "page.png") is None


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


def test_the_labels_of_a_snakemake_report_are_names_that_a_configuration_allows():
    rules = [path.read_text() for path in Path("workflow/rules").glob("*.smk")]
    labels = re.findall(r"labels=\{(.*)\}", "\n".join(rules))
    assert len(labels) == 4
    assert set(re.findall(r"\{(\w+)\}", "".join(labels))) == {"experiment", "seed", "study"}


def test_metadata_with_hostile_ids_are_data(page_folder):
    manifest = json.loads((page_folder.parent / "split" / "manifest.json").read_text())
    assert manifest["dataset"] == HOSTILE
    assert manifest["images"] == IMAGES
