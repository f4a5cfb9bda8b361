"""Items of a list in a JSON file, one at a time: the same as reading the whole, wherever a piece of the file ends."""

import json

import pytest

from frozenalign.system import json_items as module
from frozenalign.system.errors import UserError
from frozenalign.system.json_items import json_items

ITEMS = [
    {"id": 12, "text": 'a "b" \\ ü\n', "words": ["x", ["y"]], "empty": {}},
    {},
    {"id": -1.5e3, "none": None},
    7,
    "s",
    [1],
]
DOCUMENT = {"count": 12345, "name": "x", "items": ITEMS, "images": {"items": [3]}, "last": 67890}


@pytest.mark.parametrize("piece", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_items_are_those_of_the_whole_file(tmp_path, monkeypatch, piece, indent):
    monkeypatch.setattr(module, "PIECE_CHARACTERS", piece)
    (tmp_path / "a.json").write_text(
        "\ufeff" + json.dumps(DOCUMENT, indent=indent, ensure_ascii=False), encoding="utf-8"
    )
    assert list(json_items(tmp_path / "a.json", "items")) == ITEMS


def test_an_empty_list_has_no_items(tmp_path):
    (tmp_path / "a.json").write_text('{"items": [ ]}')
    assert list(json_items(tmp_path / "a.json", "items")) == []


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_file_that_was_cut_off_is_refused_after_the_items_before(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 5)
    text = json.dumps(DOCUMENT)
    (tmp_path / "a.json").write_text(text[:-cut])
    with pytest.raises(UserError, match=r"a.json is not valid JSON \(items\[\d\]: .*\): copy or write it again"):
        list(json_items(tmp_path / "a.json", "items"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"others": []}', "has no list 'items'"),
        ('{"items": {}}', "has no list 'items'"),
        ("[]", r"expected \{, found '\['"),
        ("", r"expected \{, found the end"),
        ('{"items": [{"a": 1}, {"a": 1, "a": 2}]}', r"items\[1\]: a key stands twice"),
        ('{"items": [NaN]}', "NaN is not a finite number"),
        ('{"items": [1]} x', "more text follows the object"),
        ('{"items": [1 2]}', r"expected , or \], found '2'"),
        ('{"items": [' + "[" * 200_000, "nests too deeply"),
        ('{"items": [' + "1" * 5000 + "]}", "not valid JSON"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=said):
        list(json_items(tmp_path / "a.json", "items"))


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"items": ["\xff"]}')
    with pytest.raises(UserError, match="is not UTF-8 text"):
        list(json_items(tmp_path / "a.json", "items"))


def test_an_item_without_an_end_is_not_looked_for_in_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 100)
    monkeypatch.setattr(module, "ITEM_CHARACTERS", 1000)
    read = []
    (tmp_path / "a.json").write_text('{"items": ["' + "x" * 100_000)
    monkeypatch.setattr(module._Reader, "_more", lambda self, more=module._Reader._more: read.append(1) or more(self))
    with pytest.raises(UserError, match=r"items\[0\]: Unterminated string"):
        list(json_items(tmp_path / "a.json", "items"))
    assert len(read) < 15
