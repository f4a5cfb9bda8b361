"""Karpathy's JSON: the ids of COCO, the rest of validation as training, sentences in the order of their ids."""

import pytest

from frozenalign.data.captions.registry import read_captions
from tests.unit.data.captions.writing import refusal, write


def image(number: int, split: str, sentences: list[tuple[int, str]], **more) -> dict:
    return {
        "filename": f"{number}.jpg",
        "imgid": number,
        "split": split,
        "sentids": [sentence_id for sentence_id, _ in sentences],
        "sentences": [{"raw": raw, "tokens": raw.split(), "imgid": number, "sentid": i} for i, raw in sentences],
        **more,
    }


def of_coco(number: int, split: str, sentences: list[tuple[int, str]], cocoid: int) -> dict:
    year = "val2014" if split == "restval" else "train2014"
    return image(number, split, sentences, cocoid=cocoid, filepath=year, filename=f"COCO_{year}_{cocoid:012}.jpg")


def test_images_of_coco_have_their_cocoid_and_a_path(tmp_path):
    images = [of_coco(0, "restval", [(11, "b"), (9, "a")], 522), of_coco(1, "test", [(3, "c")], 61)]
    found = read_captions([write(tmp_path / "dataset_coco.json", {"dataset": "coco", "images": images})])
    assert found.image_ids == ["61", "522", "522"]
    assert found.caption_ids == ["3", "9", "11"]
    assert found.captions == ["c", "a", "b"]
    assert found.image_files == {
        "61": "train2014/COCO_train2014_000000000061.jpg",
        "522": "val2014/COCO_val2014_000000000522.jpg",
    }


def test_images_of_flickr_have_their_imgid_and_a_file(tmp_path):
    images = [image(10, "train", [(50, "x")]), image(9, "val", [(45, "y")]), image(8, "test", [])]
    found = read_captions([write(tmp_path / "dataset_flickr30k.json", {"images": images})])
    assert found.image_ids == ["9", "10"]
    assert found.image_files == {"9": "9.jpg", "10": "10.jpg"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cocoid": None}, "images[1]: the cocoid is None"),
        ({"sentences": None}, "images[1]: `sentences` must list objects with `raw` and `sentid`"),
        ({"sentences": [{"raw": "a"}]}, "images[1]: `sentences` must list objects with `raw` and `sentid`"),
        ({"sentences": [{"raw": "", "sentid": 4}]}, "images[1].sentences[0] (sentid 4): the caption is empty"),
        ({"sentences": [{"raw": "x", "sentid": 11}]}, "the caption id '11' stands twice"),
        ({"filename": "../a.jpg"}, "images[1]: the file 'train2014/../a.jpg' leads out of the folder of pictures"),
        ({"filename": 7}, "images[1]: the file of the picture is 7"),
        ({"cocoid": 522}, "images[1]: the image id '522' is that of 'train2014/COCO_train2014_000000000061.jpg'"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, change, said):
    images = [of_coco(0, "restval", [(11, "b")], 522), {**of_coco(1, "test", [(3, "c")], 61), **change}]
    assert said in refusal(write(tmp_path / "k.json", {"images": images}))


def test_an_image_without_a_key_is_named(tmp_path):
    images = [of_coco(0, "restval", [(11, "b")], 522), {"cocoid": 3, "split": "val"}]
    assert "images[1] needs the keys filename, sentences" in refusal(write(tmp_path / "k.json", {"images": images}))
    assert "list `images` of objects" in refusal(write(tmp_path / "k.json", {"images": [images[0], 7]}))
