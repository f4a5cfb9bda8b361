"""An encoding is done in shards: what is finished is kept, what is not is computed anew, and nothing else counts."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from frozenalign.data.captions.registry import read_captions
from frozenalign.encoders import job
from frozenalign.encoders import shards as shards_module
from frozenalign.encoders.job import Job, encode_share
from frozenalign.encoders.pictures import DROP, STOP, Pictures
from frozenalign.encoders.settings import load_encoder
from frozenalign.encoders.texts import Texts
from frozenalign.system.errors import UserError
from tests.unit.encoders.noting import CAPTIONS, PICTURES, SHARD, Killed, row_of, write_captions

CPU = torch.device("cpu")


def encode_pictures(photographs, folder: Path, number: int = 1, of: int = 1, on_error: str = STOP) -> str:
    captioned = read_captions([photographs.captions])
    source = Pictures.of(captioned, photographs.pictures, on_error)
    return encode_share(source, load_encoder(photographs.encoder), "image", CPU, Job(folder, number, of))


def encode_texts(photographs, folder: Path, number: int = 1, of: int = 1) -> str:
    source = Texts.of(read_captions([photographs.captions]))
    return encode_share(source, load_encoder(photographs.encoder), "text", CPU, Job(folder, number, of))


def rows_in(folder: Path) -> torch.Tensor:
    return torch.cat([torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))])


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.pt")}


def test_rows_stand_in_the_order_of_pictures_and_captions(photographs, encoder, tmp_path):
    encode_pictures(photographs, tmp_path / "images")
    expected = [row_of(Image.open(photographs.picture(number))) for number in range(PICTURES)]
    assert torch.equal(rows_in(tmp_path / "images"), torch.stack(expected))
    encode_texts(photographs, tmp_path / "texts")
    captions = read_captions([photographs.captions]).captions
    assert torch.equal(rows_in(tmp_path / "texts"), torch.stack([row_of(text) for text in captions]))


def test_an_encoder_is_checked_before_it_encodes_and_not_where_nothing_is_left(
    photographs, encoder, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(job, "self_check", lambda *_: asked.append(len(encoder.encoded)) or ["well"])
    encode_pictures(photographs, tmp_path)
    encode_pictures(photographs, tmp_path)
    assert asked == [0]


def test_an_encoder_that_fails_its_check_encodes_nothing(photographs, encoder, tmp_path, monkeypatch):
    def fails(*_: object) -> list[str]:
        raise UserError("other rows")

    monkeypatch.setattr(job, "self_check", fails)
    with pytest.raises(UserError, match="other rows"):
        encode_texts(photographs, tmp_path)
    assert encoder.encoded == []
    assert not list(tmp_path.glob("*.pt"))


def test_batches_of_texts_are_of_about_equal_length_and_lie_within_a_shard(photographs, encoder, tmp_path):
    encode_texts(photographs, tmp_path)
    batches, start = [], 0
    for size in encoder.batches:
        batches.append(encoder.lengths(encoder.encoded[start : start + size]))
        start += size
    assert sum(encoder.batches) == PICTURES * CAPTIONS
    needed = sum(map(sum, batches))
    assert sum(max(batch) * len(batch) for batch in batches) < 1.3 * needed
    assert encoder.batches[:4] == [5, 5, 5, 1]


def test_a_second_run_computes_nothing(photographs, encoder, tmp_path):
    encode_pictures(photographs, tmp_path)
    encoder.encoded.clear()
    assert encode_pictures(photographs, tmp_path) == f"{PICTURES} pictures, of which {PICTURES} were finished before"
    assert encoder.encoded == []


@pytest.mark.parametrize("encode", [encode_pictures, encode_texts])
@pytest.mark.parametrize("moment", [0, 2, 5, 9])
def test_an_encoding_killed_in_a_batch_goes_on_and_ends_alike(photographs, encoder, tmp_path, encode, moment):
    encode(photographs, tmp_path / "undisturbed")
    whole = len(encoder.encoded)
    encoder.batches.clear()
    encoder.encoded.clear()
    encoder.fail_after = moment
    with pytest.raises(Killed):
        encode(photographs, tmp_path / "killed")
    finished = len(list((tmp_path / "killed").glob("*.json")))
    encoder.fail_after = None
    encoder.encoded.clear()
    encode(photographs, tmp_path / "killed")
    assert len(encoder.encoded) == whole - finished * SHARD
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "undisturbed")


def test_rows_without_their_record_are_not_taken_for_finished(photographs, encoder, tmp_path, monkeypatch):
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shards_module, "write_json", killed)
        with pytest.raises(Killed):
            encode_pictures(photographs, tmp_path)
    assert (tmp_path / "00000.pt").exists()
    encoder.encoded.clear()
    encode_pictures(photographs, tmp_path)
    assert len(encoder.encoded) == PICTURES


def test_what_killed_writers_left_of_a_shard_is_deleted_with_it_and_of_others_kept(photographs, encoder, tmp_path):
    for name in (".unfinished-00001-aa.pt", ".unfinished-1-of-2-bb.json", ".unfinished-00002-cc.pt"):
        (tmp_path / name).write_bytes(b"half")
    encode_pictures(photographs, tmp_path, 2, 2)
    encode_pictures(photographs, tmp_path, 1, 2)
    assert list(tmp_path.glob(".unfinished*")) == []
    (tmp_path / ".unfinished-00001-aa.pt").write_bytes(b"half")
    encode_pictures(photographs, tmp_path, 1, 2)
    assert (tmp_path / ".unfinished-00001-aa.pt").exists(), "another job may be writing it"


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flipped, shortened, Path.unlink])
@pytest.mark.parametrize("name", ["00001.pt", "00001.json"])
def test_a_damaged_shard_alone_is_computed_anew(photographs, encoder, tmp_path, damage, name):
    encode_pictures(photographs, tmp_path)
    before = files_in(tmp_path)
    damage(tmp_path / name)
    encoder.encoded.clear()
    encode_pictures(photographs, tmp_path)
    assert len(encoder.encoded) == SHARD
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("change", ["prompt: Find\n", "dtype: float16\n", "revision: abc\n", "batch_size: 6\n"])
def test_other_settings_compute_everything_anew(photographs, encoder, tmp_path, change):
    encode_texts(photographs, tmp_path)
    encoder.encoded.clear()
    kept = [line for line in photographs.encoder.read_text().splitlines() if not line.startswith(change.split(":")[0])]
    photographs.encoder.write_text("\n".join([*kept, change]))
    encode_texts(photographs, tmp_path)
    assert len(encoder.encoded) == PICTURES * CAPTIONS


@pytest.mark.parametrize("change", ["description: mine\n", "memory: 9\n", "threads: 2\n"])
def test_settings_that_decide_no_row_compute_nothing(photographs, encoder, tmp_path, change):
    encode_texts(photographs, tmp_path)
    encoder.encoded.clear()
    photographs.encoder.write_text(photographs.encoder.read_text() + change)
    encode_texts(photographs, tmp_path)
    assert encoder.encoded == []


def test_another_version_of_the_library_computes_everything_anew(photographs, encoder, tmp_path):
    encode_texts(photographs, tmp_path)
    encoder.encoded.clear()
    encoder.version = "2"
    encode_texts(photographs, tmp_path)
    assert len(encoder.encoded) == PICTURES * CAPTIONS


def test_a_changed_picture_computes_its_shard_and_a_touched_one_nothing(photographs, encoder, tmp_path):
    encode_pictures(photographs, tmp_path)
    encoder.encoded.clear()
    os.utime(photographs.picture(3))
    encode_pictures(photographs, tmp_path)
    assert encoder.encoded == []
    shutil.copy(photographs.picture(40), photographs.picture(3))
    encode_pictures(photographs, tmp_path)
    assert len(encoder.encoded) == SHARD


def test_a_changed_caption_computes_its_shard_and_no_picture(photographs, encoder, tmp_path):
    encode_pictures(photographs, tmp_path / "images")
    encode_texts(photographs, tmp_path / "texts")
    encoder.encoded.clear()
    write_captions(photographs, {50: "another text"})
    encode_pictures(photographs, tmp_path / "images")
    assert encoder.encoded == []
    encode_texts(photographs, tmp_path / "texts")
    assert len(encoder.encoded) == SHARD


def test_any_number_of_jobs_writes_the_same_shards_none_of_them_twice(photographs, encoder, tmp_path):
    encode_pictures(photographs, tmp_path / "alone")
    encoder.encoded.clear()
    for number in (3, 1, 2):
        encode_pictures(photographs, tmp_path / "three", number, 3)
    assert len(encoder.encoded) == PICTURES
    assert files_in(tmp_path / "three") == files_in(tmp_path / "alone")


def test_a_picture_that_cannot_be_read_stops_the_job_with_its_name_and_how_many_there_are(
    photographs, encoder, tmp_path
):
    photographs.picture(20).write_bytes(b"no picture")
    photographs.picture(30).unlink()
    said = (
        r"2 of the pictures 17 to 32 cannot be read, the first is .*images/020\.png \(.+\): .*`encode.on_error: drop`"
    )
    with pytest.raises(UserError, match=said):
        encode_pictures(photographs, tmp_path)
    encoder.encoded.clear()
    with pytest.raises(UserError, match=said):
        encode_pictures(photographs, tmp_path)
    assert encoder.encoded == [], "what could be read is kept, and dropping needs no second encoding"
    encode_pictures(photographs, tmp_path, on_error=DROP)
    rows = rows_in(tmp_path)
    assert len(rows) == PICTURES - 2
    assert not (rows == 0).all(dim=1).any()


def test_a_mended_picture_computes_its_shard(photographs, encoder, tmp_path):
    whole = photographs.picture(20).read_bytes()
    photographs.picture(20).write_bytes(whole[:60])
    encode_pictures(photographs, tmp_path, on_error=DROP)
    photographs.picture(20).write_bytes(whole)
    encoder.encoded.clear()
    encode_pictures(photographs, tmp_path)
    assert len(encoder.encoded) == SHARD


def test_a_shard_without_a_readable_picture_has_no_rows(photographs, encoder, tmp_path):
    for number in range(SHARD):
        photographs.picture(number).write_bytes(b"")
    encode_pictures(photographs, tmp_path, on_error=DROP)
    assert torch.load(tmp_path / "00000.pt", weights_only=True).shape == (0, 4)
    assert len(rows_in(tmp_path)) == PICTURES - SHARD


@pytest.mark.parametrize(
    ("dtype", "stored"), [("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)]
)
def test_rows_are_stored_as_the_model_computes(photographs, encoder, tmp_path, dtype, stored):
    photographs.encoder.write_text(photographs.encoder.read_text() + f"dtype: {dtype}\n")
    encode_texts(photographs, tmp_path)
    assert torch.load(tmp_path / "00000.pt", weights_only=True).dtype == stored
