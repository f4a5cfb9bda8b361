"""The demo data script: pictures with captions in COCO's form, which encoders that never saw them turn into a set."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenalign.data.captions.registry import read_captions
from frozenalign.data.embeddings import EmbeddingFiles, check_set
from frozenalign.data.made_files import ROW_FILES
from frozenalign.demo.made_files import DEMO
from frozenalign.demo.samples import UNSEEN, draw_scenes, sample_scenes
from frozenalign.demo.scenes import CAPTION_STYLES
from frozenalign.encoders import demo
from frozenalign.encoders.registry import open_encoder
from frozenalign.encoders.settings import load_encoder
from frozenalign.system.errors import UserError
from tests.generated import ENCODERS, write_generated_set
from workflow.scripts import demo_data
from workflow.scripts.split import main as split

IMAGES, CAPTIONS = 40, 2


@pytest.fixture(scope="module", autouse=True)
def small_encoders():
    """Fit the encoders on a quarter of the scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SCENES", 300)
        yield


def generate(folder: Path, **options: int) -> Path:
    arguments = [f"--{name}={value}" for name, value in ({"images": IMAGES, "captions": CAPTIONS} | options).items()]
    demo_data.main(["--output-dir", str(folder), *arguments])
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Path:
    return write_generated_set(tmp_path_factory.mktemp("encoded"), images=IMAGES, captions=CAPTIONS)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file but the record, which says when they were written."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != DEMO.record}


def test_the_folder_holds_pictures_and_captions_and_nothing_else(written):
    assert set(contents(written)) == {f"images/{i:06d}.png" for i in range(1, IMAGES + 1)} | {"captions.json"}


def test_files_of_somebody_else_are_refused_and_kept(tmp_path):
    (tmp_path / "captions.json").write_text("mine")
    with pytest.raises(UserError, match=r"holds captions\.json, which .*: take another --output-dir;"):
        generate(tmp_path, images=10)
    assert contents(tmp_path) == {"captions.json": b"mine"}


def test_a_smaller_data_set_in_the_same_folder_leaves_no_old_picture(tmp_path):
    generate(tmp_path, images=12)
    generate(tmp_path, images=10)
    assert len(list((tmp_path / "images").iterdir())) == 10


def test_captions_are_read_as_those_of_coco(written):
    captioned = read_captions([written / "captions.json"], None, written / "images")
    assert captioned.image_ids == [str(i) for i in range(1, IMAGES + 1) for _ in range(CAPTIONS)]
    assert captioned.caption_ids == [str(i) for i in range(1, IMAGES * CAPTIONS + 1)]
    assert captioned.image_files == {str(i): f"{i:06d}.png" for i in range(1, IMAGES + 1)}


def test_rows_ids_captions_and_pictures_belong_together(encoded):
    checked = check_set(EmbeddingFiles.of(encoded, "train2017"))
    assert [(file.rows, file.width, file.dtype) for file in (checked.images, checked.texts)] == [
        (IMAGES, 256, torch.float32),
        (IMAGES * CAPTIONS, 256, torch.float32),
    ]
    assert len(checked.metadata.captions) == IMAGES * CAPTIONS
    assert checked.index.image_ids.tolist() == [str(i) for i in range(1, IMAGES + 1)]
    assert checked.index.pair_image.tolist() == [i for i in range(IMAGES) for _ in range(CAPTIONS)]
    assert len(set(checked.image_content.tolist())) == IMAGES
    assert checked.metadata.image_files == {str(i): f"images/{i:06d}.png" for i in range(1, IMAGES + 1)}
    for name in checked.metadata.image_files.values():
        with Image.open(encoded / name) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")


@pytest.mark.parametrize(("modality", "encoder"), [("image", "demo-pictures"), ("text", "demo-words")])
def test_rows_are_those_of_the_registered_encoder(encoded, modality, encoder):
    opened = open_encoder(load_encoder(ENCODERS / f"{encoder}.yaml"), modality, torch.device("cpu"))
    if modality == "image":
        items = [Image.open(path).convert("RGB") for path in sorted((encoded / "images").iterdir())]
    else:
        items = read_captions([encoded / "captions.json"]).captions
    rows = torch.load(encoded / f"train2017_{modality}_embeddings.pt", weights_only=True)
    torch.testing.assert_close(rows, opened.encode(items), atol=1e-5, rtol=0)


def test_two_closing_lines_say_where_and_what_was_written(tmp_path, capsys):
    generate(tmp_path)
    where, what = capsys.readouterr().out.splitlines()
    assert where.startswith(f"written to {tmp_path} in ")
    assert what == f"found: {IMAGES} pictures with {IMAGES * CAPTIONS} captions"


def test_the_split_script_takes_the_data_set_and_says_what_encoded_it(encoded, tmp_path):
    counts = json.dumps({"train": 20, "val": 10, "test": 10})
    arguments = ["--dataset", "demo", "--data-dir", encoded, "--output-dir", tmp_path, "--counts", counts]
    split([str(argument) for argument in arguments])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["splits"]["test"] == {"images": 10, "pairs": 10 * CAPTIONS}
    assert manifest["encoding"]["images"]["encoder"] == "demo-pictures"
    assert manifest["encoding"]["texts"]["rows"] == IMAGES * CAPTIONS


def test_the_seed_decides_every_byte(written, tmp_path):
    first, again, other = (
        contents(written),
        contents(generate(tmp_path / "a")),
        contents(generate(tmp_path / "b", seed=1)),
    )
    assert again == first
    assert other.keys() == first.keys()
    assert not [name for name in first if other[name] == first[name]]


def test_an_encoding_twice_gives_the_same_rows(encoded, tmp_path):
    again = write_generated_set(tmp_path, images=IMAGES, captions=CAPTIONS)
    for name in ROW_FILES:
        assert (again / name).read_bytes() == (encoded / name).read_bytes()


@pytest.mark.parametrize("seed", [0, 3])
def test_the_encoders_are_fitted_on_scenes_that_no_demo_shows(tmp_path, seed):
    generate(tmp_path, seed=seed)
    seen = {picture.tobytes() for picture in draw_scenes(sample_scenes(0, UNSEEN, 300))}
    shown = [np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "images").iterdir()]
    assert len(shown) == IMAGES
    assert not seen & set(shown)


def test_a_seed_that_is_no_number_is_refused(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text((ENCODERS / "demo-words.yaml").read_text().replace('revision: "0"', "revision: main"))
    with pytest.raises(UserError, match="the encoder words: revision: found 'main'; allowed: a whole number"):
        open_encoder(load_encoder(path), "text", torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 12}, "image_size: found 12; allowed: a multiple of 16, such as 64"),
        ({"layer": 1}, "layer: demo gives the rows of the last layer alone: leave it out"),
    ],
)
def test_what_the_demo_s_encoders_cannot_change_is_refused(changes, said):
    with pytest.raises(UserError) as caught:
        open_encoder(load_encoder(ENCODERS / "demo-pictures.yaml", changes), "image", torch.device("cpu"))
    assert said in str(caught.value)


def test_a_picture_of_another_size_is_scaled():
    opened = open_encoder(load_encoder(ENCODERS / "demo-pictures.yaml"), "image", torch.device("cpu"))
    assert opened.encode([Image.new("RGB", (30, 90), "red"), Image.new("RGB", (64, 64))]).shape == (2, 256)


def test_a_picture_may_have_a_single_caption(tmp_path):
    generate(tmp_path, images=10, captions=1)
    assert len(read_captions([tmp_path / "captions.json"]).captions) == 10


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
