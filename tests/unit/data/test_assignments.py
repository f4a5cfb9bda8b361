"""Known splits: every form of file, every spelling of ids, and what is refused."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from frozenalign.data.assignments import Assignments, plain_id, split_by_assignments
from frozenalign.system.errors import UserError


def test_assignments_decide_and_images_without_one_are_unused(tmp_path):
    path = tmp_path / "karpathy.json"
    path.write_text(json.dumps({"1": "train", "2": "val", "3": "test", "9": "unused"}))
    division = split_by_assignments(np.array(["3", "2", "1", "7"]), Assignments.read(path, 3))
    assert division.names.tolist() == ["test", "val", "train", "unused"]
    assert not any(division.missing.values())


def test_assigned_ids_that_the_data_lack_are_refused_with_their_number_and_spelling(tmp_path):
    path = tmp_path / "karpathy.json"
    path.write_text(json.dumps({"1": "train", "2": "val", "3": "test", "000004": "test", "000005": "train"}))
    with pytest.raises(UserError) as refused:
        split_by_assignments(np.array(["3", "2", "1", "4", "5"]), Assignments.read(path, 3))
    assert str(refused.value) == (
        f"{path}: 2 of the 5 assigned ids are not in the data set (train 1, test 1); the first is '000004', the data "
        "set has ids like '3': correct the ids or add the images, or set `split.missing: drop` to go on without them"
    )


def test_an_id_in_another_unicode_form_is_shown_as_such(tmp_path):
    path = tmp_path / "assigned.json"
    path.write_text(json.dumps({"1": "train", "2": "val", "3": "test", "caf\u00e9.jpg": "train"}))
    with pytest.raises(UserError, match=r"'caf\\xe9.jpg' is 'cafe\\u0301.jpg' there, in another Unicode form"):
        split_by_assignments(np.array(["1", "2", "3", "cafe\u0301.jpg"]), Assignments.read(path, 3))


def test_assigned_ids_that_the_data_lack_are_counted_where_they_may_be_dropped(tmp_path):
    path = tmp_path / "karpathy.json"
    path.write_text(json.dumps({"1": "train", "2": "val", "3": "test", "8": "test", "9": "test"}))
    division = split_by_assignments(np.array(["3", "2", "1"]), Assignments.read(path, 3), "drop")
    assert division.names.tolist() == ["test", "val", "train"]
    assert division.missing == {"train": 0, "val": 0, "test": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [({"1": "training"}, "'training'"), ([], "must be a JSON object"), ({"9": "train"}, "no image .* to 'train'")],
)
def test_assignments_that_are_refused(tmp_path, content, said):
    path = tmp_path / "karpathy.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        split_by_assignments(np.array(["1", "2"]), Assignments.read(path, 3))


IDS = ["9", "25", "42", "73"]
NAMES = ["train", "restval", "val", "test"]
SPLIT = ["train", "train", "val", "test"]


def karpathy(ids: list[dict], names: list[str] = NAMES, **others: str) -> str:
    """Return the text of one of Karpathy's files, with keys as his have."""
    images = [
        {
            "sentids": [5 * i + j for j in range(5)],
            "imgid": i,
            "sentences": [{"tokens": ["a", "dog"], "raw": "A dog.", "imgid": i, "sentid": 5 * i + j} for j in range(5)],
            "split": name,
            **image,
        }
        for i, (name, image) in enumerate(zip(names, ids, strict=True))
    ]
    return json.dumps({"images": images, "dataset": "coco"} | others)


def names_of(path: Path, image_ids: list[str], **how: str) -> list[str]:
    return split_by_assignments(np.array(image_ids), Assignments.read(path, len(image_ids)), **how).names.tolist()


COCO = [{"cocoid": int(i), "filename": f"COCO_val2014_{int(i):012d}.jpg", "filepath": "val2014"} for i in IDS]
FLICKR = [{"filename": f"{i}_b08c.jpg"} for i in IDS]


@pytest.mark.parametrize(
    "image_ids",
    [
        IDS,
        [f"COCO_val2014_{int(i):012d}.jpg" for i in IDS],
        [f"{int(i):012d}.jpg" for i in IDS],
        [f"{i}.png" for i in IDS],
    ],
    ids=["cocoid", "2014", "2017", "png"],
)
def test_karpathys_coco_file_goes_by_cocoid_however_the_data_spell_it(tmp_path, image_ids):
    (tmp_path / "dataset_coco.json").write_text(karpathy(COCO))
    assert names_of(tmp_path / "dataset_coco.json", image_ids) == SPLIT


def test_imgid_is_no_id_of_coco(tmp_path):
    (tmp_path / "dataset_coco.json").write_text(karpathy(COCO))
    with pytest.raises(UserError, match=r"no image of the data set to 'train': .* first is '9', .* ids like '0'"):
        names_of(tmp_path / "dataset_coco.json", ["0", "1", "2", "3"])


@pytest.mark.parametrize(
    ("image_ids", "said"),
    [
        ([each["filename"] for each in FLICKR], "4 of its 4 ids, filename, are in the data set"),
        (
            [each["filename"][:-4] for each in FLICKR],
            "filename, are in the data set, where '9_b08c.jpg' is written '9_b08c'",
        ),
        (["0", "1", "2", "3"], "4 of its 4 ids, imgid, are in the data set"),
        (
            ["flickr/9_b08c.jpg", "flickr/25_b08c.jpg", "flickr/42_b08c.jpg", "flickr/73_b08c.jpg"],
            "4 of its 4 ids, filename",
        ),
    ],
    ids=["filename", "stem", "imgid", "path"],
)
def test_karpathys_flickr_files_go_by_the_ids_that_the_data_have(tmp_path, caplog, image_ids, said):
    caplog.set_level("INFO")
    (tmp_path / "dataset_flickr8k.json").write_text(karpathy(FLICKR, dataset="flickr8k"))
    assert names_of(tmp_path / "dataset_flickr8k.json", image_ids) == SPLIT
    assert said in caplog.text


