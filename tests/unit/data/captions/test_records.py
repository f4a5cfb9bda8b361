"""JSON Lines and JSON lists: a record a picture, with one caption or several."""

import json

import pytest

from frozenalign.data.captions.registry import read_captions
from tests.unit.data.captions.writing import refusal, write

RECORDS = [
    {"image": "b.jpg", "caption": "one", "image_id": 10, "more": {"any": []}},
    {"image": "a.jpg", "caption": ["two", "three"], "image_id": 9, "more": None},
]


def lines(records: list[dict]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_record_has_one_caption_or_several(tmp_path, name, end):
    found = read_captions([write(tmp_path / name, lines(RECORDS).replace("\n", end))])
    assert found.image_ids == ["9", "9", "10"]
    assert found.caption_ids == ["9#0", "9#1", "10#0"]
    assert found.captions == ["two", "three", "one"]
    assert found.image_files == {"9": "a.jpg", "10": "b.jpg"}


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_list_holds_the_same_records(tmp_path, indent):
    path = write(tmp_path / "a.json", json.dumps(RECORDS, indent=indent))
    assert read_captions([path]) == read_captions([write(tmp_path / "a.jsonl", lines(RECORDS))])


def test_keys_may_be_named(tmp_path):
    path = write(tmp_path / "a.jsonl", lines([{"photo": "a.jpg", "words": "x", "number": 4}]))
    found = read_captions([path], {"image": "photo", "caption": "words", "caption_id": "number"})
    assert (found.image_ids, found.caption_ids) == (["a.jpg"], ["4"])


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ('{"image": "a.jpg", "caption": NaN}', "line 2 is not valid JSON (caption: NaN is not a finite number)"),
        ('{"image": "a.jpg", "caption": ""}', "line 2: the caption is empty"),
        ('{"image": "a.jpg", "caption": [""]}', "line 2: the caption is empty"),
        ('{"image": "a.jpg", "caption": null}', "line 2: the caption is empty"),
        ('{"image": "a.jpg", "caption": {}}', "line 2: the caption is {}, not text"),
        ('{"image": "a.jpg"}', "line 2 lacks the key `caption`, which others have"),
        ('{"image": 7, "caption": "x"}', "line 2: the file of the picture is 7"),
        ('{"image": ["a.jpg"], "caption": "x"}', "line 2: the file of the picture is ['a.jpg']"),
        ('{"image": "/a.jpg", "caption": "x"}', "line 2: the file '/a.jpg' leads out"),
        ('{"image": "a", "image": "b", "caption": "x"}', "line 2 is not valid JSON (the key 'image' stands twice)"),
        ('{"image": "a.jpg", "caption": "x"', "line 2 is not valid JSON (Expecting ',' delimiter at column 34)"),
        ("7", "line 2 is no object"),
        ("[" * 100_000, "line 2 nests too deeply"),
        ('{"image": "a.jpg", "caption": "\\ud800"}', "line 2: the caption holds half a character"),
    ],
    ids=lambda value: value[:34],
)
def test_a_mistake_is_named_with_its_line(tmp_path, second, said):
    assert said in refusal(write(tmp_path / "a.jsonl", f'{{"image": "z.jpg", "caption": "y"}}\n{second}\n'))


def test_a_mistake_in_a_list_is_named_with_its_index(tmp_path):
    assert "[1] lacks the key `caption`" in refusal(write(tmp_path / "a.json", [RECORDS[0], {"image": "a.jpg"}]))
    assert "[0] has the keys 'a', none of them image or" in refusal(write(tmp_path / "a.json", [{"a": "a.jpg"}]))


@pytest.mark.parametrize(("name", "content"), [("a.json", "[]"), ("a.jsonl", ""), ("a.jsonl", "\n\n")])
def test_no_record_is_no_caption(tmp_path, name, content):
    assert "lists no caption" in refusal(write(tmp_path / name, content))
