"""CSV, TSV and Flickr30k's table: columns by name, lines by number, quotation marks that swallow nothing."""

import csv
import io

import pandas
import pytest

from frozenalign.data.captions.registry import read_captions
from tests.unit.data.captions.writing import refusal, write

FLICKR = 'image_name| comment_number| comment\n1000.jpg| 0| Two men .\n1000.jpg| 1| A dog " runs .\n998.jpg| 0| x , y\n'


def test_flickr30ks_table_numbers_captions_within_their_image(tmp_path):
    found = read_captions([write(tmp_path / "results.csv", FLICKR)])
    assert found.image_ids == ["1000.jpg", "1000.jpg", "998.jpg"]
    assert found.caption_ids == ["1000.jpg#0", "1000.jpg#1", "998.jpg#0"]
    assert found.captions == ["Two men .", 'A dog " runs .', "x , y"]


def test_the_line_of_flickr30k_that_lacks_its_separators_is_named(tmp_path):
    path = write(tmp_path / "results.csv", f"{FLICKR}2199200615.jpg| 4   A dog runs .\n")
    assert (
        "line 5 (2199200615.jpg  4   A dog runs .) has 2 fields where the header has 3: correct that line"
        in refusal(path)
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.txt", ",")])
def test_a_header_names_the_columns_in_any_order_and_spelling(tmp_path, name, separator, mark, end):
    rows = [
        ["Caption", "split", "IMAGE", "image_id", "caption_id"],
        ["b", "x", "b.jpg", "10", "3"],
        ["a", "", "a.jpg", "9", "4"],
    ]
    found = read_captions([write(tmp_path / name, mark + end.join(separator.join(row) for row in rows) + end)])
    assert found.image_ids == ["9", "10"]
    assert (found.caption_ids, found.captions) == (["4", "3"], ["a", "b"])
    assert found.image_files == {"9": "a.jpg", "10": "b.jpg"}


def test_named_columns_come_before_known_ones(tmp_path):
    path = write(tmp_path / "a.csv", "image,caption,photo,words\nwrong,wrong,a.jpg,right\n")
    found = read_captions([path], {"image": "photo", "caption": "words"})
    assert (found.captions, found.image_files) == (["right"], {"a.jpg": "a.jpg"})


TEXTS = ["plain", "one, two", 'say "so"', '"all of it"', "two\nlines", "semi;colon", "ümlaut 日本", "'", "a|b"]


@pytest.mark.parametrize("separator", [",", ";"])
def test_what_pandas_and_the_csv_module_write_is_read_back(tmp_path, separator):
    frame = pandas.DataFrame({"image": [f"{i}.jpg" for i in range(len(TEXTS))], "caption": TEXTS})
    frame.to_csv(tmp_path / "pandas.csv", sep=separator, index=False)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator)
    writer.writerows([["image", "caption"], *zip(frame["image"], TEXTS, strict=True)])
    assert read_captions([tmp_path / "pandas.csv"]).captions == TEXTS
    assert read_captions([write(tmp_path / "module.csv", stream.getvalue())]).captions == TEXTS


def test_tsv_of_pandas_is_read_back_where_a_caption_has_one_line(tmp_path):
    texts = [text for text in TEXTS if "\n" not in text]
    frame = pandas.DataFrame({"image": [f"{i}.jpg" for i in range(len(texts))], "caption": texts})
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    assert read_captions([tmp_path / "a.tsv"]).captions == texts


