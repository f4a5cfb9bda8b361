"""The input contract: what is taken, and the one sentence for everything that is not."""

import hashlib
import json

import numpy as np
import pytest
import torch

from tests.conftest import related_embeddings, write_set
from workflow.lib.embeddings import EmbeddingFiles, check_set, open_set
from workflow.lib.errors import UserError


@pytest.fixture
def parts():
    images, texts, ids = related_embeddings(8, 3)
    return images, texts, {"image_ids": ids}


def check(folder, images, texts, metadata):
    write_set(folder, images, texts, metadata)
    return check_set(EmbeddingFiles.of(folder, "train2017"))


def refusal(folder, images, texts, metadata) -> str:
    with pytest.raises(UserError) as caught:
        check(folder, images, texts, metadata)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_image_is_held_once_over_its_captions(tmp_path, parts):
    checked = check(tmp_path, *parts)
    assert checked.index.image_ids.tolist() == [str(1000 + i) for i in range(8)]
    assert checked.index.image_rows.tolist() == list(range(0, 24, 3))
    assert checked.index.pair_image.tolist() == [i // 3 for i in range(24)]


def test_one_row_per_image_is_taken_with_unique_image_ids(tmp_path, parts):
    images, texts, metadata = parts
    unique = [1000 + i for i in range(8)][::-1]
    checked = check(tmp_path, images[::3].flip(0).contiguous(), texts, metadata | {"unique_image_ids": unique})
    rows = checked.images.read(0, 8)[checked.index.image_rows[checked.index.pair_image]]
    assert torch.equal(rows, images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_three_number_formats_are_read_bit_for_bit(tmp_path, parts, dtype):
    images, texts, metadata = parts
    checked = check(tmp_path, images.to(dtype), texts.to(dtype), metadata)
    assert torch.equal(checked.texts.read(0, 24), texts.to(dtype))
    assert torch.equal(checked.texts.read(5, 9), texts.to(dtype)[5:9])
    selected = torch.cat([rows for _, rows in checked.texts.select(np.array([1, 2, 7, 20]))])
    assert torch.equal(selected, texts.to(dtype)[[1, 2, 7, 20]])


def test_a_view_into_a_larger_storage_is_read_from_its_place(tmp_path, parts):
    images, texts, metadata = parts
    padded = torch.cat([torch.full((5, texts.shape[1]), 7.0), texts])
    assert torch.equal(check(tmp_path, images, padded[5:], metadata).texts.read(0, 24), texts)


def test_bit_identical_images_are_found(tmp_path, parts):
    images, texts, metadata = parts
    images[6:9] = images[0]
    content = check(tmp_path, images, texts, metadata).image_content
    assert content[2] == content[0]
    assert len(set(content.tolist())) == 7


def test_hashes_are_those_of_the_files(tmp_path, parts):
    hashes = check(tmp_path, *parts).hashes
    for name, value in hashes.items():
        assert value == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_missing_file(tmp_path, parts):
    write_set(tmp_path, *parts)
    (tmp_path / "train2017_text_embeddings.pt").unlink()
    with pytest.raises(UserError, match=r"train2017_text_embeddings.pt not found: check `dir`"):
        check_set(EmbeddingFiles.of(tmp_path, "train2017"))


def test_no_image_ids(tmp_path, parts):
    message = refusal(tmp_path, parts[0], parts[1], {"captions": []})
    assert message.startswith("no image_ids in metadata:")


@pytest.mark.parametrize("row", [0, 5])
def test_a_caption_that_is_not_text(tmp_path, parts, row):
    captions = ["text"] * 24
    captions[row] = None
    message = refusal(tmp_path, parts[0], parts[1], parts[2] | {"captions": captions})
    assert f"captions[{row}] is not text" in message


@pytest.mark.parametrize(("cut", "named"), [(0, "image_embeddings"), (1, "text_embeddings")])
def test_row_counts_that_differ(tmp_path, parts, cut, named):
    tensors = [parts[0], parts[1]]
    tensors[cut] = tensors[cut][:-1]
    message = refusal(tmp_path, *tensors, parts[2])
    assert f"train2017_{named}.pt has 23 rows" in message
    assert "24" in message


@pytest.mark.parametrize(
    ("value", "problem"), [(float("nan"), "NaN or infinite"), (float("inf"), "NaN or infinite"), (0.0, "all-zero")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_no_embeddings(tmp_path, parts, value, problem, dtype):
    images, texts, metadata = parts
    texts[[7, 23]] = value
    message = refusal(tmp_path, images, texts.to(dtype), metadata)
    assert f"2 {problem} rows (first: 7, 23)" in message


def test_a_single_nan_in_the_last_row_is_found(tmp_path, parts):
    images, texts, metadata = parts
    texts[23, 8] = float("nan")
    assert "1 NaN or infinite rows (first: 23)" in refusal(tmp_path, images, texts, metadata)


def test_tiny_and_huge_rows_are_embeddings(tmp_path, parts):
    images, texts, metadata = parts
    texts[0], texts[1] = 1e-30, 1e30
    assert len(check(tmp_path, images, texts, metadata).index.pair_image) == 24


def test_one_image_id_with_differing_rows(tmp_path, parts):
    images, texts, metadata = parts
    images[4, 0] += 0.01
    assert "rows 3 and 4 belong to image id '1001' but differ" in refusal(tmp_path, images, texts, metadata)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_object_pickles_are_refused_and_never_run(tmp_path, parts):
    trap = tmp_path / "trap"
    message = refusal(tmp_path, Payload(trap), parts[1], parts[2])
    assert "holds Python objects" in message
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"embeddings": torch.ones(24, 4)}, "holds a dict"),
        (torch.ones(24), "shape (24,)"),
        (torch.ones(24, 4, dtype=torch.float64), "holds float64"),
        (torch.ones(4, 24).T, "strided view"),
    ],
)
def test_other_contents_of_a_pt_file(tmp_path, parts, content, said):
    assert said in refusal(tmp_path, content, parts[1], parts[2])


def test_damaged_and_old_files(tmp_path, parts):
    write_set(tmp_path, *parts)
    path = tmp_path / "train2017_image_embeddings.pt"
    whole = path.read_bytes()
    for content in (b"", b"not a tensor", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="train2017_image_embeddings"):
            open_set(EmbeddingFiles.of(tmp_path, "train2017"))
    torch.save(parts[0], path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="PyTorch before"):
        open_set(EmbeddingFiles.of(tmp_path, "train2017"))


@pytest.mark.parametrize("ids", [[1, "2", 3], [1.5, 2.5], [None, None], [True, False], "abc", []])
def test_ids_that_are_none(tmp_path, parts, ids):
    assert "image_ids" in refusal(tmp_path, parts[0], parts[1], {"image_ids": ids})


def test_metadata_that_is_no_json(tmp_path, parts):
    write_set(tmp_path, *parts)
    path = tmp_path / "train2017_metadata.json"
    path.write_text(json.dumps({"image_ids": [1]})[:-3])
    with pytest.raises(UserError, match=r"not valid JSON \(line 1"):
        open_set(EmbeddingFiles.of(tmp_path, "train2017"))
