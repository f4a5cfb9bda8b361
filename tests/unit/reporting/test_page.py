"""The page for those who cannot see it, or use no mouse: names, headings, tables, one file."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from frozenalign.reporting.page import _environment

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Element:
    """An element with its attributes and its children, elements and texts."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element | str] = []

    def all(self, *tags: str) -> list["Element"]:
        """Return the elements of these kinds inside it, in the order of the page."""
        inside = [child for child in self.children if isinstance(child, Element)]
        return [found for each in inside for found in ([each] if each.tag in tags else []) + each.all(*tags)]

    @property
    def text(self) -> str:
        """Return its text in one line."""
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(parts).split())


class Tree(HTMLParser):
    """A page as a tree; an element that is not closed, or closed in the wrong place, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open = [Element("page", {})]
        self.feed(text)
        assert [each.tag for each in self.open] == ["page"], "not closed"

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].children.append(data)


@pytest.fixture(scope="module")
def page(report_folder: Path) -> Element:
    return Tree((report_folder / "index.html").read_text()).open[0]


def test_an_id_stands_once_and_everything_that_names_one_finds_it(page):
    every = page.all(*{each.tag for each in everything(page)})
    ids = Counter(each.attributes["id"] for each in every if "id" in each.attributes)
    assert max(ids.values()) == 1
    for each in every:
        named = [each.attributes.get(name, "") for name in ("for", "aria-labelledby", "aria-describedby")]
        named += [each.attributes["href"].removeprefix("#")] if "href" in each.attributes else []
        for name in " ".join(named).split():
            assert name in ids, (each.tag, name)


def everything(element: Element) -> list[Element]:
    inside = [child for child in element.children if isinstance(child, Element)]
    return [found for each in inside for found in [each, *everything(each)]]


def test_headings_leave_no_level_out(page):
    levels = [int(heading.tag[1]) for heading in page.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(heading.text for heading in page.all("h1", "h2", "h3", "h4"))


def test_the_page_has_its_landmarks_and_a_language(page):
    assert page.all("html")[0].attributes["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "title")] == [1, 1, 1, 1]
    for section in page.all("section"):
        assert section.attributes["aria-labelledby"] == section.all("h2")[0].attributes["id"]
    links = [link.attributes["href"] for link in page.all("nav")[0].all("a")]
    assert links == [f"#{section.attributes['id']}" for section in page.all("section")]


def test_every_control_has_a_name(page):
    labels = {label.attributes.get("for"): label.text for label in page.all("label")}
    wrapped = {id(box) for label in page.all("label") if label.text for box in label.all("input")}
    for control in page.all("button", "a", "summary", "input", "select", "textarea"):
        named = control.text or control.attributes.get("aria-label") or labels.get(control.attributes.get("id"))
        assert named or id(control) in wrapped, control.attributes
    for box in page.all("fieldset"):
        assert box.all("legend")[0].text
    for each in everything(page):
        if "tabindex" in each.attributes:
            assert each.attributes["role"] == "region"
            assert each.attributes.get("aria-label") or each.attributes.get("aria-labelledby")


def test_every_table_has_a_caption_and_its_headings_say_what_they_head(page):
    assert page.all("table")
    for table in page.all("table"):
        assert table.all("caption")[0].text
        head, *_ = table.all("thead")
        assert {cell.attributes["scope"] for cell in head.all("th")} <= {"col", "colgroup"}
        for row in table.all("tbody")[0].all("tr"):
            first, *others = [cell for cell in row.children if isinstance(cell, Element)]
            assert (first.tag, first.attributes["scope"]) == ("th", "row")
            assert {cell.tag for cell in others} == {"td"}


def test_every_row_of_the_board_has_a_cell_in_every_column(page):
    board = next(table for table in page.all("table") if table.attributes.get("id") == "board-table")
    first, second = board.all("thead")[0].all("tr")
    spans = [int(cell.attributes.get("colspan", 1)) for cell in first.all("th")]
    columns = {
        int(cell.attributes["data-column"])
        for row in (first, second)
        for cell in row.all("th")
        if "data-column" in cell.attributes
    }
    assert columns == set(range(sum(spans)))
    for row in board.all("tbody")[0].all("tr"):
        assert len(row.all("th", "td")) == sum(spans)


def test_every_picture_says_what_it_shows(page):
    assert page.all("img")
    assert all(picture.attributes["alt"] for picture in page.all("img"))


def test_nothing_is_loaded_from_outside(page):
    assert not page.all("link", "iframe", "object", "embed", "form")
    assert all(picture.attributes["src"].startswith("data:image/") for picture in page.all("img"))
    assert not re.search(r"@import|url\(|https?:", page.all("style")[0].text + page.all("script")[0].text)


def test_the_first_screen_answers_what_is_asked_first(page):
    said = page.all("header")[0].text
    for part in (
        "small: which head aligns the encoders best? line",
        "mean of 2 seeds",
        "against",
        "paired 95 % interval",
        "parameters",
        "R@1 image to text",
    ):
        assert part in said, part
    assert re.search(r"(Sure|Not sure|Surely lower): paired 95 % interval [+−]\d", said)
    alts = [picture.attributes["alt"] for picture in page.all("header")[0].all("img")]
    assert [alt.split(".")[0] for alt in alts] == ["RSUM against training, seconds", "RSUM against parameters"]
    assert all("Pareto front" in alt for alt in alts)


def test_the_texts_to_copy_have_every_row_of_the_board(page):
    board = next(table for table in page.all("table") if table.attributes.get("id") == "board-table")
    rows = [row.attributes["data-row"] for row in board.all("tbody")[0].all("tr") if "data-row" in row.attributes]
    texts = [text for text in page.all("pre") if "data-language" in text.attributes]
    assert [text.attributes["data-language"] for text in texts] == ["Markdown", "LaTeX"]
    for text in texts:
        lines = [line for line in text.all("span") if "data-row" in line.attributes]
        assert [line.attributes["data-row"] for line in lines] == rows
        assert all(line.children[0].endswith("\n") for line in lines)


def test_what_is_beside_the_page_is_on_it(report_folder):
    assert {path.name for path in report_folder.iterdir()} >= {
        "index.html",
        "leaderboard.csv",
        "leaderboard.svg",
        "costs.svg",
    }
    assert (report_folder / "leaderboard.svg").read_text().startswith("<?xml")


def test_a_difference_of_nothing_has_no_minus():
    macros = _environment().get_template("macros.html.jinja").module
    assert [macros.signed(value) for value in (-0.04, 0.0, 1.26, -1.26)] == ["+0.0", "+0.0", "+1.3", "−1.3"]
    assert [macros.number(value) for value in (-0.04, -1.26, None, float("nan"))] == ["0.0", "−1.3", "–", "–"]
