"""The photographs that packages ship are found, and are copied with captions beside them."""

import csv
import importlib.util
from collections import Counter

import pytest

from frozenalign.demo.photographs import CAPTIONS, photographs
from frozenalign.system.errors import UserError
from workflow.scripts import demo_photos


def listed() -> list[dict[str, str]]:
    with CAPTIONS.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_photograph_has_five_captions_of_its_own():
    rows = listed()
    counts = Counter(row["image"] for row in rows)
    assert len(counts) == 21 and set(counts.values()) == {5}
    assert len({row["caption"] for row in rows}) == len(rows)


def test_a_photograph_that_no_package_has_is_named():
    with pytest.raises(UserError, match=r"no installed package has the photograph unicorn\.jpg"):
        photographs(["china.jpg", "unicorn.jpg"])


def test_photographs_are_copied_and_no_other_file_is_replaced(tmp_path):
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image, which ships photographs, is not installed")
    demo_photos.main(["--output-dir", str(tmp_path)])
    demo_photos.main(["--output-dir", str(tmp_path)])
    assert {path.name for path in (tmp_path / "images").iterdir()} == {row["image"] for row in listed()}
    assert (tmp_path / "captions.csv").read_bytes() == CAPTIONS.read_bytes()
    (tmp_path / "captions.csv").write_text("image,caption\n")
    with pytest.raises(UserError, match=r"captions\.csv is another file"):
        demo_photos.main(["--output-dir", str(tmp_path)])
