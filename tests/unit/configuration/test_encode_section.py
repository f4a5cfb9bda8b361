"""The `encode` section of a data set: what it holds, and what `generate` makes of it."""

from pathlib import Path
from typing import Any

import pytest

from frozenalign.configuration.runs import checked_run
from frozenalign.encoders.choice import checked_encoder
from frozenalign.system.errors import UserError

ROOT = Path(__file__).parents[3]
CONFIGURATIONS = [ROOT / "config"]
ENCODE = {
    "images": "photos//images/",
    "captions": "photos/captions.json",
    "image_encoder": "demo-pictures",
    "text_encoder": "demo-words",
}


def encode_of(**data_set: Any) -> dict[str, Any] | None:
    run = checked_run({"dataset": "mine", "datasets": {"mine": {"dir": "data/mine"} | data_set}}, "config.yaml")
    return run["datasets"]["mine"].get("encode")


def test_paths_are_tidied_and_defaults_filled_in():
    assert encode_of(encode=ENCODE) == ENCODE | {
        "images": "photos/images",
        "captions": ["photos/captions.json"],
        "jobs": 1,
        "on_error": "stop",
    }
    assert encode_of(encode=ENCODE | {"captions": ["a//b.json", "c"]})["captions"] == ["a/b.json", "c"]


def test_a_run_of_an_older_configuration_that_generates_is_encoded_by_the_demo_s_encoders():
    assert encode_of(generate={"images": 30}) == {
        "images": "data/mine/images",
        "captions": ["data/mine/captions.json"],
        "image_encoder": "demo-pictures",
        "text_encoder": "demo-words",
        "jobs": 1,
        "on_error": "stop",
    }


def test_other_encoders_may_encode_what_is_generated():
    found = encode_of(generate={}, encode={"image_encoder": "mine", "jobs": 3})
    assert (found["image_encoder"], found["text_encoder"], found["jobs"]) == ("mine", "demo-words", 3)


def test_generate_null_cancels_the_encoding_of_what_would_be_generated_and_no_other():
    assert encode_of(generate=None, encode={"jobs": 2}) is None
    assert encode_of(generate=None) is None
    assert encode_of(generate=None, encode=ENCODE)["images"] == "photos/images"


def test_encode_null_cancels_the_setting_of_another_file():
    assert encode_of(encode=None) is None
    assert encode_of() is None


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        ({"images": "a"}, r"datasets\.mine\.encode: the key 'captions' is missing: add it"),
        (ENCODE | {"on_error": "skip"}, r"encode\.on_error: found 'skip' \(text\); allowed: stop, drop"),
        (ENCODE | {"jobs": 0}, r"encode\.jobs: found 0"),
        (ENCODE | {"image_encoders": "x"}, r"unknown key 'image_encoders'; did you mean image_encoder\?"),
        (ENCODE | {"captions": []}, r"encode\.captions: "),
        (ENCODE | {"columns": {"text": "x"}}, r"encode\.columns: unknown key 'text'"),
        ("photos", r"datasets\.mine\.encode: found 'photos'"),
    ],
)
def test_mistakes_are_named_with_their_key(encode, said):
    with pytest.raises(UserError, match=said):
        encode_of(encode=encode)


def test_pictures_are_either_drawn_or_given():
    with pytest.raises(UserError, match=r"datasets\.mine: `generate` draws the pictures that are encoded: leave"):
        encode_of(generate={}, encode=ENCODE)


@pytest.mark.parametrize("data_set", [{"generate": 3}, {"generate": {}, "encode": 3}, {"generate": {}, "dir": 3}])
def test_a_malformed_section_is_left_to_the_schema(data_set):
    with pytest.raises(UserError, match="found 3"):
        encode_of(**data_set)


def test_an_encoder_must_be_there_and_of_the_modality():
    assert checked_encoder("demo-words", "text", CONFIGURATIONS)[1].width == 256
    with pytest.raises(UserError, match=r"config/encoders/demo-words\.yaml is an encoder of texts: name one of images"):
        checked_encoder("demo-words", "image", CONFIGURATIONS)
    with pytest.raises(UserError, match=r"config/encoders/absent\.yaml not found: check the name"):
        checked_encoder("absent", "text", CONFIGURATIONS)


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "encoders").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_encoder_has_a_file_that_is_right(path):
    found = [modality for modality in ("image", "text") if checked_encoder_or_none(path.stem, modality)]
    assert found


def checked_encoder_or_none(name: str, modality: str) -> bool:
    try:
        checked_encoder(name, modality, CONFIGURATIONS)
    except UserError as error:
        assert "is an encoder of" in str(error)
        return False
    return True
