"""Metadata in any form gives ids as text and captions; a mistake is one sentence with the row."""

import csv
import json

import numpy as np
import pytest

from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.pairing import coco_ids, pairs_metadata, read_columns
from frozenalign.data.formats.sources import find_source
from frozenalign.system.errors import UserError

COCO = "COCO_train2014_000000000{}.jpg"


def columns(path, content, **options):
    path.write_bytes(content.encode(**options) if isinstance(content, str) else content)
    return read_columns(find_source(str(path), "metadata"), 1 << 20)


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(path, count, ids=None):
    arrays = {"rows": np.ones((count, 2), np.float32)}
    np.savez(path, **arrays if ids is None else arrays | {"image_ids": np.array(ids)})
    return open_source(find_source(str(path), "images"))


@pytest.fixture
def paired(tmp_path):
    """A function that brings an images' and a texts' file together, given their ids or numbers of rows, and columns."""

    def pair(images, texts, found=None):
        opened = [
            rows(
                tmp_path / f"{name}.npz",
                ids if isinstance(ids, int) else len(ids),
                None if isinstance(ids, int) else ids,
            )
            for name, ids in (("images", images), ("texts", texts))
        ]
        return pairs_metadata(*opened, found, tmp_path / "metadata.csv" if found else None)

    return pair


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", 'image_id,caption\n1,a cat\n1,"a, b"\n2,c\n'),
        ("m.csv", '\ufeffimage_id,caption\r\n1,a cat\r\n1,"a, b"\r\n2,c\r\n'),
        ("m.csv", 'caption,other,image_id\na cat,,1\n"a, b",,1\nc,,2'),
        ("m.tsv", "image_id\tcaption\n1\ta cat\n1\ta, b\n2\tc\n"),
        (
            "m.jsonl",
            '{"image_id": 1, "caption": "a cat"}\r\n{"image_id": 1, "text": null, "caption": "a, b"}\n\n'
            '{"image_id": "2", "caption": "c"}',
        ),
        (
            "m.json",
            json.dumps(
                [{"image_id": 1, "caption": each} for each in ("a cat", "a, b")] + [{"image_id": "2", "caption": "c"}]
            ),
        ),
        ("m.json", json.dumps({"image_ids": [1, 1, 2], "captions": ["a cat", "a, b", "c"]})),
        ("m.json", json.dumps({"image_ids": ["1", "1", "2"], "captions": ["a cat", "a, b", "c"]})),
    ],
)
def test_a_table_gives_ids_as_text_and_captions(tmp_path, name, content):
    found = columns(tmp_path / name, content)
    assert found["image_ids"] == ["1", "1", "2"]
    assert found["captions"] == ["a cat", "a, b", "c"]


def test_a_line_of_json_ends_at_a_line_feed_alone(tmp_path):
    found = columns(tmp_path / "m.jsonl", '{"image_id": 1, "caption": "two\u2028lines"}\n')
    assert found["captions"] == ["two\u2028lines"]


def test_line_breaks_within_quotes_are_of_the_caption(tmp_path):
    assert columns(tmp_path / "m.csv", 'image_id,caption\n1,"two\r\nlines"\n')["captions"] == ["two\r\nlines"]


def test_a_long_caption_is_read_and_the_limit_of_other_readers_stays(tmp_path):
    before, caption = csv.field_size_limit(), "x" * 90_000 + " " * 50_000 + "y"
    assert len(columns(tmp_path / "m.csv", f"image_id,caption\n1,{caption}\n")["captions"][0]) > before
    assert csv.field_size_limit() == before


def test_a_parquet_table_is_read_without_its_list_columns(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"image_id": [1, 2], "embedding": [[1.0], [2.0]], "text": ["a", "b"], "caption_id": [7, 8]})
    pq.write_table(table, tmp_path / "m.parquet")
    found = read_columns(find_source(str(tmp_path / "m.parquet"), "metadata"), 1 << 20)
    assert found == {"image_ids": ["1", "2"], "captions": ["a", "b"], "caption_ids": ["7", "8"]}


def test_shards_of_a_table_follow_each_other(tmp_path):
    for number in range(11):
        (tmp_path / f"m_{number}.csv").write_text(f"image_id,caption\n{number},c{number}\n")
    found = read_columns(find_source(str(tmp_path), "metadata"), 1 << 20)
    assert found["image_ids"] == [str(number) for number in range(11)]


def test_paths_are_ids_where_there_are_no_others_and_lead_to_the_pictures(tmp_path):
    found = columns(tmp_path / "m.csv", "image_path,caption\na/1.jpg,x\na/2.jpg,y\n")
    assert found["image_ids"] == ["a/1.jpg", "a/2.jpg"]
    assert found["image_files"] == {"a/1.jpg": "a/1.jpg", "a/2.jpg": "a/2.jpg"}
    found = columns(tmp_path / "m.csv", "image_id,file_name,caption\n1,a/1.jpg,x\n1,a/1.jpg,y\n")
    assert found["image_files"] == {"1": "a/1.jpg"}


