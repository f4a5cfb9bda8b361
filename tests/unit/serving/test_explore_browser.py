"""The page in a real Chromium, driven by Playwright: skipped where either is missing."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from frozenalign.serving.explore_app import explore_app
from frozenalign.serving.searcher import Searcher
from workflow.scripts import explore

serving = pytest.importorskip("werkzeug.serving")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
SECONDS = 20
HOSTILE = "</script><img src=x onerror=alert(1)><b>bold</b> & \"quoted\" 'row' "


class Served:
    """An explorer behind a real server in a thread."""

    def __init__(self, results: Path, data: Path, *options: str) -> None:
        arguments = ["--results", str(results), "--data-dir", str(data), "--device", "cpu", *options]
        explorer = explore.opened(explore.parser().parse_args(arguments))
        self.server = serving.make_server("127.0.0.1", 0, explore_app(explorer), threaded=True)
        self.address = f"http://127.0.0.1:{self.server.port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox does not run as root.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def served(explored, encoded) -> Iterator[Served]:
    made = Served(explored, encoded, "--split", "all")
    yield made
    made.close()


@pytest.fixture(scope="module")
def hostile(explored, encoded, tmp_path_factory) -> Iterator[Served]:
    """A set whose captions and ids of files try to become part of the page."""
    folder = tmp_path_factory.mktemp("hostile") / "data"
    shutil.copytree(encoded, folder)
    metadata = json.loads((folder / "train2017_metadata.json").read_text())
    metadata["captions"] = [f"{HOSTILE}{caption}" for caption in metadata["captions"]]
    (folder / "train2017_metadata.json").write_text(json.dumps(metadata))
    made = Served(explored, folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bare(explored, encoded, tmp_path_factory) -> Iterator[Served]:
    """Embeddings with ids alone."""
    folder = tmp_path_factory.mktemp("bare")
    for path in encoded.glob("*embeddings.pt"):
        shutil.copy(path, folder)
    metadata = json.loads((encoded / "train2017_metadata.json").read_text())
    kept = {name: metadata[name] for name in ("image_ids", "unique_image_ids")}
    (folder / "train2017_metadata.json").write_text(json.dumps(kept))
    made = Served(explored, folder)
    yield made
    made.close()


@pytest.fixture
def open_page(browser):
    """Return a page at an address, in a window of its own; what goes wrong on it fails the test."""
    contexts, wrong, asked = [], [], []

    def opened(server: Served, width: int = 1280, hash: str = "", **options: object):
        context = browser.new_context(viewport={"width": width, "height": 850}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.asked = asked
        page.goto(server.address + hash)
        page.locator("#found button").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
    for url in asked:
        assert urlsplit(url).hostname in ("127.0.0.1", None), url


def questions(page, path: str = "/api/text") -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(url).query) for url in page.asked if urlsplit(url).path == path]


def best(page) -> str:
    """Return the address of the first picture."""
    return page.locator("#found img").first.get_attribute("src")


def test_pictures_change_while_a_caption_is_typed(open_page, served):
    page = open_page(served)
    assert "spread over the gallery" in page.inner_text("#status")
    page.locator("#text").press_sequentially("a red star", delay=20)
    page.get_by_text("nearest first").wait_for()
    page.wait_for_timeout(400)
    found = served_answer(page, "text", head="cca", text="a red star", count=48)
    assert best(page).endswith(f"/small/{found['results'][0]['row']}.jpg")
    assert page.locator("#found li").count() == 40
    assert questions(page)[-1]["text"] == ["a red star"]
    # Not one request a key.
    assert len(questions(page)) < len("a red star")


def served_answer(page, path: str, **parameters: object) -> dict:
    return page.request.get(f"{page.url.partition('#')[0]}api/{path}", params=parameters).json()


def test_an_answer_that_comes_late_is_not_shown(open_page, served, monkeypatch):
    answer, answered = Searcher.answer, threading.Event()

    def late(self, kind, query, count):
        if query.described.get("text") == "a green box":
            answered.wait(SECONDS)
        return answer(self, kind, query, count)

    monkeypatch.setattr(Searcher, "answer", late)
    page = open_page(served)
    with page.expect_request(lambda request: "green" in request.url):
        page.locator("#text").fill("a green box")
    page.locator("#text").fill("a red star")
    page.get_by_text("nearest first").wait_for()
    first = best(page)
    answered.set()
    page.wait_for_timeout(500)
    found = served_answer(page, "text", head="cca", text="a red star", count=1)
    assert best(page) == first
    assert first.endswith(f"/small/{found['results'][0]['row']}.jpg")


def test_a_picture_opens_with_its_captions_and_neighbours_and_another_follows(open_page, served):
    page = open_page(served)
    page.locator("#found button").nth(2).click()
    page.locator("#detail[open]").wait_for()
    row = int(best_of_detail(page))
    image = served_answer(page, "image", head="cca", row=row)
    sections = page.locator("#sheet section")
    assert sections.nth(0).locator(".caption").all_inner_texts() == [text["caption"] for text in image["texts"]]
    assert sections.nth(1).locator("li").count() == 8
    assert sections.nth(2).locator("li").count() == 12
    sections.nth(2).locator("button").first.click()
    page.get_by_text(f"Image {image['neighbours']['results'][0]['image_id']}", exact=True).wait_for()
    page.go_back()
    page.get_by_text(f"Image {image['image']['image_id']}", exact=True).wait_for()
    page.go_back()
    page.locator("#detail:not([open])").wait_for(state="hidden")


def best_of_detail(page) -> str:
    return page.locator("#sheet figure img").get_attribute("src").rpartition("/")[2].removesuffix(".jpg")


def test_a_caption_of_the_gallery_can_be_searched_with(open_page, served):
    page = open_page(served)
    page.locator("#found button").first.click()
    caption = page.locator("#sheet .line").first
    words = caption.inner_text()
    caption.click()
    page.get_by_text("nearest first").wait_for()
    assert page.input_value("#text") == words
    assert not page.locator("#detail").is_visible()


def test_the_keyboard_is_enough(open_page, served):
    page = open_page(served)
    page.keyboard.type("a red star")
    page.get_by_text("nearest first").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    focused = "document.activeElement === document.querySelectorAll('#found button')[1]"
    assert page.evaluate(focused)
    page.keyboard.press("Enter")
    page.locator("#detail[open]").wait_for()
    title = page.inner_text("#detail-title")
    page.keyboard.press("ArrowRight")
    page.locator("#detail-title").filter(has_not_text=title).wait_for()
    page.keyboard.press("ArrowLeft")
    page.locator("#detail-title").filter(has_text=title).wait_for()
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    assert page.evaluate(focused)
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    assert page.input_value("#text") == "a red star"


def test_another_head_answers_the_same_caption(open_page, served):
    page = open_page(served, hash="#text=a+red+star")
    page.get_by_text("nearest first").wait_for()
    with page.expect_response(lambda response: "head=ridge" in response.url) as answered:
        page.select_option("#head", "ridge")
    assert answered.value.json()["query"]["text"] == "a red star"
    page.locator(f'#found img[src$="/{answered.value.json()["results"][0]["row"]}.jpg"]').wait_for()
    page.go_back()
    page.locator("#head").and_(page.locator("select")).wait_for()
    assert page.input_value("#head") == "cca"


def test_a_caption_without_a_known_word_says_so_and_the_next_is_answered(open_page, served):
    page = open_page(served)
    page.locator("#text").fill("qzx")
    page.get_by_text("knows no word of").wait_for()
    page.locator("#text").fill("a red star")
    page.get_by_text("nearest first").wait_for()


def test_what_captions_hold_stays_text(open_page, hostile):
    page = open_page(hostile)
    page.locator("#text").fill("a red star")
    page.get_by_text("nearest first").wait_for()
    assert page.locator("#found .caption").first.inner_text().startswith(HOSTILE.strip()[:20])
    page.locator("#found button").first.click()
    page.locator("#sheet .line").first.wait_for()
    assert page.locator("#sheet .line").first.inner_text().startswith(HOSTILE.strip()[:20])
    page.wait_for_timeout(300)
    assert page.locator("b, img[src=x]").count() == 0


def test_embeddings_alone_are_explored_by_rows(open_page, bare):
    page = open_page(bare)
    said = page.locator("#missing li").all_inner_texts()
    assert len(said) == 3
    assert page.locator("#found img").count() == 0
    page.locator("#text").fill("3")
    page.keyboard.press("Enter")
    page.locator("#detail[open]").wait_for()
    page.locator("#sheet .line").first.click()
    page.get_by_text("nearest first").wait_for()
    assert page.input_value("#text").startswith("text row")


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize("name", ["served", "bare"])
def test_nothing_is_wider_than_the_window(open_page, width, name, request):
    page = open_page(request.getfixturevalue(name), width, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#found button").first.tap()
    page.locator("#detail[open]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#detail').scrollWidth") <= width
    page.locator("#close").tap()
    page.locator("#detail").wait_for(state="hidden")


def test_what_was_typed_before_the_server_ended_is_explained(open_page, explored, encoded):
    ending = Served(explored, encoded)
    page = open_page(ending)
    ending.close()
    page.locator("#text").fill("a red star")
    page.get_by_text("the server does not answer").wait_for()
