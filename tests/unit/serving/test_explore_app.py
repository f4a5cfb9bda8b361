"""The page's server answers its own page on this machine and nobody else, and serves pictures by number only."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenalign.serving import explorer as explorers
from frozenalign.serving.explore_app import LOOPBACK, explore_app
from frozenalign.serving.explorer import Explorer, heads_of
from frozenalign.system.errors import UserError
from workflow.scripts import explore

pytest.importorskip("flask")
CPU = torch.device("cpu")


def explorer_of(results: Path, data: Path, *options: str) -> Explorer:
    arguments = ["--results", str(results), "--data-dir", str(data), "--device", "cpu", *options]
    return explore.opened(explore.parser().parse_args(arguments))


@pytest.fixture(scope="module")
def explorer(explored, encoded) -> Explorer:
    return explorer_of(explored, encoded)


@pytest.fixture(scope="module")
def client(explorer):
    return explore_app(explorer).test_client()


def answer(client, path: str, **parameters) -> dict:
    response = client.get(f"/api/{path}", query_string=parameters)
    assert response.status_code == 200, response.text
    return response.json


def test_the_heads_of_a_run_stand_in_the_order_of_validation(client):
    about = answer(client, "about")
    assert [head["name"] for head in about["heads"]] == ["cca", "ridge"]
    assert about["heads"][0]["validation"] >= about["heads"][1]["validation"]
    assert about["gallery"] == {"name": "small, test split", "images": 5, "captions": 10}
    assert (about["encodes_texts"], about["has_captions"], about["missing"]) == (True, True, [])


def test_a_text_a_caption_and_an_image_are_answered_by_the_head_that_is_asked(client, explorer):
    for head in ("cca", "ridge"):
        found = answer(client, "text", head=head, text="a red star", count=3)
        assert found["model"]["experiment"] == head
        assert [result["rank"] for result in found["results"]] == [1, 2, 3]
        assert len(answer(client, "caption", head=head, row=2, count=5)["results"]) == 5
        image = answer(client, "image", head=head, row=1)
        assert [text["row"] for text in image["texts"]] == explorer.gallery.items.texts_of(1)
        assert {result["row"] for result in image["neighbours"]["results"]} == {0, 2, 3, 4}
        assert image["captions"]["find"] == "captions"


def test_an_empty_box_shows_pictures_spread_over_the_gallery(client):
    assert [result["row"] for result in answer(client, "images", count=3)["results"]] == [0, 2, 4]
    assert [result["row"] for result in answer(client, "images", count=50)["results"]] == [0, 1, 2, 3, 4]


def test_captions_are_found_by_their_words(client, explorer):
    captions = explorer.gallery.items.captions
    words = captions[3].split()[1:3]
    found = answer(client, "captions", words=" ".join(reversed(words)).upper(), count=20)["results"]
    expected = [row for row, text in enumerate(captions) if all(word.casefold() in text.casefold() for word in words)]
    assert [text["row"] for text in found] == expected
    assert len(answer(client, "captions", words="a", count=2)["results"]) == 2


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        ("text", {"head": "absent", "text": "a", "count": 3}, 404),
        ("text", {"head": "cca", "text": "a"}, 404),
        ("text", {"head": "cca", "text": " ", "count": 3}, 400),
        ("text", {"head": "cca", "text": "qzx", "count": 3}, 400),
        ("image", {"head": "cca", "row": "x"}, 404),
        ("image", {"head": "cca", "row": 5}, 400),
        ("image", {"head": "cca", "row": -1}, 400),
        ("caption", {"head": "cca", "row": 10, "count": 3}, 400),
        ("absent", {}, 404),
    ],
)
def test_a_question_without_an_answer_is_refused(client, path, parameters, status):
    response = client.get(f"/api/{path}", query_string=parameters)
    assert response.status_code == status
    if status == 400:
        assert len(response.json["error"].splitlines()) == 1


def test_no_more_results_are_given_than_a_page_shows(client, explorer, monkeypatch):
    asked = []
    monkeypatch.setattr(explorer.gallery.items.__class__, "texts_with", lambda _, __, count: asked.append(count) or [])
    answer(client, "captions", words="a", count=10**9)
    answer(client, "captions", words="a", count=-3)
    assert asked == [200, 1]


@pytest.mark.parametrize("path", ["/", "/explore.js", "/api/about", "/picture/x/small/0.jpg", "/absent"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8321", "0.0.0.0"])
def test_a_foreign_name_that_leads_here_is_refused(client, path, host):
    assert client.get(path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost", "localhost:1"])
def test_this_machine_may_be_called_by_its_own_names(client, host):
    assert client.get("/api/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_foreign_page_gets_nothing_but_the_page_itself(client, site):
    headers = {"Sec-Fetch-Site": site}
    assert client.get("/", headers=headers).status_code == 200
    for path in ("/api/about", "/explore.js"):
        assert client.get(path, headers=headers).status_code == 403


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for path in ("/", "/explore.js", "/explore.css", "/api/about", "/absent"):
        headers = client.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; img-src 'self'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_nothing_but_get_is_answered(client):
    for method in ("post", "put", "delete"):
        assert getattr(client, method)("/api/about").status_code == 405


def test_a_picture_is_served_by_its_number_small_or_large(client, explorer, encoded):
    pictures = answer(client, "about")["pictures"]
    response = client.get(f"{pictures}small/2.jpg")
    assert response.mimetype == "image/jpeg"
    name = explorer.gallery.items.described_image(2)["image_file"]
    shown, original = Image.open(io.BytesIO(response.data)), Image.open(encoded / name)
    assert shown.size == original.size
    assert np.abs(np.asarray(shown, float) - np.asarray(original.convert("RGB"), float)).mean() < 8


@pytest.mark.parametrize(
    "end", ["small/5.jpg", "small/-1.jpg", "huge/0.jpg", "small/../../x", "small/%2e%2e/secret.png"]
)
def test_no_other_picture_can_be_asked_for(client, end):
    assert client.get(f"{answer(client, 'about')['pictures']}{end}").status_code == 404


@pytest.fixture
def bare(encoded, tmp_path) -> Path:
    """The embeddings of the set and ids alone: no captions, no pictures, no record of the encoders."""
    for path in encoded.glob("*embeddings.pt"):
        shutil.copy(path, tmp_path)
    metadata = json.loads((encoded / "train2017_metadata.json").read_text())
    kept = {name: metadata[name] for name in ("image_ids", "unique_image_ids")}
    (tmp_path / "train2017_metadata.json").write_text(json.dumps(kept))
    return tmp_path


def test_embeddings_alone_are_explored_by_rows_and_it_says_what_is_missing(explored, bare):
    client = explore_app(explorer_of(explored, bare)).test_client()
    about = answer(client, "about")
    assert (about["encodes_texts"], about["has_captions"]) == (False, False)
    assert [re.split(r"[:,]", sentence)[0] for sentence in about["missing"]] == [
        "Texts of your own cannot be searched for",
        "The data have no captions",
        "The metadata name no pictures",
    ]
    image = answer(client, "image", head="cca", row=1)
    assert [text["caption"] for text in image["texts"]] == [None, None]
    assert len(answer(client, "caption", head="cca", row=2, count=5)["results"]) == 5
    refused = client.get("/api/text", query_string={"head": "cca", "text": "a", "count": 3})
    assert (refused.status_code, "encoding.json not found" in refused.json["error"]) == (400, True)
    assert client.get(f"{about['pictures']}small/0.jpg").status_code == 404


def test_pictures_outside_their_folder_are_not_served(explored, encoded, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(encoded, folder)
    shutil.copy(next((encoded / "images").iterdir()), tmp_path / "secret.png")
    metadata = json.loads((folder / "train2017_metadata.json").read_text())
    metadata["image_files"] = dict.fromkeys(metadata["image_files"], "../secret.png")
    (folder / "train2017_metadata.json").write_text(json.dumps(metadata))
    client = explore_app(explorer_of(explored, folder)).test_client()
    about = answer(client, "about")
    assert f"../secret.png is outside {folder}" in about["missing"][0]
    assert client.get(f"{about['pictures']}small/0.jpg").status_code == 404


def test_heads_that_memory_does_not_hold_are_opened_again(explorer, monkeypatch):
    opened = []
    monkeypatch.setattr(
        explorer, "_open", lambda head, open_head=explorer._open: opened.append(head.name) or open_head(head)
    )
    explorer._held.clear()
    for head in ("cca", "ridge", "cca", "ridge"):
        explorer.prepared(head)
    assert opened == ["cca", "ridge"]
    monkeypatch.setattr(explorers, "HELD_BYTES", 1)
    explorer._held.clear()
    for head in ("cca", "ridge", "cca"):
        explorer.prepared(head)
    assert len(explorer._held) == 1


def test_a_folder_without_heads_is_refused(tmp_path):
    with pytest.raises(UserError, match="make demo"):
        heads_of(tmp_path)


def test_pictures_have_other_addresses_after_another_start(explorer):
    starts = {answer(explore_app(explorer).test_client(), "about")["pictures"] for _ in range(3)}
    assert len(starts) == 3


def test_only_names_of_this_machine_are_trusted():
    assert set(LOOPBACK) == {"127.0.0.1", "localhost"}
