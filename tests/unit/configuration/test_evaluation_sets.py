"""The keys of `evaluation_sets`: which go together, and what is refused before the first job."""

from typing import Any

import pytest

from frozenalign.configuration.runs import checked_run
from frozenalign.system.errors import UserError

ENCODED = {"images": "p", "captions": "c.json", "image_encoder": "a", "text_encoder": "b"}


def checked(sets: dict[str, Any], encode: dict[str, Any] | None = None) -> dict[str, Any]:
    data = {"mine": {"dir": "data/mine", **({"encode": encode} if encode else {})}}
    return checked_run({"dataset": "mine", "datasets": data, "evaluation_sets": sets}, "c")["evaluation_sets"]


def test_paths_are_written_as_snakemake_finds_them_and_names_of_sources_are_kept():
    found = checked(
        {
            "eccv": {"kind": "retrieval", "positives": "eccv_caption"},
            "own": {"kind": "retrieval", "dir": "data//flickr/", "positives": "./lists//p.json"},
            "off": None,
        }
    )
    assert found == {
        "eccv": {"kind": "retrieval", "positives": "eccv_caption"},
        "own": {"kind": "retrieval", "dir": "data/flickr", "positives": "lists/p.json"},
    }


def test_pictures_are_encoded_by_the_encoders_of_the_data_set():
    each = {"kind": "hard_negatives", "pictures": "p/", "file": "s.json"}
    assert checked({"crepe": each}, ENCODED) == {"crepe": each | {"pictures": "p"}}
    with pytest.raises(UserError, match="and mine has no `encode`: encode them as that data set was"):
        checked({"crepe": each})


@pytest.mark.parametrize(
    ("each", "problem"),
    [
        (
            {"kind": "captioning", "dir": "d"},
            "evaluation_sets.a.kind: found 'captioning'; allowed: hard_negatives, ret",
        ),
        ({"dir": "d"}, "evaluation_sets.a: the key 'kind' is missing"),
        ({"kind": "retrieval"}, "give a folder of embeddings as `dir`, or `pictures` and `file` to encode, or `pos"),
        ({"kind": "hard_negatives"}, "give a folder of embeddings as `dir`, or `pictures` and `file` to encode$"),
        ({"kind": "hard_negatives", "positives": "p", "dir": "d"}, "`positives` is for the kind retrieval"),
        ({"kind": "retrieval", "dir": "d", "file": "f"}, "give `dir`, or `pictures` and `file`, not both"),
        ({"kind": "retrieval", "pictures": "p"}, "`pictures` and `file` go together"),
        ({"kind": "retrieval", "dir": "d", "folder": "x"}, "unknown key 'folder'"),
        ({"kind": "retrieval", "dir": "d{x}"}, "a path without `{`, `}`, `<`, `>`"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(each, problem):
    with pytest.raises(UserError, match=problem):
        checked({"a": each}, ENCODED)


def test_an_experiment_cannot_take_the_name_of_the_folder_of_sets():
    with pytest.raises(UserError, match="evaluation_sets"):
        checked_run({"dataset": "d", "datasets": {"d": {"dir": "d"}}, "experiments": ["evaluation_sets"]}, "c")
