"""An evaluation set is encoded as a data set is: rows in order, a record, shards that survive, no foreign file lost."""

import json

import pytest
import torch
from PIL import Image

from frozenalign.data.benchmarks.folder import benchmark_rows
from frozenalign.data.embeddings import EmbeddingFiles, check_set
from frozenalign.data.encoding import read_encoding
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash
from tests.unit.encoders.noting import Killed, row_of
from workflow.scripts import encode_evaluation_set


def write_negatives(photographs, changed: dict[int, str] | None = None):
    """Write rows of the first 40 pictures; changed: other captions by row."""
    rows = {
        str(i): {"filename": f"{i % 40:03d}.png", "caption": f"picture {i}", "negative_caption": f"picture {i + 1}"}
        for i in range(50)
    }
    for i, text in (changed or {}).items():
        rows[str(i)]["caption"] = text
    path = photographs.folder / "negatives.json"
    path.write_text(json.dumps(rows))
    return path


def encode(photographs, file, output, kind: str = "hard_negatives") -> None:
    given = {"kind": kind, "file": file, "pictures": photographs.pictures, "output-dir": output, "device": "cpu"}
    given |= {"image-encoder": photographs.encoder, "text-encoder": photographs.encoder}
    encode_evaluation_set.main([f"--{name}={value}" for name, value in given.items()])


def test_rows_of_hard_negatives_are_those_that_the_document_names(photographs, encoder, tmp_path):
    encode(photographs, write_negatives(photographs), tmp_path / "set")
    found = benchmark_rows(tmp_path / "set", "hard_negatives")
    images, texts = found.images.read(0, found.images.rows), found.texts.read(0, found.texts.rows)
    assert (len(images), len(texts)) == (40, 51)
    for i, row in enumerate(found.meaning["rows"]):
        assert torch.equal(images[row["image"]], row_of(Image.open(photographs.picture(i % 40))))
        assert torch.equal(texts[row["caption"]], row_of(f"picture {i}"))
        assert torch.equal(texts[row["negative"]], row_of(f"picture {i + 1}"))
    names = ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt", "rows.json")
    record = read_encoding(tmp_path / "set", {name: file_hash(tmp_path / "set" / name) for name in names})
    assert (record["images"]["encoder"], record["images"]["rows"], record["texts"]["rows"]) == ("noting", 40, 51)


def test_captions_of_another_data_set_become_a_set_in_the_default_form(photographs, encoder, tmp_path):
    encode(photographs, photographs.captions, tmp_path / "set", "retrieval")
    checked = check_set(EmbeddingFiles.of(tmp_path / "set", "train2017"))
    assert (len(checked.index.image_ids), len(checked.index.pair_image)) == (60, 120)
    assert checked.metadata.caption_ids.tolist() == [str(i) for i in range(120)]
    row = 2 * 17
    assert torch.equal(checked.texts.read(row, row + 1)[0], row_of(checked.metadata.captions[row]))


def test_a_killed_encoding_goes_on_and_an_edited_file_encodes_its_shard_alone(photographs, encoder, tmp_path):
    file = write_negatives(photographs)
    encoder.fail_after = 6
    with pytest.raises(Killed):
        encode(photographs, file, tmp_path / "set")
    assert not (tmp_path / "set" / "encoding.json").exists()
    encoder.fail_after = None
    before = len(encoder.encoded)
    encode(photographs, file, tmp_path / "set")
    assert before > 16
    assert len(encoder.encoded) < before + 40 + 51
    encoder.encoded.clear()
    encode(photographs, write_negatives(photographs, {49: "another one"}), tmp_path / "set")
    assert encoder.encoded
    assert all(isinstance(item, str) for item in encoder.encoded)
    assert len(encoder.encoded) <= 16


def test_a_picture_that_is_missing_stops_the_encoding(photographs, encoder, tmp_path):
    photographs.picture(7).unlink()
    with pytest.raises(UserError, match=r"1 of the pictures 1 to 16 cannot be read, the first is .*007\.png"):
        encode(photographs, write_negatives(photographs), tmp_path / "set")


def test_files_of_a_user_are_never_replaced(photographs, encoder, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds rows\.json, which encode_evaluation_set has not written"):
        encode(photographs, write_negatives(photographs), tmp_path / "set")
    assert (tmp_path / "set" / "rows.json").read_text() == "{}"
