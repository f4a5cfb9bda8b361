"""The photographs that packages ship are cut into views, each with captions of its own split."""

import csv
import importlib.util
import json
from collections import Counter

import numpy as np
import pytest

from frozenalign.demo.photographs import photograph_path, photographs, views_of
from frozenalign.system.errors import UserError
from workflow.scripts import demo_photos

needs_the_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image, which ships photographs, is not installed"
)


def test_every_photograph_has_five_captions_of_its_own():
    found = photographs()
    captions = [caption for each in found.values() for caption in each]
    assert len(found) == 21 and {len(each) for each in found.values()} == {5}
    assert len(set(captions)) == len(captions)


def test_a_photograph_that_no_package_has_is_named():
    with pytest.raises(UserError, match=r"no installed package has the photograph unicorn\.jpg"):
        photograph_path("unicorn.jpg")


def test_no_caption_is_in_two_splits_and_views_are_parts_of_the_photograph():
    captions = photographs()["china.jpg"]
    views = list(views_of("china.jpg", captions, np.random.default_rng(0)))
    assert Counter(view.split for view in views) == {"train": 8, "val": 1, "test": 1}
    by_split = {
        split: {text for view in views if view.split == split for text in view.captions}
        for split in ("train", "val", "test")
    }
    assert sorted(text for texts in by_split.values() for text in texts) == sorted(captions)
    assert all(0.55 * 400 < view.picture.width < 0.95 * 400 for view in views)
    again = views_of("china.jpg", captions, np.random.default_rng(0))
    assert [view.picture.tobytes() for view in views] == [view.picture.tobytes() for view in again]


@needs_the_photographs
def test_views_captions_and_splits_are_written_and_no_other_file_is_replaced(tmp_path):
    demo_photos.main(["--output-dir", str(tmp_path)])
    demo_photos.main(["--output-dir", str(tmp_path)])
    pictures = {path.name for path in (tmp_path / "images").iterdir()}
    with (tmp_path / "captions.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(pictures) == 210 and pictures == {row["image"] for row in rows}
    assert json.loads((tmp_path / "assignments.json").read_text()).keys() == pictures
    (tmp_path / "captions.csv").write_text("image,caption\n")
    with pytest.raises(UserError, match=r"captions\.csv is another file"):
        demo_photos.main(["--output-dir", str(tmp_path)])
