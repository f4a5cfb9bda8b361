"""COCO's JSON: every caption of every image, and one sentence for what is wrong with it."""

import json

import pytest

from frozenalign.data.captions.registry import read_captions
from tests.unit.data.captions.writing import coco, refusal, write

CAPTIONS = {30: [(9, "c"), (5, "d")], 4: [(10, "b"), (2, "a")], 200: [(1, "e")]}


def test_pairs_are_in_the_order_of_image_id_then_annotation_id_by_value(tmp_path):
    found = read_captions([write(tmp_path / "captions.json", coco(CAPTIONS))])
    assert found.image_ids == ["4", "4", "30", "30", "200"]
    assert found.caption_ids == ["2", "10", "5", "9", "1"]
    assert found.captions == ["a", "b", "d", "c", "e"]
    assert list(found.image_files.items()) == [
        ("4", "000000000004.jpg"),
        ("30", "000000000030.jpg"),
        ("200", "000000000200.jpg"),
    ]


def test_train_and_val_together_are_one_set(tmp_path):
    train = write(tmp_path / "captions_train2017.json", coco(CAPTIONS))
    val = write(tmp_path / "captions_val2017.json", coco({5: [(7, "v")], 199: [(3, "w")]}))
    found = read_captions([train, val])
    assert found.image_ids == ["4", "4", "5", "30", "30", "199", "200"]
    assert found == read_captions([val, train])


def test_captions_are_kept_as_they_are_written(tmp_path):
    said = [" A man.\n", "Ein Hund läuft", "a\u2028b", "日本語", 'say "so"', "a" * 20_000]
    path = write(tmp_path / "a.json", coco({1: list(enumerate(said))}))
    assert read_captions([path]).captions == said


def test_five_to_seven_captions_or_one_are_all_taken(tmp_path):
    captions = {image: [(10 * image + i, "x") for i in range(count)] for image, count in ((1, 7), (2, 1), (3, 5))}
    found = read_captions([write(tmp_path / "a.json", coco(captions))])
    assert found.image_ids == ["1"] * 7 + ["2"] + ["3"] * 5


def test_images_without_captions_are_left_out_and_counted(tmp_path, caplog):
    path = write(tmp_path / "a.json", coco({**CAPTIONS, 8: [], 9: []}))
    found = read_captions([path])
    assert set(found.image_files) == {"4", "30", "200"}
    assert "2 of 5 pictures have no caption and are left out" in caplog.text


def test_two_images_may_share_a_file_and_a_caption(tmp_path):
    found = read_captions([write(tmp_path / "a.json", coco({1: [(1, "x")], 2: [(2, "x")]}, "same.jpg"))])
    assert found.image_files == {"1": "same.jpg", "2": "same.jpg"}


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\n\n  "])
def test_a_byte_order_mark_or_blank_lines_before_it_do_not_matter(tmp_path, start):
    assert read_captions([write(tmp_path / "a.json", start + json.dumps(coco(CAPTIONS)).encode())]).captions[0] == "a"


def changed(change) -> dict:
    content = json.loads(json.dumps(coco(CAPTIONS)))
    change(content["images"], content["annotations"])
    return content


