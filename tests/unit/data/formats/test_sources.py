"""Which files a configuration names: shards in natural order, complete, and of one form."""

import pytest

from frozenalign.data.formats.sources import find_source
from frozenalign.system.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(given, part="images") -> list[str]:
    return [path.name for path in find_source(str(given), part).files]


def refusal(given, part="images") -> str:
    with pytest.raises(UserError) as caught:
        find_source(str(given), part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_a_source_and_the_name_of_an_array_follows_two_colons(tmp_path):
    touch(tmp_path, "rows.npz")
    source = find_source(f"{tmp_path}/rows.npz::b32_img", "images")
    assert source.files == (tmp_path / "rows.npz",)
    assert source.name == "b32_img"
    assert find_source(f"{tmp_path}/rows.npz", "images").name is None


@pytest.mark.parametrize("pattern", ["img_emb_*.npy", ""])
def test_ten_comes_after_nine(tmp_path, pattern):
    touch(tmp_path, *(f"img_emb_{number}.npy" for number in range(12)))
    assert names(tmp_path / pattern) == [f"img_emb_{number}.npy" for number in range(12)]


def test_numbers_start_at_zero_or_one(tmp_path):
    touch(tmp_path, "1.npy", "2.npy", "3.npy")
    assert names(tmp_path) == ["1.npy", "2.npy", "3.npy"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([0, 1, 3], "number 2 is missing"),
        ([2, 3], "number 1 is missing"),
        (["1", "01", "2"], "number 1 stands twice"),
    ],
)
def test_a_gap_is_refused_with_its_number(tmp_path, there, said):
    touch(tmp_path, *(f"part_{number}.npy" for number in there))
    assert said in refusal(tmp_path)


def test_names_that_differ_in_more_than_a_number_are_in_the_order_of_their_text(tmp_path):
    touch(tmp_path, "00a7.npz", "00b10.npz", "00b9.npz")
    assert names(tmp_path) == ["00a7.npz", "00b10.npz", "00b9.npz"]


@pytest.mark.parametrize("given", ["", "rows-00000-of-00012.npy", "rows-00003-of-00012.npy"])
def test_all_shards_of_a_set_are_taken(tmp_path, given):
    touch(tmp_path, *(f"rows-{number:05d}-of-00012.npy" for number in reversed(range(12))))
    assert names(tmp_path / given) == [f"rows-{number:05d}-of-00012.npy" for number in range(12)]


@pytest.mark.parametrize("given", ["", "rows-00000-of-00003.npy"])
def test_a_missing_shard_is_named(tmp_path, given):
    touch(tmp_path, "rows-00000-of-00003.npy", "rows-00002-of-00003.npy")
    assert "1 are missing (first: number 1)" in refusal(tmp_path / given)


def test_the_last_shards_count_as_well(tmp_path):
    touch(tmp_path, "rows-00000-of-00003.npy")
    assert "2 are missing (first: number 1)" in refusal(tmp_path)


def test_shards_of_two_sets_in_a_folder_are_refused(tmp_path):
    touch(tmp_path, "a-00000-of-00001.npy", "b-00000-of-00001.npy")
    assert "shards of several sets" in refusal(tmp_path)


def test_a_folder_of_clip_retrieval_has_a_folder_for_each_part(tmp_path):
    touch(tmp_path, "img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy", "metadata/metadata_0.parquet")
    for part, name in (("images", "img_emb_0.npy"), ("texts", "text_emb_0.npy"), ("metadata", "metadata_0.parquet")):
        assert names(tmp_path, part) == [name]


def test_tables_beside_arrays_are_their_metadata(tmp_path):
    touch(tmp_path, "1a.npz", "1a.parquet", "1a_stats.json")
    assert names(tmp_path) == ["1a.npz"]
    assert names(tmp_path, "metadata") == ["1a.parquet"]


@pytest.mark.parametrize(
    ("there", "said"), [(["a.npy", "a.pt"], "several forms (.npy, .pt)"), ([], "no file of a known")]
)
def test_a_folder_of_several_forms_or_none_is_refused(tmp_path, there, said):
    touch(tmp_path, "README.md", *there)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "part", "said"),
    [
        ("rows.pkl", "images", "is of no form that is read as images: allowed are .arrow, "),
        ("rows.npy", "metadata", "is of no form that is read as metadata: allowed are .arrow, .csv, "),
        ("gone.npy", "texts", "not found: check `texts` of the data set"),
        ("gone*.npy", "texts", "no file has such a name: check `texts` of the data set"),
    ],
)
def test_what_is_no_source_is_named(tmp_path, name, part, said):
    touch(tmp_path, "rows.pkl", "rows.npy")
    assert said in refusal(tmp_path / name, part)