def test_a_quotation_mark_in_tsv_swallows_no_line(tmp_path):
    path = write(tmp_path / "a.tsv", 'image\tcaption\na.jpg\t"What a day," she said\nb.jpg\t"\nc.jpg\tend"\n')
    assert read_captions([path]).captions == ['"What a day," she said', '"', 'end"']


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = write(tmp_path / "a.csv", 'image,caption\n\na.jpg,"two\nlines"\nb.jpg,\n')
    assert f"{path}: line 5: the caption is empty" in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "a.jpg,one, two",
            "line 3 (a.jpg one  two) has 3 fields where the header has 2: put captions",
        ),
        ("a.jpg", "line 3 (a.jpg) has 1 fields where the header has 2"),
        ('a.jpg,"one" two', "line 3 is no CSV (',' expected after '\"')"),
        ('a.jpg,"never closed\nb.jpg,x', "line 3 is no CSV (unexpected end of data)"),
        ("a.jpg,nan", "line 3: the caption is empty"),
        ("a.jpg,NaN", "line 3: the caption is empty"),
        ('a.jpg," "', "line 3: the caption is empty"),
        (",words", "line 3: the file of the picture is ''"),
        ("../a.jpg,words", "line 3: the file '../a.jpg' leads out of the folder of pictures"),
        ("https://x.org/a.jpg,words", "line 3 names an address"),
        ("a.jpg," + "x" * 140_000, "line 3 is no CSV (field larger than field limit"),
        ("a.jpg," + "x" * (2 << 20), "line 3 has more than 1048576 bytes"),
        ("a.jpg,caf\udce9", "line 3 is not UTF-8 text"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_mistake_is_named_with_its_line(tmp_path, content, said):
    path = write(tmp_path / "a.csv", f"image,caption\nz.jpg,fine\n{content}\n".encode(errors="surrogateescape"))
    assert said in refusal(path)


def test_one_image_id_with_two_files_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "image_id,image,caption\n1,a.jpg,x\n1,a.jpg,y\n1,b.jpg,z\n")
    assert f"{path}: line 4: the image id '1' is that of 'b.jpg', and of 'a.jpg' else" in refusal(path)


def test_a_number_that_an_image_has_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "image,caption,caption_id\na.jpg,x,0\nb.jpg,y,0\na.jpg,z,0\n")
    assert f"the caption id 'a.jpg#0' stands twice, in {path}: line 2 and in {path}: line 4" in refusal(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "has the columns 'photo', 'words', none of them image or image_name"),
        ({"image": "photo"}, "none of them caption or comment"),
        ({"image": "foto", "caption": "words"}, "none of them 'foto': name that of the image as `columns.image`"),
        ({"image": "photo", "caption": "words", "image_id": "id"}, "none of them 'id': name"),
        (
            {"image": "photo", "caption": "words", "picture": "id"},
            "`columns` has 'picture': it may name image, caption",
        ),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, columns, said):
    assert said in refusal(write(tmp_path / "a.csv", "photo,words\na.jpg,x\n"), columns=columns)


@pytest.mark.parametrize("header", ["", "caption\turl\n", "url\tcaption\n"])
def test_a_list_of_addresses_says_how_to_get_the_pictures(tmp_path, header):
    rows = "a very typical bus station\thttp://x.org/1.jpg\n" * 2
    path = write(tmp_path / "Train_GCC-training.tsv", header + rows)
    assert refusal(path) == (
        f"{path} lists addresses, not pictures on this disk: download the pictures, for example with img2dataset, and "
        "set `images` and `captions` to the folder of tars that it writes"
    )


def test_an_address_beside_a_picture_does_not_matter(tmp_path):
    path = write(tmp_path / "a.csv", "url,image,caption\nhttp://x.org/1.jpg,1.jpg,x\n")
    assert read_captions([path]).image_files == {"1.jpg": "1.jpg"}


@pytest.mark.parametrize("content", ["", "\n", "image,caption\n", "image,caption"])
def test_a_table_without_rows_is_refused(tmp_path, content):
    path = write(tmp_path / "a.csv", content)
    assert str(path) in refusal(path)


def test_columns_are_for_tables(tmp_path):
    path = write(tmp_path / "a.token", "a.jpg#0\tx\n")
    assert "has no columns to choose: leave `columns` out" in refusal(path, columns={"image": "photo"})
