"""Projected rows in files: the layout of clip-retrieval, found again as the split is, with and without an index."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.data.embeddings import EmbeddingFiles, open_set
from frozenalign.data.formats.default_form import write_default_form
from frozenalign.data.formats.given_sets import SetSources
from frozenalign.serving.aligned_model import open_model
from frozenalign.serving.galleries import CAPTIONS, IMAGES
from frozenalign.serving.projected_gallery import ProjectedGallery
from frozenalign.system.errors import UserError
from workflow.scripts import gallery, search

parquet = pytest.importorskip("pyarrow.parquet")


def model_file(explored: Path, name: str = "ridge") -> Path:
    return explored / name / "seed0" / "best_model.pt"


def write(explored: Path, encoded: Path, folder: Path, *options: str) -> Path:
    where = ["--data-dir", encoded, "--split-dir", explored / "split", "--output-dir", folder, "--device", "cpu"]
    gallery.main([str(each) for each in ["--model", model_file(explored), *where, *options]])
    return folder


@pytest.fixture(scope="module")
def written(explored, encoded, tmp_path_factory) -> Path:
    return write(explored, encoded, tmp_path_factory.mktemp("projected") / "gallery", "--split", "all")


@pytest.fixture
def found(explored, capsys):
    def run(*options: object, model: str = "ridge") -> dict:
        search.main([str(each) for each in ["--model", model_file(explored, model), "--device", "cpu", *options]])
        return json.loads(capsys.readouterr().out)

    return run


def test_a_row_is_an_image_and_a_caption_in_the_layout_of_clip_retrieval(written, encoded, explored):
    metadata = json.loads((encoded / "train2017_metadata.json").read_text())
    images, texts = (np.load(written / path) for path in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"))
    table = parquet.read_table(written / "metadata" / "metadata_0.parquet").to_pydict()
    assert images.dtype == texts.dtype == np.float16
    assert table["image_id"] == metadata["image_ids"]
    assert table["caption"] == metadata["captions"]
    assert table["image_path"] == [metadata["image_files"][image_id] for image_id in metadata["image_ids"]]
    model = open_model(model_file(explored), None, torch.device("cpu"))
    raw = torch.load(encoded / "train2017_image_embeddings.pt")
    place = {image_id: row for row, image_id in enumerate(metadata["unique_image_ids"])}
    expected = model.project_images(raw[[place[image_id] for image_id in metadata["image_ids"]]])
    assert np.allclose(images, expected, atol=1e-3)
    assert np.allclose(texts, model.project_texts(torch.load(encoded / "train2017_text_embeddings.pt")), atol=1e-3)
    assert np.allclose(np.linalg.norm(images.astype(float), axis=1), 1, atol=2e-3)


def test_the_folder_is_read_as_a_data_set(written, tmp_path):
    files = EmbeddingFiles.of(tmp_path, "train2017")
    write_default_form(SetSources.find(str(written), str(written), str(written)), files)
    assert len(open_set(files).index.image_ids) == 40


@pytest.mark.parametrize("query", [["--caption-row", 7], ["--row", 3], ["--text", "a red star"]])
@pytest.mark.parametrize("hubness", ["on", "off"])
def test_stored_rows_find_what_the_split_finds(found, written, encoded, query, hubness):
    options = [*query, "--hubness", hubness, "--count", 5]
    stored, direct = (
        found(*options, *where) for where in (["--gallery", written], ["--data-dir", encoded, "--split", "all"])
    )
    assert stored["hubness_correction"] == direct["hubness_correction"]
    # Rounding to 16 bits changes places where captions are equal.
    assert {each["row"] for each in stored["results"]} == {each["row"] for each in direct["results"]}
    assert np.allclose(*([each["score"] for each in answer["results"]] for answer in (stored, direct)), atol=1e-3)


def test_pictures_of_stored_rows_lie_with_the_data(found, written, explored, tmp_path):
    page = tmp_path / "page.html"
    where = ["--model", model_file(explored), "--gallery", written, "--device", "cpu", "--html", page]
    search.main([str(each) for each in [*where, "--caption-row", 1, "--count", 3]])
    assert page.read_text().count('src="data:image/jpeg') == 3


def test_rows_of_another_training_are_refused(found, written):
    with pytest.raises(
        UserError, match=r"another training \(ridge, seed 0, small\) than the model \(cca, seed 0, small\)"
    ):
        found("--gallery", written, "--row", 1, model="cca")


@pytest.fixture
def copied(written, tmp_path) -> Path:
    folder = tmp_path / "gallery"
    shutil.copytree(written, folder)
    return folder


def test_a_foreign_folder_is_searched_as_it_is(found, copied, written):
    (copied / "gallery.json").unlink()
    answer = found("--gallery", copied, "--caption-row", 2)
    assert answer["hubness_correction"]["used"] is False
    plain = found("--gallery", written, "--caption-row", 2, "--hubness", "off")
    assert answer["results"] == plain["results"]
    with pytest.raises(UserError, match="no penalties"):
        found("--gallery", copied, "--caption-row", 2, "--hubness", "on")


def test_rows_of_another_width_are_refused(found, copied):
    np.save(copied / "img_emb" / "img_emb_0.npy", np.ones((80, 3), np.float16))
    with pytest.raises(UserError, match="rows of 3 numbers"):
        found("--gallery", copied, "--row", 1)


def test_numbers_that_are_not_finite_are_refused(found, copied):
    rows = np.load(copied / "img_emb" / "img_emb_0.npy")
    rows[4, 2] = np.nan
    np.save(copied / "img_emb" / "img_emb_0.npy", rows)
    with pytest.raises(UserError, match="NaN"):
        found("--gallery", copied, "--row", 1)


def test_penalties_of_another_number_are_refused(found, copied):
    np.savez(copied / "hub_penalties.npz", images=np.zeros(3), captions=np.zeros(3))
    with pytest.raises(UserError, match=r"hub_penalties\.npz does not hold a number for each row"):
        found("--gallery", copied, "--caption-row", 1, "--hubness", "on")


def test_an_unfinished_folder_is_refused_and_written_again(found, copied, explored, encoded):
    record = json.loads((copied / "gallery.json").read_text())
    (copied / "gallery.json").write_text(json.dumps({name: record[name] for name in ("format", "head")}))
    with pytest.raises(UserError, match=r"gallery\.json"):
        found("--gallery", copied, "--row", 1)
    write(explored, encoded, copied, "--split", "all")
    assert json.loads((copied / "gallery.json").read_text()) == record


def test_a_folder_of_somebody_else_is_not_written(explored, encoded, copied):
    (copied / "gallery.json").unlink()
    before = (copied / "img_emb" / "img_emb_0.npy").read_bytes()
    with pytest.raises(UserError, match="was not written by this step"):
        write(explored, encoded, copied)
    assert (copied / "img_emb" / "img_emb_0.npy").read_bytes() == before


def test_one_row_for_each_image_is_read_as_well(explored, written, tmp_path):
    """An images' file beside one of texts, as other programs write them: rows of images by their own ids."""
    rows = np.load(written / "img_emb" / "img_emb_0.npy")
    for folder, name, content in (("img_emb", "a.npz", rows[::2]), ("text_emb", "a.npz", rows)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / name, rows=content, image_ids=np.arange(len(content)) // (len(content) // 40))
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "a.csv").write_text("image_id,caption\n" + "".join(f"{i // 2},c {i}\n" for i in range(80)))
    opened = ProjectedGallery.open(tmp_path, open_model(model_file(explored), None, torch.device("cpu")))
    vectors = opened.vectors(opened_model := open_model(model_file(explored), None, torch.device("cpu")), IMAGES)
    assert torch.equal(vectors, functional.normalize(torch.from_numpy(rows[::2].astype(np.float32)), dim=1))
    assert opened.items.texts_of(3) == [6, 7]
    assert opened.vectors(opened_model, CAPTIONS).shape == (80, opened_model.width)


