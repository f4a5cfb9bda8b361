"""The input contract: what is accepted, and a one-sentence error for everything else."""

import hashlib
import json

import numpy as np
import pytest
import torch

from frozenalign.data.embeddings import EmbeddingFiles, check_set, open_set
from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import select_images
from frozenalign.system.errors import UserError
from tests.conftest import related_embeddings, write_set


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


def test_images_are_numbered_in_their_order_whatever_encoded_them(tmp_path, parts):
    images, texts, metadata = parts
    for name, encoding in (("one", images), ("another", images.flip(1) * 3)):
        (tmp_path / name).mkdir()
        assert check(tmp_path / name, encoding, texts, metadata).image_content.tolist() == list(range(8))


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


@pytest.mark.parametrize("value", [1e30, 1e-30, 1e5, 1e-6])
def test_a_row_that_is_absurdly_long_or_short_is_named(tmp_path, parts, value):
    images, texts, metadata = parts
    texts[5] *= value / texts[5].norm()
    said = refusal(tmp_path, images, texts, metadata)
    assert f"1 rows whose length is absurd (first: row 5 of length {value:.3g};" in said


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_an_encoder_is_its_own(tmp_path, parts, scale):
    images, texts, metadata = parts
    assert len(check(tmp_path, images * scale, texts, metadata).index.pair_image) == 24


def test_a_whole_file_of_absurd_numbers_is_refused(tmp_path, parts):
    images, texts, metadata = parts
    assert "24 rows whose length is absurd" in refusal(tmp_path, images, texts * 1e-30, metadata)


def test_one_image_id_with_really_different_rows_is_refused_with_a_remedy_that_does_not_leak(tmp_path, parts):
    images, texts, metadata = parts
    images[4, 0] += 1
    said = refusal(tmp_path, images, texts, metadata)
    assert "rows 3 and 4 belong to image id '1001' but differ (cosine 0." in said
    assert said.endswith("else encode the image once")


def test_wrong_ids_are_refused_though_a_common_mean_makes_all_rows_alike(tmp_path, parts):
    images, texts, metadata = parts
    images += 300
    assert torch.nn.functional.cosine_similarity(images[0], images[3], dim=0) > 0.999
    check(tmp_path, images, texts, metadata)
    shuffled = [metadata["image_ids"][i] for i in torch.randperm(24, generator=torch.Generator().manual_seed(0))]
    said = refusal(tmp_path, images, texts, {"image_ids": shuffled})
    assert "such rows), as much as rows of other images: correct `image_ids`" in said


def test_rounding_beside_a_common_mean_is_rounding(tmp_path, parts):
    images, texts, metadata = parts
    rounded = (images + 10 + 0.01 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))).bfloat16()
    assert len(check(tmp_path, rounded, texts, metadata).index.further_rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_of_one_image_that_differ_by_rounding_are_read_as_their_mean(tmp_path, parts, dtype, caplog):
    images, texts, metadata = parts
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    images = (images * (1 + 1e-3 * noise))[order].to(dtype)
    images[(order // 3) == 2] = images[(order // 3) == 2][0].clone()
    ids = [1000 + int(i) // 3 for i in order]
    checked = check(tmp_path, images, texts[order], metadata | {"image_ids": ids})
    assert "the rows of 7 of 8 images differ by rounding (lowest cosine 0.99999" in caplog.text

    split = select_images(checked.index, np.arange(8) % 4 != 3)
    pairs = PairFiles(checked.images, checked.texts, split)
    whole = torch.cat([rows.clone() for _, rows in pairs.images.select(split.image_rows)])
    few = torch.cat([rows.clone() for _, rows in pairs.images.select(split.image_rows[1:4], chunk_bytes=100)])
    own = [[row for row in range(24) if ids[row] == ids[first]] for first in split.image_rows]
    expected = torch.stack([images[rows].float().mean(0) for rows in own])
    torch.testing.assert_close(whole.float(), expected, rtol=1e-6 if dtype == torch.float32 else 1e-3, atol=0)
    assert torch.equal(few, whole[1:4])
    for size in (1, 100, 1000):
        batches = torch.cat([rows.clone() for _, rows in pairs.images.batches(split.image_rows, size)])
        assert torch.equal(batches, whole)
    assert torch.equal(pairs.images.read(int(split.image_rows[2]), int(split.image_rows[2]) + 1)[0], whole[2])


def test_rows_of_one_image_are_compared_with_the_spread_of_all_images(tmp_path):
    """Images far from the origin, all but the last ones far from each other: a row differs by less than they do."""
    generator = torch.Generator().manual_seed(0)
    images = 100 + torch.randn(120, 8192, generator=generator)
    images[-60:] = images[-60:].mean(0) + 1e-3 * torch.randn(60, 8192, generator=generator)
    ids = torch.arange(120)
    ids[-1], images[-1] = 0, images[0] + 0.3 * torch.randn(8192, generator=generator)
    checked = check(tmp_path, images, torch.randn(120, 4, generator=generator), {"image_ids": ids.tolist()})
    assert checked.index.further_rows.tolist() == [119]


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


def test_caption_ids_are_text_and_one_for_each_pair(tmp_path, parts):
    images, texts, metadata = parts
    files = EmbeddingFiles.of(tmp_path, "train2017")
    write_set(tmp_path, images, texts, metadata)
    assert open_set(files).metadata.caption_ids is None
    write_set(tmp_path, images, texts, metadata | {"caption_ids": list(range(100, 124))})
    assert open_set(files).metadata.caption_ids.tolist() == [str(i) for i in range(100, 124)]
    for wrong, problem in (([7], "has 1 entries: write one for each of the 24"), ([1, "a"] * 12, "all integers or")):
        assert problem in refusal(tmp_path, images, texts, metadata | {"caption_ids": wrong})
