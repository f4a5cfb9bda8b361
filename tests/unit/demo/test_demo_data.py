"""The demo data script: a data set in the input layout that the workflow takes, with encoders that never saw it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenalign.data.embeddings import EmbeddingFiles, check_set
from frozenalign.demo.made_files import RECORD
from frozenalign.demo.scenes import CAPTION_STYLES
from frozenalign.system.errors import UserError
from workflow.scripts import demo_data
from workflow.scripts.split import main as split

IMAGES, CAPTIONS = 40, 2


@pytest.fixture(scope="module", autouse=True)
def small_encoders():
    """Fit the encoders on a quarter of the scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_data, "ENCODER_SCENES", 300)
        yield


def generate(folder: Path, **options: int) -> Path:
    arguments = [f"--{name}={value}" for name, value in ({"images": IMAGES, "captions": CAPTIONS} | options).items()]
    demo_data.main(["--output-dir", str(folder), *arguments])
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("written"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file but the record, which says when they were written."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != RECORD}


def test_the_folder_holds_the_input_layout_and_nothing_else(written):
    pictures = {f"images/{i:06d}.png" for i in range(1, IMAGES + 1)}
    files = {f"train2017_{end}" for end in ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")}
    assert set(contents(written)) == pictures | files


def test_files_of_somebody_else_are_refused_and_kept(tmp_path):
    (tmp_path / "train2017_metadata.json").write_text("mine")
    with pytest.raises(UserError, match=r"holds train2017_metadata\.json, which .*: take another --output-dir;"):
        generate(tmp_path, images=10)
    assert contents(tmp_path) == {"train2017_metadata.json": b"mine"}


def test_a_smaller_data_set_in_the_same_folder_leaves_no_old_picture(tmp_path):
    generate(tmp_path, images=12)
    generate(tmp_path, images=10)
    assert len(list((tmp_path / "images").iterdir())) == 10


def test_rows_ids_captions_and_pictures_belong_together(written):
    checked = check_set(EmbeddingFiles.of(written, "train2017"))
    for file in (checked.images, checked.texts):
        assert (file.rows, file.width, file.dtype) == (IMAGES * CAPTIONS, 256, torch.float32)
    assert len(checked.metadata.captions) == IMAGES * CAPTIONS
    assert checked.index.image_ids.tolist() == [str(i) for i in range(1, IMAGES + 1)]
    assert checked.index.pair_image.tolist() == [i for i in range(IMAGES) for _ in range(CAPTIONS)]
    assert len(set(checked.image_content.tolist())) == IMAGES
    assert checked.metadata.image_files == {str(i): f"images/{i:06d}.png" for i in range(1, IMAGES + 1)}
    for name in checked.metadata.image_files.values():
        with Image.open(written / name) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")


def test_an_image_row_repeats_over_the_captions_of_its_picture(written):
    rows = torch.load(written / "train2017_image_embeddings.pt", weights_only=True, mmap=True)
    assert rows.is_contiguous()
    by_image = rows.view(IMAGES, CAPTIONS, 256)
    assert torch.equal(by_image, by_image[:, :1].expand_as(by_image))


def test_the_metadata_hold_integer_ids_captions_and_the_file_of_each_picture(written):
    metadata = json.loads((written / "train2017_metadata.json").read_text())
    assert set(metadata) == {"image_ids", "captions", "image_files"}
    assert metadata["image_ids"] == [i for i in range(1, IMAGES + 1) for _ in range(CAPTIONS)]


def test_two_closing_lines_say_where_and_what_was_written(tmp_path, capsys):
    generate(tmp_path)
    where, what = capsys.readouterr().out.splitlines()
    assert where.startswith(f"written to {tmp_path} in ")
    assert what == f"found: {IMAGES} pictures with {IMAGES * CAPTIONS} captions"


def test_the_split_script_takes_the_data_set(written, tmp_path):
    counts = json.dumps({"train": 20, "val": 10, "test": 10})
    arguments = ["--dataset", "demo", "--data-dir", written, "--output-dir", tmp_path, "--counts", counts]
    split([str(argument) for argument in arguments])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["splits"]["test"] == {"images": 10, "pairs": 10 * CAPTIONS}


def test_the_seed_decides_every_byte(written, tmp_path):
    first, again, other = (
        contents(written),
        contents(generate(tmp_path / "a")),
        contents(generate(tmp_path / "b", seed=1)),
    )
    assert again == first
    assert other.keys() == first.keys()
    assert not [name for name in first if other[name] == first[name]]


def test_the_encoders_are_fitted_on_scenes_of_their_own(tmp_path, monkeypatch):
    fitted = {}
    original = demo_data.fit_encoders

    def fit_encoders(pictures: np.ndarray, captions: list[str], seed: int):
        fitted.update(pictures=pictures, seed=seed)
        return original(pictures, captions, seed)

    monkeypatch.setattr(demo_data, "fit_encoders", fit_encoders)
    generate(tmp_path, seed=3)
    assert (len(fitted["pictures"]), fitted["seed"]) == (300, 3)
    seen = {picture.tobytes() for picture in fitted["pictures"]}
    shown = [np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "images").iterdir()]
    assert len(shown) == IMAGES
    assert not seen & set(shown)


def test_a_picture_may_have_a_single_caption(tmp_path):
    generate(tmp_path, images=10, captions=1)
    for modality in ("image", "text"):
        assert len(torch.load(tmp_path / f"train2017_{modality}_embeddings.pt", weights_only=True)) == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": 9}, "--images is 9: ask for at least 10 pictures"),
        ({"captions": 0}, f"--captions is 0: a picture can have 1 to {len(CAPTION_STYLES)} captions"),
        ({"captions": len(CAPTION_STYLES) + 1}, "--captions is .*: a picture can have 1 to"),
        ({"seed": -1}, "--seed is -1: take 0 or a larger whole number"),
    ],
)
def test_what_cannot_be_made_is_refused_before_a_file_is_written(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        generate(tmp_path / "demo", **options)
    assert not (tmp_path / "demo").exists()