REFUSED = {
    "annotation id twice": (
        lambda images, texts: texts[3].update(id=9),
        "the caption id '9' stands twice, in {0}: annotations[0] (id 9) and in {0}: annotations[3] (id 9)",
    ),
    "unknown image": (
        lambda images, texts: texts[2].update(image_id=77),
        "{0}: annotations[2] (id 10) is of image '77', which the file does not list (1 of 5 captions",
    ),
    "image id twice": (
        lambda images, texts: images.append({"id": 30, "file_name": "a.jpg"}),
        "{0}: images[3]: the image id '30' is that of 'a.jpg', and of '000000000030.jpg' elsewhere",
    ),
    "empty caption": (
        lambda images, texts: texts[1].update(caption=" \n"),
        "{0}: annotations[1] (id 5): the caption is",
    ),
    "no caption": (
        lambda images, texts: texts[1].update(caption=None),
        "{0}: annotations[1] (id 5): the caption is",
    ),
    "number": (
        lambda images, texts: texts[1].update(caption=7),
        "{0}: annotations[1] (id 5): the caption is 7, not",
    ),
    "list": (
        lambda images, texts: texts[1].update(caption=["a"]),
        "{0}: annotations[1] (id 5): the caption is ['a']",
    ),
    "NaN": (lambda images, texts: texts[1].update(caption=float("nan")), "annotations[1].caption: NaN is not a"),
    "half a character": (
        lambda images, texts: texts[1].update(caption="a\ud800"),
        "(id 5): the caption holds half",
    ),
    "huge caption": (
        lambda images, texts: texts[1].update(caption="a" * 100_001),
        "(id 5): the caption has 100001",
    ),
    "huge id": (
        lambda images, texts: texts[1].update(id="9" * 256),
        "the caption id has 256 characters",
    ),
    "no id": (
        lambda images, texts: texts[1].update(id=None),
        "[1] (id None): the caption id is None: write",
    ),
    "id of a float": (lambda images, texts: texts[1].update(id=5.0), "[1] (id 5.0): the caption id is 5.0:"),
    "id that is true": (lambda images, texts: images[1].update(id=True), "images[1]: the image id is True"),
    "id in a list": (lambda images, texts: images[1].update(id=[4]), "{0}: images[1]: the image id is [4]: write"),
    "half an id": (lambda images, texts: images[1].update(id="\udfff"), "{0}: images[1]: the image id is '\\udfff'"),
    "no file": (lambda images, texts: images[1].update(file_name=None), "the file of the picture is None"),
    "up": (
        lambda images, texts: images[1].update(file_name="a/../../b.jpg"),
        "'a/../../b.jpg' leads out of",
    ),
    "up on Windows": (lambda images, texts: images[1].update(file_name="..\\b.jpg"), "leads out of the folder"),
    "absolute": (
        lambda images, texts: images[1].update(file_name="/etc/passwd"),
        "'/etc/passwd' leads out of",
    ),
    "drive": (lambda images, texts: images[1].update(file_name="C:\\a.jpg"), "leads out of the folder of pictures"),
    "NUL": (lambda images, texts: images[1].update(file_name="a\0.jpg"), "the file of the picture is 'a\\x00.jpg'"),
    "address": (
        lambda images, texts: images[1].update(file_name="http://x.org/a.jpg"),
        "names an address ('http",
    ),
    "no key": (
        lambda images, texts: texts[1].pop("caption"),
        "{0}: annotations[1] needs the keys image_id, id, caption",
    ),
    "no object": (lambda images, texts: texts.insert(1, 7), "{0}: annotations[1] needs the keys image_id, id, caption"),
    "no annotation": (lambda images, texts: texts.clear(), "{0} lists no caption: name another file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_named_with_its_place(tmp_path, name):
    change, said = REFUSED[name]
    path = write(tmp_path / "captions.json", changed(change))
    assert said.format(path) in refusal(path)


def test_files_of_instances_are_told_from_captions(tmp_path):
    path = write(tmp_path / "instances.json", changed(lambda images, texts: [text.pop("caption") for text in texts]))
    assert "name its captions_*.json" in refusal(path)


def test_a_list_of_images_is_needed(tmp_path):
    assert "needs a list `images`" in refusal(write(tmp_path / "a.json", {"annotations": []}))


def test_the_same_file_twice_and_ids_of_other_pictures_are_refused(tmp_path):
    first = write(tmp_path / "a.json", coco({1: [(1, "x")]}))
    assert f"stands twice, in {first}: annotations[0] (id 1) and in {first}" in refusal(first, first)
    second = write(tmp_path / "b.json", coco({1: [(2, "y")]}, "other.jpg"))
    said = refusal(first, second)
    assert said.startswith(f"{second}: images[0]: the image id '1' is that of 'other.jpg'")
    assert f"in {first}, {second}" in said


def test_further_captions_of_the_same_pictures_may_lie_in_another_file(tmp_path):
    files = [write(tmp_path / f"{i}.json", coco({1: [(i, f"text {i}")]})) for i in (3, 2)]
    assert read_captions(files).captions == ["text 2", "text 3"]
