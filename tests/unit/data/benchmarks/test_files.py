"""Files of benchmarks: positives, hard negatives, classes and captions, as they are read and as they are refused."""

import json
from pathlib import Path

import pytest

from frozenalign.configuration.registrations import evaluation_sets, positive_sources
from frozenalign.data.benchmarks import eccv_caption
from frozenalign.data.benchmarks.captioned_pictures import captioned_pictures
from frozenalign.data.benchmarks.hard_negatives import hard_negatives
from frozenalign.data.benchmarks.labelled_pictures import labelled_pictures
from frozenalign.data.benchmarks.positives import read_positives
from frozenalign.data.benchmarks.registry import BENCHMARK_FILES, positive_files, positives_of
from frozenalign.system.errors import UserError

ROW = {"filename": "a.jpg", "caption": "A red cup.", "negative_caption": "A blue cup."}
OTHER = {"filename": "b.jpg", "caption": "A blue cup.", "negative_caption": "A cup."}
CLASSES = {"classes": ["cat", "dog"], "templates": ["a {}.", "the {c}"], "images": {"1.jpg": "dog", "2.jpg": "cat"}}


def written(tmp_path: Path, content: object, name: str = "given.json") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_every_kind_of_evaluation_set_has_a_reader_of_its_file():
    assert set(BENCHMARK_FILES) == set(evaluation_sets())
    assert set(positive_sources()) == {"coco", "cxc", "eccv_caption"}


def test_the_positives_of_an_image_are_the_captions_that_list_it(tmp_path):
    found = positives_of(str(written(tmp_path, {"1": [10, 11], "2": ["11", 11]})))
    assert found.images == {"1": {"10", "11"}, "2": {"11"}}
    assert found.captions == {"10": {"1"}, "11": {"1", "2"}}
    assert not found.as_listed


def test_both_directions_may_be_listed_apart(tmp_path):
    both = {"caption_to_image": {"1": [10]}, "image_to_caption": {"10": [1, 2]}}
    found = read_positives(written(tmp_path, both))
    assert (found.images, found.captions) == ({"1": {"10"}}, {"10": {"1", "2"}})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "write a JSON object of image ids by caption id"),
        ({}, "write a JSON object of image ids by caption id"),
        ({"1": 10}, "caption '1' has 10: write a list of at least one id"),
        ({"1": []}, "write a list of at least one id"),
        ({"1": [10, None]}, "write a list of at least one id"),
        ({"1": [True]}, "write a list of at least one id"),
        ({"caption_to_image": {"1": [10]}}, "has no image_to_caption"),
        ('{"1": [1], "1": [2]}', "the key '1' stands twice"),
    ],
)
def test_other_lists_of_positives_are_refused(tmp_path, content, problem):
    with pytest.raises(UserError, match=problem):
        read_positives(written(tmp_path, content))


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(eccv_caption, "PACKAGE", "absent_package")
    with pytest.raises(UserError, match="need the package absent_package: run pip install"):
        positive_files("cxc")


def test_the_published_positives_are_those_that_their_papers_count():
    pytest.importorskip("eccv_caption")
    eccv, cxc, coco = (positives_of(name) for name in ("eccv_caption", "cxc", "coco"))
    assert (len(eccv.images), len(eccv.captions)) == (1332, 1261)
    assert (len(cxc.images), len(cxc.captions)) == (24972, 5000)
    assert [len(fold) for fold in coco.folds] == [1000] * 5
    assert len(frozenset().union(*coco.folds)) == len(coco.captions) == 5000
    assert all(path.is_file() for path in positive_files("coco"))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"5": ROW, "6": OTHER}, "crepe.json"),
        ("filename,caption,negative_caption\na.jpg,A red cup.,A blue cup.\nb.jpg,A blue cup.,A cup.\n", "crepe.csv"),
        ("caption\tnegative_caption\tfilename\nA red cup.\tA blue cup.\ta.jpg\nA blue cup.\tA cup.\tb.jpg\n", "c.tsv"),
        ([ROW, OTHER], "list.json"),
    ],
)
def test_pictures_and_texts_of_hard_negatives_are_encoded_once(tmp_path, content, name):
    found = hard_negatives(written(tmp_path, content, name), tmp_path)
    assert found.pictures == {"a.jpg": "a.jpg", "b.jpg": "b.jpg"}
    assert found.texts == ["A red cup.", "A blue cup.", "A cup."]
    rows = [{key: row[key] for key in ("image", "caption", "negative")} for row in found.meaning["rows"]]
    assert rows == [{"image": 0, "caption": 0, "negative": 1}, {"image": 1, "caption": 1, "negative": 2}]
    assert [row["id"] for row in found.meaning["rows"]] == (["5", "6"] if name == "crepe.json" else ["0", "1"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "has no rows"),
        ("7", "holds 7"),
        ({"5": ROW | {"caption": " "}}, "row 5 has ' ' as caption"),
        ({"5": {"filename": "a.jpg", "caption": "A cup."}}, "row 5 has None as negative_caption"),
        ({"5": ROW | {"filename": 3}}, "row 5 has 3 as filename"),
        ({"5": "text"}, "row 5 has None as filename"),
        ('{"5": {"filename": "a\\ud800", "caption": "c", "negative_caption": "n"}}', "as filename"),
    ],
)
def test_other_rows_of_hard_negatives_are_refused(tmp_path, content, problem):
    with pytest.raises(UserError, match=problem):
        hard_negatives(written(tmp_path, content), tmp_path)


