"""The shards of all jobs become the files of a set: complete, in order, and never in place of somebody's own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.captions.registry import read_captions
from frozenalign.data.embeddings import EmbeddingFiles, check_set
from frozenalign.data.encoding import read_encoding
from frozenalign.data.made_files import ROW_FILES
from frozenalign.encoders import writing
from frozenalign.encoders.merging import gathered
from frozenalign.encoders.pictures import DROP
from frozenalign.encoders.places import ENCODED
from frozenalign.encoders.writing import write_set
from frozenalign.system.errors import UserError
from tests.unit.encoders.noting import CAPTIONS, PICTURES, Killed, row_of, write_captions
from tests.unit.encoders.test_job import encode_pictures, encode_texts


@pytest.fixture
def encoded(photographs, encoder, tmp_path) -> Path:
    """The folder of all shards."""
    folder = tmp_path / "encode"
    encode_pictures(photographs, folder / "images")
    encode_texts(photographs, folder / "texts")
    return folder


def merge(photographs, encoded: Path, folder: Path, jobs: int = 1) -> dict:
    captioned = read_captions([photographs.captions])
    images, texts = (
        gathered([encoded / kind / f"{number}-of-{jobs}.json" for number in range(1, jobs + 1)], count)
        for kind, count in (("images", len(captioned.image_files)), ("texts", len(captioned.captions)))
    )
    return write_set(folder, photographs.pictures, captioned, images, texts)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ROW_FILES}


def test_the_set_keeps_the_contract_with_one_row_an_image(photographs, encoded, tmp_path):
    record = merge(photographs, encoded, tmp_path / "set")
    checked = check_set(EmbeddingFiles.of(tmp_path / "set", "train2017"))
    assert (checked.images.rows, checked.texts.rows) == (PICTURES, PICTURES * CAPTIONS)
    assert checked.index.pair_image.tolist() == np.repeat(np.arange(PICTURES), CAPTIONS).tolist()
    assert read_encoding(tmp_path / "set", checked.hashes)["images"]["encoder"] == "noting"
    assert record["files"] == checked.hashes
    captions = read_captions([photographs.captions]).captions
    texts = torch.load(tmp_path / "set" / ROW_FILES[1], weights_only=True)
    assert torch.equal(texts, torch.stack([row_of(text) for text in captions]))


def test_the_metadata_list_ids_captions_and_files(photographs, encoded, tmp_path):
    merge(photographs, encoded, tmp_path / "set")
    metadata = json.loads((tmp_path / "set" / ROW_FILES[2]).read_text())
    assert list(metadata) == ["image_ids", "unique_image_ids", "captions", "caption_ids", "image_files"]
    assert metadata["caption_ids"] == [str(number) for number in range(PICTURES * CAPTIONS)]
    assert metadata["image_files"]["7"] == "007.png"


def test_files_of_pictures_inside_the_folder_of_the_set_start_there(photographs, encoded):
    merge(photographs, encoded, photographs.folder)
    metadata = json.loads((photographs.folder / ROW_FILES[2]).read_text())
    assert metadata["image_files"]["7"] == "images/007.png"


@pytest.mark.parametrize("jobs", [2, 3, 9])
def test_any_number_of_jobs_gives_the_same_files(photographs, encoded, tmp_path, jobs):
    merge(photographs, encoded, tmp_path / "one")
    for number in range(1, jobs + 1):
        encode_pictures(photographs, tmp_path / "divided/images", number, jobs)
        encode_texts(photographs, tmp_path / "divided/texts", number, jobs)
    merge(photographs, tmp_path / "divided", tmp_path / "several", jobs)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


def test_pairs_of_a_picture_that_cannot_be_read_are_left_out_and_counted(photographs, encoder, tmp_path):
    photographs.picture(20).write_bytes(b"no picture")
    encode_pictures(photographs, tmp_path / "e/images", on_error=DROP)
    encode_texts(photographs, tmp_path / "e/texts")
    record = merge(photographs, tmp_path / "e", tmp_path / "set")
    assert (record["images"]["refused"], record["dropped_pairs"]) == (1, CAPTIONS)
    assert record["refused_pictures"].keys() == {"20"}
    checked = check_set(EmbeddingFiles.of(tmp_path / "set", "train2017"))
    assert "20" not in checked.index.image_ids
    assert len(checked.index.pair_image) == (PICTURES - 1) * CAPTIONS
    assert checked.metadata.captions == [
        caption for i, caption in enumerate(read_captions([photographs.captions]).captions) if i // CAPTIONS != 20
    ]


def test_texts_longer_than_the_limit_are_counted(photographs, encoder, tmp_path):
    photographs.encoder.write_text(photographs.encoder.read_text() + "max_length: 5\n")
    encode_pictures(photographs, tmp_path / "e/images")
    encode_texts(photographs, tmp_path / "e/texts")
    lengths = encoder.lengths(read_captions([photographs.captions]).captions)
    record = merge(photographs, tmp_path / "e", tmp_path / "set")
    assert record["texts"]["truncated"] == sum(length > 5 for length in lengths) > 0


def test_rows_written_in_parts_equal_what_torch_saves(photographs, encoded, tmp_path):
    merge(photographs, encoded, tmp_path / "set")
    path = tmp_path / "set" / ROW_FILES[0]
    rows = torch.load(path, weights_only=True)
    assert torch.equal(torch.load(path, weights_only=True, mmap=True), rows)
    assert path.stat().st_size < rows.nbytes + 2000


def test_a_user_s_own_embeddings_are_refused_and_kept(photographs, encoded, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ROW_FILES[1]).write_bytes(b"mine")
    with pytest.raises(UserError, match=rf"set holds {ROW_FILES[1]}, which merge_encodings has not written and would"):
        merge(photographs, encoded, tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == [ROW_FILES[1]]
    assert (tmp_path / "set" / ROW_FILES[1]).read_bytes() == b"mine"


@pytest.mark.parametrize("moment", range(4))
def test_a_merge_killed_at_any_moment_leaves_only_files_that_it_knows_as_its_own(
    photographs, encoded, tmp_path, monkeypatch, moment
):
    merge(photographs, encoded, tmp_path / "set")
    write_captions(photographs, {50: "another text"})
    encode_texts(photographs, encoded / "texts")
    left = [moment]
    replace = Path.replace

    def until_killed(self: Path, target: Path) -> Path:
        if target.name in (*ROW_FILES, writing.ENCODING):
            if not left[0]:
                raise Killed
            left[0] -= 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until_killed)
        with pytest.raises(Killed):
            merge(photographs, encoded, tmp_path / "set")
    assert ENCODED.foreign_files(tmp_path / "set") == []
    merge(photographs, encoded, tmp_path / "set")
    assert json.loads((tmp_path / "set" / ROW_FILES[2]).read_text())["captions"][50] == "another text"


def test_a_merge_with_a_shard_missing_or_changed_is_refused(photographs, encoded, tmp_path):
    shutil.copytree(encoded, tmp_path / "copy")
    path = tmp_path / "copy/texts/00002.pt"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(UserError, match=r"00002\.pt is not the shard that was encoded: run the encoding again"):
        merge(photographs, tmp_path / "copy", tmp_path / "set")
    path.unlink()
    with pytest.raises(UserError, match=r"00002\.pt is not the shard that was encoded"):
        merge(photographs, tmp_path / "copy", tmp_path / "set")
    assert not list((tmp_path / "set").glob("*2017*"))


def test_jobs_that_leave_shards_out_or_differ_are_refused(photographs, encoded, tmp_path):
    encode_pictures(photographs, encoded / "images", 1, 2)
    captioned = read_captions([photographs.captions])
    with pytest.raises(UserError, match="the jobs list 2 of 4 shards: run the encoding again"):
        gathered([encoded / "images/1-of-2.json"], PICTURES)
    with pytest.raises(UserError, match=r"1-of-1\.json is of another encoding than the captions"):
        gathered([encoded / "texts/1-of-1.json"], len(captioned.captions) - 1)
    photographs.encoder.write_text(photographs.encoder.read_text() + "revision: new\n")
    encode_pictures(photographs, encoded / "images", 2, 2)
    with pytest.raises(UserError, match=r"2-of-2\.json is of another encoding"):
        gathered([encoded / f"images/{number}-of-2.json" for number in (1, 2)], PICTURES)


def test_no_readable_picture_is_no_set(photographs, encoder, tmp_path):
    for number in range(PICTURES):
        photographs.picture(number).unlink()
    encode_pictures(photographs, tmp_path / "e/images", on_error=DROP)
    encode_texts(photographs, tmp_path / "e/texts")
    with pytest.raises(UserError, match=f"none of the {PICTURES} pictures in .* can be read"):
        merge(photographs, tmp_path / "e", tmp_path / "set")


@pytest.mark.parametrize("content", ["{}", "[", '{"format": 1}', '{"format": 7}', "null"])
def test_a_record_that_is_none_is_left_out_with_a_warning(photographs, encoded, tmp_path, caplog, content):
    record = merge(photographs, encoded, tmp_path / "set")
    (tmp_path / "set/encoding.json").write_text(content)
    assert read_encoding(tmp_path / "set", record["files"]) is None
    assert "what encoded the data is unknown" in caplog.text


def test_a_record_of_other_embeddings_is_left_out_with_a_warning(photographs, encoded, tmp_path, caplog):
    record = merge(photographs, encoded, tmp_path / "set")
    assert read_encoding(tmp_path / "set", record["files"] | {ROW_FILES[0]: "other"}) is None
    assert "is of other files than those beside it" in caplog.text
    assert read_encoding(tmp_path, record["files"]) is None