@pytest.fixture(scope="class")
def faiss():
    return pytest.importorskip("faiss")


@pytest.fixture
def index(faiss, written, tmp_path):
    """Return the file of an index of images or texts: exact, or in lists of which one is looked through."""

    def build(folder: str, lists: int = 0) -> Path:
        rows = np.load(written / folder / f"{folder}_0.npy").astype(np.float32)
        flat = faiss.IndexFlatIP(rows.shape[1])
        index = faiss.IndexIVFFlat(flat, rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT) if lists else flat
        if lists:
            index.train(rows)
        index.add(rows)
        faiss.write_index(index, str(tmp_path / "knn.index"))
        return tmp_path / "knn.index"

    return build


@pytest.mark.parametrize(("query", "folder"), [("--caption-row", "img_emb"), ("--row", "text_emb")])
@pytest.mark.parametrize("hubness", ["on", "off"])
def test_an_exact_index_finds_what_is_found_without(found, written, index, query, folder, hubness):
    options = ["--gallery", written, query, 5, "--hubness", hubness, "--count", 6]
    with_index, without = found(*options, "--index", index(folder)), found(*options)
    assert (with_index["exact"], without["exact"]) == (False, True)
    rows, scores = (
        [[each[name] for each in answer["results"]] for answer in (with_index, without)] for name in ("row", "score")
    )
    assert rows[0] == rows[1]
    assert np.allclose(*scores, atol=1e-5)


def test_an_index_with_lists_finds_some_of_them(found, written, index):
    options = ["--gallery", written, "--caption-row", 5, "--count", 30]
    with_index, without = found(*options, "--index", index("img_emb", lists=4)), found(*options)
    rows = [[each["row"] for each in answer["results"]] for answer in (with_index, without)]
    assert set(rows[0]) < set(range(40))
    assert rows[0][0] == rows[1][0]


def test_an_index_of_other_rows_is_refused(found, written, faiss, tmp_path):
    faiss.write_index(faiss.IndexFlatIP(4), str(tmp_path / "knn.index"))
    with pytest.raises(UserError, match="an index of 0 rows of 4 numbers"):
        found("--gallery", written, "--row", 1, "--index", tmp_path / "knn.index")


def test_another_file_is_no_index(faiss, found, written):
    with pytest.raises(UserError, match="no index of faiss"):
        found("--gallery", written, "--row", 1, "--index", written / "gallery.json")


def test_an_index_needs_its_rows(found, encoded, written):
    with pytest.raises(UserError, match="--gallery"):
        found("--data-dir", encoded, "--row", 1, "--index", written / "gallery.json")
