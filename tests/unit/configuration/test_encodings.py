"""`encodings` of a run: the pairs that they make, and the run of each pair."""

from typing import Any

import pytest

from frozenalign.configuration.encodings import encodings_of, pairs_of, run_of
from frozenalign.configuration.runs import checked_run
from frozenalign.encoders.choice import checked_encoder
from frozenalign.system.errors import UserError
from tests.unit.configuration.test_encode_section import CONFIGURATIONS, ENCODE

FURTHER = {
    "images": {"coarse": {"encoder": "demo-pictures", "image_size": 32}},
    "texts": {"words_1": {"encoder": "demo-words", "revision": "1"}, "minilm-l6": {}},
}


def checked(encodings: dict[str, Any] = FURTHER, **data_set: Any) -> dict[str, Any]:
    section = {"dir": "data/mine", "encode": ENCODE} | data_set
    document = {"dataset": "mine", "datasets": {"mine": section}, "encodings": encodings}
    return checked_run(document, "config.yaml")


def test_every_pair_of_encodings_is_a_data_set_and_the_own_pair_is_the_set_itself():
    assert [pair.dataset for pair in pairs_of(checked())] == [
        "mine",
        "mine-demo-pictures-words_1",
        "mine-demo-pictures-minilm-l6",
        "mine-coarse-demo-words",
        "mine-coarse-words_1",
        "mine-coarse-minilm-l6",
    ]


def test_a_run_without_further_encodings_has_its_own_pair_alone_and_one_of_given_embeddings_none():
    assert [pair.dataset for pair in pairs_of(checked({}))] == ["mine"]
    assert pairs_of(checked({}, encode=None)) == []


def test_each_encoding_is_computed_by_one_pair():
    pairs = pairs_of(checked())
    for side in ("images", "texts"):
        computed = [getattr(pair, side).name for pair in pairs if pair.encodes()[side]]
        further = [encoding.name for encoding in encodings_of(checked(), side) if not encoding.own]
        assert sorted(computed) == sorted(further), "the set's own run computes its own"


def test_the_run_of_a_pair_differs_from_the_whole_in_its_data_set_alone():
    run = checked(split={"seed": 3})
    for pair in pairs_of(run)[1:]:
        own = checked_run(run_of(run, pair), "config.yaml")
        assert own["dataset"] == pair.dataset
        assert own["datasets"].keys() == {pair.dataset}
        section = own["datasets"][pair.dataset]
        assert section["split"] == run["datasets"]["mine"]["split"], "divided alike"
        encoders = {"image_encoder": pair.images.encoder, "text_encoder": pair.texts.encoder}
        assert section["encode"] == run["datasets"]["mine"]["encode"] | encoders
        assert pairs_of(own)[1:] == [], "a pair has no pairs of its own"
        assert own["evaluation_sets"] == {}, "their rows are of the set's own encoders"
        same = own.keys() - {"dataset", "datasets", "encodings", "evaluation_sets", "pair"}
        assert {key: own[key] for key in same} == {key: run[key] for key in same}


def test_pairs_of_generated_pictures_read_those_of_the_set():
    run = checked(generate={"images": 30}, encode={})
    own = checked_run(run_of(run, pairs_of(run)[-1]), "config.yaml")
    section = own["datasets"][own["dataset"]]
    assert section["encode"]["images"] == run["datasets"]["mine"]["encode"]["images"] == "data/mine/images"
    assert section["encode"]["captions"] == ["data/mine/captions.json"]


def test_an_encoding_is_the_file_of_its_encoder_with_some_keys_changed():
    (coarse,) = [encoding for encoding in encodings_of(checked(), "images") if not encoding.own]
    path, settings = checked_encoder(coarse.encoder, "image", CONFIGURATIONS, coarse.changes, coarse.name)
    assert (path.stem, settings.encoder, settings.image_size, settings.width) == ("demo-pictures", "coarse", 32, 256)


@pytest.mark.parametrize(
    ("encodings", "section", "said"),
    [
        (FURTHER, {"encode": None}, "the data set mine has embeddings of its own: give it an `encode` section"),
        ({"images": {"demo-pictures": {"image_size": 32}}}, {}, "'demo-pictures' is the encoder of datasets.mine.enc"),
        ({"texts": {"a" * 60: {"encoder": "demo-words"}}}, {}, "is a name of 79 characters, 64 are allowed"),
        ({"texts": {"a": {"layers": 3}}}, {}, "encodings.texts.a: unknown key 'layers'; did you mean layer?"),
        ({"texts": {"a": {"layer": -1}}}, {}, "encodings.texts.a.layer: found -1"),
        (
            {"images": {"a": {}, "a-b": {}}, "texts": {"c": {}, "b-c": {}}},
            {},
            "two data sets are named mine-a-b-c: rename an encoding",
        ),
    ],
)
def test_mistakes_are_one_sentence(encodings, section, said):
    with pytest.raises(UserError) as caught:
        checked(encodings, **section)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 0}, "demo-words.yaml, changed by the encoding mine: width: found 0"),
        ({"pooling": "max"}, "demo-words.yaml, changed by the encoding mine: pooling: found 'max'"),
    ],
)
def test_a_wrong_change_names_the_encoding(changes, said):
    with pytest.raises(UserError) as caught:
        checked_encoder("demo-words", "text", CONFIGURATIONS, changes, "mine")
    assert said in str(caught.value)