def test_a_prompt_is_made_of_each_name_and_template(tmp_path):
    found = labelled_pictures(written(tmp_path, CLASSES), tmp_path)
    assert found.texts == ["a cat.", "the cat", "a dog.", "the dog"]
    assert found.pictures == {"1.jpg": "1.jpg", "2.jpg": "2.jpg"}
    assert found.meaning["labels"] == [1, 0]
    assert found.meaning["prompts"] == [[0, 1], [2, 3]]


def test_labels_may_be_numbers_or_stand_for_names_which_two_classes_may_share(tmp_path):
    names = {"n1": "crane", "n2": "dog", "n3": "crane"}
    found = labelled_pictures(written(tmp_path, CLASSES | {"classes": names, "images": {"1.jpg": "n3"}}), tmp_path)
    assert found.meaning["labels"] == [2]
    assert found.meaning["prompts"] == [[0, 1], [2, 3], [0, 1]]
    numbers = CLASSES | {"classes": list(names.values()), "images": {"1.jpg": 2, "2.jpg": "dog"}}
    assert labelled_pictures(written(tmp_path, numbers), tmp_path).meaning["labels"] == [2, 1]


def test_labels_may_be_folders(tmp_path):
    for name in ("cat/2.jpg", "cat/deep/1.PNG", "dog/9.webp", "dog/notes.txt", "owl/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    content = {key: CLASSES[key] for key in ("classes", "templates")}
    found = labelled_pictures(written(tmp_path, content), tmp_path)
    assert list(found.pictures) == ["cat/2.jpg", "cat/deep/1.PNG", "dog/9.webp"]
    assert found.meaning["labels"] == [0, 0, 1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"classes": ["cat"]}, "classes: found"),
        ({"classes": ["cat", 3]}, "classes: found"),
        ({"classes": "cats"}, "classes: found"),
        ({"templates": []}, "templates: found"),
        ({"templates": ["a photo"]}, "the template 'a photo' has no {}"),
        ({"images": {}}, "images: found"),
        ({"images": {"1.jpg": "owl"}}, "'1.jpg' has the label 'owl', which `classes` lacks"),
        ({"images": {"1.jpg": 2}}, "'1.jpg' has the label 2, which `classes` lacks"),
        ({"images": {"1.jpg": None}}, "images: found"),
    ],
)
def test_other_classes_are_refused(tmp_path, change, problem):
    with pytest.raises(UserError, match=problem):
        labelled_pictures(written(tmp_path, CLASSES | change), tmp_path)


def test_labels_that_lead_out_of_the_folder_and_folders_without_pictures_are_refused(tmp_path):
    content = {"classes": {"../cat": "cat", "dog": "dog"}, "templates": ["{}"]}
    with pytest.raises(UserError, match="is no name of a folder"):
        labelled_pictures(written(tmp_path, content), tmp_path)
    with pytest.raises(UserError, match="has no pictures in folders named after the labels"):
        labelled_pictures(written(tmp_path, content | {"classes": ["cat", "dog"]}), tmp_path)


def test_captions_of_another_data_set_keep_their_ids(tmp_path):
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / name).touch()
    table = written(tmp_path, "image,caption\nb.jpg,Two.\na.jpg,One.\na.jpg,Uno.\n", "captions.csv")
    found = captioned_pictures(table, tmp_path)
    assert found.texts == found.meaning["captions"] == ["One.", "Uno.", "Two."]
    assert found.meaning["image_ids"] == ["a.jpg", "a.jpg", "b.jpg"]
    assert list(found.pictures) == found.meaning["unique_image_ids"] == ["a.jpg", "b.jpg"]
    assert len(set(found.meaning["caption_ids"])) == 3
