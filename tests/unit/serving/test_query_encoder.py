"""A query is encoded as the set was, or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.query_encoder import QueryEncoder
from frozenalign.system.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def metadata(encoded) -> dict:
    return json.loads((encoded / "train2017_metadata.json").read_text())


@pytest.fixture
def copied(encoded, tmp_path) -> Path:
    """A folder with the record of the set, to be changed."""
    shutil.copy(encoded / "encoding.json", tmp_path)
    return tmp_path


def change(folder: Path, kind: str, **values) -> None:
    record = json.loads((folder / "encoding.json").read_text())
    record[kind] |= values
    (folder / "encoding.json").write_text(json.dumps(record))


def test_texts_get_the_rows_that_the_set_has(encoded, metadata):
    stored = torch.load(encoded / "train2017_text_embeddings.pt")
    rows = QueryEncoder.of_set(encoded, "text", CPU).encode(metadata["captions"])
    assert torch.equal(rows, stored)


def test_pictures_get_the_rows_that_the_set_has_from_paths_and_when_opened(encoded, metadata):
    stored = torch.load(encoded / "train2017_image_embeddings.pt")[:3]
    paths = [encoded / metadata["image_files"][str(image)] for image in metadata["unique_image_ids"][:3]]
    encoder = QueryEncoder.of_set(encoded, "image", CPU)
    assert torch.equal(encoder.encode(paths), stored)
    assert torch.equal(encoder.encode([Image.open(path) for path in paths]), stored)


def test_nothing_gives_no_rows(encoded):
    assert QueryEncoder.of_set(encoded, "text", CPU).encode([]).shape == (0, 256)


def test_the_facts_of_a_model_open_the_encoder_as_well(encoded, run_of_encoded, metadata):
    model = AlignedModel.from_run(run_of_encoded, encoded, "cpu")
    encoder = QueryEncoder.of_record(model.facts["encoders"], "text", CPU, "the model")
    stored = torch.load(encoded / "train2017_text_embeddings.pt")
    assert torch.equal(encoder.encode(metadata["captions"][:5]), stored[:5])


def test_a_set_without_a_record_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"encoding\.json not found, so what encoded this set is unknown"):
        QueryEncoder.of_set(tmp_path, "text", CPU)
    with pytest.raises(UserError, match=r"^model does not say what encoded the data"):
        QueryEncoder.of_record(None, "text", CPU, "model")


def test_an_encoder_that_is_not_the_recorded_one_is_refused(copied):
    facts = json.loads((copied / "encoding.json").read_text())["texts"]["facts"]
    change(copied, "texts", facts=facts | {"fitted_on_scenes": 1201})
    with pytest.raises(UserError, match="its fitted_on_scenes is 1200 where 1201 is recorded"):
        QueryEncoder.of_set(copied, "text", CPU)


def test_other_versions_of_a_library_are_a_warning(copied, caplog):
    facts = json.loads((copied / "encoding.json").read_text())["texts"]["facts"]
    change(copied, "texts", facts=facts | {"numpy": "1.0"})
    QueryEncoder.of_set(copied, "text", CPU)
    assert "has other numpy is" in caplog.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"library": "unheard-of"}, "library: found 'unheard-of'"),
        ({"batch_size": "many"}, "batch_size: found 'many'"),
        ({"modality": "image"}, "has no text tower"),
    ],
)
def test_a_record_that_names_no_encoder_is_refused(copied, values, said):
    change(copied, "texts", **values)
    with pytest.raises(UserError, match=said):
        QueryEncoder.of_set(copied, "text", CPU)


def test_a_picture_that_cannot_be_read_is_named(encoded, tmp_path):
    (tmp_path / "query.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"the picture .*query\.png is not readable as JPEG"):
        QueryEncoder.of_set(encoded, "image", CPU).encode([tmp_path / "query.png"])