@pytest.mark.parametrize("empty", ["", "nan", "NaN", "  "])
def test_an_empty_caption_is_named_by_its_row(tmp_path, empty):
    said = refusal(columns, tmp_path / "m.csv", f"image_id,caption\n1,a\n2,{empty}\n")
    assert f"{tmp_path}/m.csv: caption of row 1 is {empty!r}: write every caption as text" in said


def test_a_missing_caption_or_id_is_named_by_its_row(tmp_path):
    said = refusal(columns, tmp_path / "m.jsonl", '{"image_id": 1, "caption": "a"}\n{"image_id": 2}')
    assert "caption of row 1 is None" in said
    assert "m.jsonl: line 1 is not valid JSON" in refusal(
        columns, tmp_path / "m.jsonl", '{"image_id": 1, "caption": NaN}'
    )
    assert "image_id: row 1 has no image id" in refusal(columns, tmp_path / "m.csv", "image_id,caption\n1,a\n,b\n")
    said = refusal(columns, tmp_path / "m.json", json.dumps([{"image_id": 1.5, "caption": "a"}]))
    assert "image_id: row 0 has no image id" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", "image_id,caption\n1,a,b\n", "row 0 has 3 fields where the first line names 2 columns: quote"),
        ("m.csv", 'image_id,caption\n1,"a\n', "line 2 cannot be read (unexpected end of data): quote"),
        ("m.csv", "image_id,image_id\n1,2\n", "must name every column once"),
        ("m.csv", b"image_id,caption\n1,\xe9t\xe9\n", "is not UTF-8 text"),
        ("m.jsonl", '{"image_id": 1}\n{"image_id"', "line 2 is not valid JSON"),
        ("m.jsonl", "[1]\n", "row 0 is no JSON object"),
        ("m.json", "3", "must be a JSON object with a list `image_ids`"),
        ("m.json", '{"image_ids": 3}', "image_ids must be a list"),
        ("m.csv", "image_id,caption\n" + "1,a\n" * (1 << 18), "bytes where at most 1048576 are read"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content, said):
    message = refusal(columns, tmp_path / name, content)
    assert str(tmp_path / name) in message
    assert said in message


def test_coco_names_are_the_numbers_of_their_images():
    assert coco_ids([COCO.format(123), f"train2014/{COCO.format('009')}"]) == ["123", "9"]
    assert coco_ids(["COCO_val2014_000000000123.jpg", COCO.format(124)]) == ["123", "124"]
    for others in (["123", "COCO_x"], [COCO.format(123), "124"], [COCO.format(123), "COCO_val2014_000000000123.jpg"]):
        assert coco_ids(others) == others


@pytest.mark.parametrize("ids", [["123", "123", "9"], [COCO.format(123), COCO.format(123), COCO.format("009")]])
def test_the_same_image_has_one_id_however_it_is_written(paired, ids):
    metadata = paired(["123", "9"], 3, {"image_ids": ids})
    assert metadata == {"image_ids": ["123", "123", "9"], "unique_image_ids": ["123", "9"]}


def test_ids_come_from_the_texts_or_the_images_where_metadata_have_none(paired):
    assert paired(3, ["a", "a", "b"])["image_ids"] == ["a", "a", "b"]
    assert paired(["a", "a", "b"], 3) == {"image_ids": ["a", "a", "b"]}
    assert paired(["b", "a"], ["a", "a", "b"]) == {"image_ids": ["a", "a", "b"], "unique_image_ids": ["b", "a"]}
    assert paired(["a", "a", "b"], ["a", "a", "b"]) == {"image_ids": ["a", "a", "b"]}


def test_captions_without_ids_are_those_of_the_rows(paired):
    metadata = paired(3, ["a", "a", "b"], {"captions": ["x", "y", "z"]})
    assert metadata == {"captions": ["x", "y", "z"], "image_ids": ["a", "a", "b"]}


def test_too_few_captions_are_refused(paired):
    said = refusal(paired, 3, ["a", "a", "b"], {"captions": ["x", "y"]})
    assert "metadata.csv lists 2 captions: write one for each text row" in said


def test_pictures_are_found_by_the_same_ids(paired):
    files = {COCO.format(123): "a.jpg", COCO.format(124): "b.jpg"}
    metadata = paired(2, 2, {"image_ids": ["123", "124"], "image_files": files})
    assert metadata["image_files"] == {"123": "a.jpg", "124": "b.jpg"}


@pytest.mark.parametrize(
    ("images", "texts", "ids", "said"),
    [
        (3, 3, None, "texts.npz has no image ids: name a file with one `image_id` for each text row as `metadata`"),
        (2, 3, None, "texts.npz has no image ids"),
        (3, 3, ["a", "b"], "metadata.csv lists 2 image ids: write one for each text row"),
        (2, 3, ["a", "a", "b"], "images.npz has 2 rows for 3 image ids: write one image row for each text row"),
        (["a", "c"], 3, ["a", "a", "b"], "row 2 of "),
        (["a", "b", "a"], 3, ["a", "a", "b"], "images.npz has several rows of image 'a'"),
        (3, ["a", "b", "a"], ["a", "a", "b"], "row 1 belongs to image 'b' in "),
    ],
)
def test_ids_that_do_not_fit_are_refused(paired, images, texts, ids, said):
    assert said in refusal(paired, images, texts, ids and {"image_ids": ids})