def test_of_two_kinds_of_ids_the_one_counts_that_the_data_have_more_of(tmp_path):
    ids = [{"filename": str(i)} for i in (3, 2, 1, 70)]
    (tmp_path / "dataset.json").write_text(karpathy(ids, dataset="own"))
    assert names_of(tmp_path / "dataset.json", ["3", "2", "1", "0"]) == ["test", "val", "train", "train"]
    assert names_of(tmp_path / "dataset.json", ["3", "2", "1", "70"]) == SPLIT


def test_the_data_set_may_stand_before_the_images(tmp_path):
    content = json.loads(karpathy(COCO))
    (tmp_path / "dataset.json").write_text(json.dumps(dict(reversed(content.items())), indent=2))
    assert names_of(tmp_path / "dataset.json", IDS) == SPLIT


def test_a_file_with_captions_takes_less_memory_than_its_text(tmp_path):
    path, images = tmp_path / "dataset_coco.json", 20_000
    path.write_text(karpathy([{"cocoid": i} for i in range(images)], [*NAMES] * (images // 4)))
    size = path.stat().st_size
    Assignments.read(path, images)
    tracemalloc.start()
    assert len(Assignments.read(path, images).kinds[0].splits) == images
    assert tracemalloc.get_traced_memory()[1] < size
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            karpathy(COCO, ["train", "val", "test", "dev"]),
            r"images\[3\] is assigned to 'dev': write train, val, test, restval",
        ),
        (karpathy([*COCO[:3], {"filename": "73.jpg"}]), r"images\[3\]: cocoid is None: write the image's id there"),
        (
            karpathy([*COCO[:3], COCO[0]]),
            r"images\[3\]: image '9' is assigned to test and before to train: leave one out",
        ),
        (
            karpathy(COCO).replace('"imgid": 0, "sentences"', '"split": "val", "sentences"'),
            r"images\[0\]: a key stands twice",
        ),
        (karpathy(COCO)[:-40], r"not valid JSON \(images\["),
        (karpathy(COCO) + "{}", "more text follows the object"),
        (karpathy([{"other": 1}] * 4).replace("imgid", "number"), "has none of cocoid, filename and imgid"),
    ],
    ids=["split", "no id", "twice", "repeated key", "cut off", "trailing", "no ids at all"],
)
def test_a_file_of_karpathys_that_is_refused(tmp_path, text, said):
    (tmp_path / "dataset_coco.json").write_text(text)
    with pytest.raises(UserError, match=said):
        names_of(tmp_path / "dataset_coco.json", IDS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("split.csv", "image_id,split\n9,train\n25,train\n42,val\n73,test\n"),
        ("split.tsv", "\ufeffsplit\timage_id\r\ntrain\t9\r\ntrain\t25\r\nval\t42\r\ntest\t73\r\n"),
        ("SPLIT.CSV", 'image_id,caption,split\n9,"a, b",train\n9,c,train\n25,,train\n\n42,,val\n73,"x\ny",test\n'),
    ],
    ids=["csv", "tsv with a mark and CRLF", "a line for each caption"],
)
def test_tables_assign_as_well(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert names_of(tmp_path / name, IDS) == SPLIT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with .*: name the columns image_id and split there"),
        ("9,train\n", "name the columns image_id and split"),
        ("image_id,split,split\n9,val,val\n", "name the columns"),
        ("image_id,split\n9,train,x\n", "line 2 has 3 columns where the first line has 2: correct it"),
        ("image_id,split\n9,dev\n", "line 2: image '9' is assigned to 'dev': map image ids to train"),
        ("image_id,split\n9,val\n9,test\n", "line 3: image '9' is assigned to test and before to val"),
        ('image_id,split\n"9,val\n', "cannot be read as a table"),
    ],
)
def test_a_table_that_is_refused(tmp_path, text, said):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        names_of(tmp_path / "split.csv", IDS)


def test_other_spellings_count_only_where_no_id_is_the_same(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"1": "train", "2": "val", "3": "test", "004": "train"}))
    with pytest.raises(UserError, match="1 of the 4 assigned ids are not in the data set"):
        names_of(tmp_path / "split.json", ["1", "2", "3", "4"])
    assert names_of(tmp_path / "split.json", ["01", "02", "03", "04"]) == ["train", "val", "test", "train"]


def test_two_ids_that_one_spelling_makes_equal_are_never_mixed_up(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}))
    with pytest.raises(UserError, match="assigns no image of the data set"):
        names_of(tmp_path / "split.json", ["a.png", "a.gif", "b.png", "c.png"])
    (tmp_path / "split.json").write_text(json.dumps({"a.jpg": "train", "a.png": "val", "c.jpg": "test"}))
    with pytest.raises(UserError, match="assigns no image of the data set"):
        names_of(tmp_path / "split.json", ["a", "c"])


@pytest.mark.parametrize(
    ("image_id", "plain"),
    [("COCO_train2014_000000000009.jpg", "9"), ("000.JPEG", "0"), ("0x1", "0x1"), ("a.b", "a.b"), ("\u0660", "\u0660")],
)
def test_a_plain_id(image_id, plain):
    assert plain_id(image_id) == plain
