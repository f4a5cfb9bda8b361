"""A data set is a folder, or the files of its parts."""

import pytest

from frozenalign.configuration.runs import checked_run
from frozenalign.system.errors import UserError


def checked(**data_set):
    return checked_run({"dataset": "mine", "datasets": {"mine": data_set}}, "here")["datasets"]["mine"]


def test_a_data_set_of_named_files_has_its_default_form_in_the_results():
    assert checked(images="a.npy", texts="b.npy")["dir"] == "results/mine/embeddings"
    assert checked(dir="data//mine/")["dir"] == "data/mine"


@pytest.mark.parametrize(
    ("data_set", "said"),
    [
        ({}, "here: datasets.mine: the key 'dir' is missing: give a folder, or files as `images` and `texts`"),
        ({"dir": "data", "images": "a.npy"}, "here: datasets.mine: give `dir` or `images`, not both"),
        ({"images": "a", "generate": {"images": 10}}, "here: datasets.mine: give `generate` or `images`, not both"),
        ({"dir": "data", "texts": "a.npy"}, "`texts` is given without `images`"),
        ({"dir": "data", "metadata": "a.csv"}, "`metadata` is given without `images`"),
        ({"images": "a{b}.npy"}, "datasets.mine.images: found"),
    ],
)
def test_other_combinations_are_refused(data_set, said):
    with pytest.raises(UserError) as caught:
        checked(**data_set)
    assert said in str(caught.value)
