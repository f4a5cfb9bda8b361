"""The demo encoders are frozen, see each input alone, and the generated files keep the input contract."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenalign.data.embeddings import EmbeddingFiles, check_set
from frozenalign.demo.encoders import ImageEncoder, TextEncoder, fit_encoders
from frozenalign.demo.made_files import RECORD
from frozenalign.demo.scenes import CAPTION_STYLES, draw_scene, sample_scene, write_captions
from frozenalign.system.errors import UserError
from workflow.scripts.demo_data import main

IMAGES, CAPTIONS = 40, 3


def pictures_and_captions(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    scenes = [sample_scene(generator) for _ in range(count)]
    captions = [text for scene in scenes for text in write_captions(scene, CAPTIONS, generator)]
    return np.stack([draw_scene(scene) for scene in scenes]), captions


@pytest.fixture(scope="module")
def encoders() -> tuple[ImageEncoder, TextEncoder]:
    return fit_encoders(*pictures_and_captions(500, seed=1), seed=0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate(folder)
    return folder


def generate(folder: Path, seed: int = 0) -> None:
    main(["--output-dir", str(folder), "--images", str(IMAGES), "--captions", str(CAPTIONS), "--seed", str(seed)])


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file but the record, which says when they were written."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != RECORD}


def test_both_embeddings_are_256_wide_float32_finite_and_not_zero(encoders):
    for encoder, inputs in zip(encoders, pictures_and_captions(50, seed=2), strict=True):
        rows = encoder.encode(inputs)
        assert rows.shape == (len(inputs), 256)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert (np.linalg.norm(rows, axis=1) > 0.1).all()


def test_an_embedding_does_not_depend_on_what_is_encoded_with_it(encoders):
    for encoder, inputs in zip(encoders, pictures_and_captions(300, seed=2), strict=True):
        together = encoder.encode(inputs)
        for chosen in (slice(0, 1), slice(7, 20), slice(None, None, -1)):
            np.testing.assert_allclose(encoder.encode(inputs[chosen]), together[chosen], atol=1e-5)


def test_encoding_leaves_the_encoders_as_they_are(encoders):
    pictures, captions = pictures_and_captions(20, seed=2)
    other_pictures, other_captions = pictures_and_captions(60, seed=3)
    image_encoder, text_encoder = encoders
    before = image_encoder.encode(pictures), text_encoder.encode(captions)
    image_encoder.encode(other_pictures), text_encoder.encode(other_captions)
    assert np.array_equal(before[0], image_encoder.encode(pictures))
    assert np.array_equal(before[1], text_encoder.encode(captions))


def test_encoders_fitted_twice_are_equal(encoders):
    again = fit_encoders(*pictures_and_captions(500, seed=1), seed=0)
    for first, second, inputs in zip(encoders, again, pictures_and_captions(20, seed=2), strict=True):
        assert np.array_equal(first.encode(inputs), second.encode(inputs))


def test_a_linear_map_finds_pictures_by_captions_far_better_than_chance_but_not_perfectly(encoders):
    pictures, captions = pictures_and_captions(1000, seed=2)
    images, texts = encoders[0].encode(pictures), encoders[1].encode(captions)
    sources, targets = np.repeat(images[:800], CAPTIONS, axis=0), texts[: 800 * CAPTIONS]
    mean, goal = sources.mean(axis=0), targets.mean(axis=0)
    x, y = sources - mean, targets - goal
    ridge = 0.1 * len(x) * x.var(axis=0).mean() * np.eye(256)
    gallery = (images[800:] - mean) @ np.linalg.solve(x.T @ x + ridge, x.T @ y)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    scores = (texts[800 * CAPTIONS :] - goal) @ gallery.T
    partner = np.repeat(np.arange(200), CAPTIONS)
    ranks = (scores > scores[np.arange(len(scores)), partner][:, None]).sum(axis=1) + 1
    assert 0.30 < (ranks <= 10).mean() < 0.95
    assert 0.05 < (ranks == 1).mean() < 0.60


def test_the_written_files_keep_the_input_contract(written):
    checked = check_set(EmbeddingFiles.of(written, "train2017"))
    assert (checked.images.rows, checked.images.width, checked.images.dtype) == (120, 256, torch.float32)
    assert (checked.texts.rows, checked.texts.width, checked.texts.dtype) == (120, 256, torch.float32)
    assert len(checked.index.image_ids) == IMAGES
    assert len(np.unique(checked.image_content)) == IMAGES


def test_an_image_row_repeats_over_the_captions_of_its_picture(written):
    rows = torch.load(written / "train2017_image_embeddings.pt", weights_only=True, mmap=True)
    assert rows.is_contiguous()
    by_image = rows.view(IMAGES, CAPTIONS, 256)
    assert torch.equal(by_image, by_image[:, :1].expand_as(by_image))


def test_the_metadata_names_each_pair_and_each_picture(written):
    metadata = json.loads((written / "train2017_metadata.json").read_text())
    assert set(metadata) == {"image_ids", "captions", "image_files"}
    assert metadata["image_ids"] == [image_id for image_id in range(1, IMAGES + 1) for _ in range(CAPTIONS)]
    assert len(metadata["captions"]) == IMAGES * CAPTIONS
    assert metadata["image_files"]["1"] == "images/000001.png"
    assert set(metadata["image_files"]) == {str(image_id) for image_id in metadata["image_ids"]}
    for name in metadata["image_files"].values():
        with Image.open(written / name) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")


def test_nothing_else_is_left_in_the_folder(written):
    assert len(contents(written)) == IMAGES + 3


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(written, tmp_path):
    generate(tmp_path / "again")
    generate(tmp_path / "other", seed=1)
    first, again, other = contents(written), contents(tmp_path / "again"), contents(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    assert not any(first[name] == other[name] for name in first)


def test_two_closing_lines_say_where_and_what_was_written(tmp_path, capsys):
    generate(tmp_path)
    where, what = capsys.readouterr().out.splitlines()
    assert where.startswith(f"written to {tmp_path} in ")
    assert what == "found: 40 pictures with 120 captions"


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [("--images", 9, "at least 10"), ("--captions", 0, "1 to"), ("--captions", 99, f"1 to {len(CAPTION_STYLES)}"),
     ("--seed", -1, "0 or a larger")],
)  # fmt: skip
def test_impossible_requests_are_refused_before_anything_is_written(tmp_path, option, value, allowed):
    with pytest.raises(UserError, match=f"{option} is {value}: .*{allowed}"):
        main(["--output-dir", str(tmp_path / "demo"), option, str(value)])
    assert not (tmp_path / "demo").exists()
