"""Flickr's token files: captions by file and number."""

import pytest

from frozenalign.data.captions.registry import read_captions
from tests.unit.data.captions.writing import refusal, write


@pytest.mark.parametrize("name", ["Flickr8k.token.txt", "results_20130124.token", "captions.tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_numbers_count_by_value(tmp_path, name, end):
    rows = [f"998.jpg#{i}\tcaption {i} ." for i in (10, 9, 0)] + ['1000.jpg#0\tA "dog" ,\tand more']
    found = read_captions([write(tmp_path / name, end.join(rows) + end)])
    assert found.image_ids == ["1000.jpg", "998.jpg", "998.jpg", "998.jpg"]
    assert found.caption_ids == ["1000.jpg#0", "998.jpg#0", "998.jpg#9", "998.jpg#10"]
    assert found.captions == ['A "dog" ,\tand more', "caption 0 .", "caption 9 .", "caption 10 ."]
    assert found.image_files == {"1000.jpg": "1000.jpg", "998.jpg": "998.jpg"}


def test_a_name_may_have_hashes_and_further_endings(tmp_path):
    found = read_captions([write(tmp_path / "a.token", "2258277193_586949ec62.jpg.1#0\tx\na#1.jpg#0\ty\n")])
    assert set(found.image_files) == {"2258277193_586949ec62.jpg.1", "a#1.jpg"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("b.jpg A dog", "line 2 (b.jpg A dog) is not `file#n`, a tab and a caption"),
        ("b.jpg#0\t ", "line 2: the caption is empty"),
        ("a.jpg#0\tagain", "the caption id 'a.jpg#0' stands twice"),
        ("../b.jpg#0\tx", "line 2: the file '../b.jpg' leads out of the folder of pictures"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, line, said):
    assert said in refusal(write(tmp_path / "a.token", f"a.jpg#0\tfine\n{line}\n"))
