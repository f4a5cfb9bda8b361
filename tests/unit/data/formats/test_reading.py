"""The step that brings a set into the default form: once, whole or not at all, and never over a user's own files."""

import json
import logging

import numpy as np
import pytest
import torch

from frozenalign.data.embeddings import EmbeddingFiles, check_set, open_set
from frozenalign.data.formats import numpy_files
from frozenalign.system.errors import UserError
from tests.conftest import related_embeddings, write_set
from workflow.scripts.read_embeddings import main

NAMES = {"train2017_image_embeddings.pt", "train2017_text_embeddings.pt", "train2017_metadata.json"}


@pytest.fixture
def given(tmp_path):
    """A folder with 24 pairs of 8 images: arrays of pairs, and of the images alone in another order."""
    folder = tmp_path / "given"
    folder.mkdir()
    images, texts, ids = related_embeddings(8, 3)
    np.save(folder / "images.npy", images)
    np.save(folder / "texts.npy", texts)
    unique = ids[::3][::-1]
    np.savez(folder / "unique.npz", rows=images[::3].flip(0).numpy(), image_ids=np.array(unique))
    (folder / "pairs.csv").write_text("image_id,caption\n" + "".join(f"{each},text\n" for each in ids))
    return folder


def read(given, images="images.npy", texts="texts.npy", metadata="pairs.csv", *more) -> EmbeddingFiles:
    out = given.parent / "out"
    options = [f"--images={given / images}", f"--texts={given / texts}", f"--metadata={given / metadata}", *more]
    main([*options, f"--output-dir={out}"])
    return EmbeddingFiles.of(out, "train2017")


def test_a_second_run_computes_nothing(given, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    files = read(given)
    before = files.images.read_bytes()
    files.images.unlink()
    monkeypatch.setattr(numpy_files, "opened_chunks", None)
    read(given)
    assert "nothing to compute" in caplog.text
    assert files.images.read_bytes() == before


@pytest.mark.parametrize("name", ["texts.npy", "pairs.csv"])
def test_other_content_is_read_again(given, name):
    files = read(given)
    before = [path.read_bytes() for path in files]
    changed = (given / name).read_bytes()
    (given / name).write_bytes(
        changed.replace(b"text\n", b"another\n") if name == "pairs.csv" else changed[:-1] + b"\1"
    )
    read(given)
    assert sum(one != path.read_bytes() for one, path in zip(before, files, strict=True)) == 1


def test_one_row_for_each_image_gives_the_same_pairs(given):
    images, _, metadata, index = open_set(read(given, "unique.npz"))
    assert metadata.unique_ids.tolist() == [str(each) for each in range(1007, 999, -1)]
    rows = images.read(0, 8)[index.image_rows[index.pair_image]]
    assert torch.equal(rows, related_embeddings(8, 3)[0])


def test_a_data_set_for_each_image_gives_the_same_pairs(given):
    h5py = pytest.importorskip("h5py")
    rows = np.load(given / "unique.npz")
    with h5py.File(given / "images.h5", "w") as file:
        for image_id, row in zip(rows["image_ids"], rows["rows"], strict=True):
            file[str(image_id)] = row
    images, _, _, index = open_set(read(given, "images.h5"))
    assert torch.equal(images.read(0, 8)[index.image_rows[index.pair_image]], related_embeddings(8, 3)[0])


def test_an_extra_set_is_read_beside_the_other(given):
    extra = [f"--extra-images={given}/images.npy", f"--extra-texts={given}/texts.npy"]
    files = read(given, "images.npy", "texts.npy", "pairs.csv", *extra, f"--extra-metadata={given}/pairs.csv")
    check_set(EmbeddingFiles.of(files.images.parent, "val2017"))
    check_set(files)


def test_the_default_form_is_linked_and_its_metadata_are_the_same_bytes(given):
    images, texts, ids = related_embeddings(8, 3)
    write_set(given, images, texts, {"image_ids": ids, "further": 1})
    files = read(given, *sorted(NAMES - {"train2017_metadata.json"}), "train2017_metadata.json")
    assert files.images.is_symlink()
    assert files.images.resolve() == given / "train2017_image_embeddings.pt"
    assert files.metadata.read_bytes() == (given / "train2017_metadata.json").read_bytes()
    assert not files.metadata.is_symlink()


def test_what_ends_in_the_middle_leaves_no_part_of_a_file(given):
    content = (given / "texts.npy").read_bytes()
    (given / "texts.npy").write_bytes(content[:-4])
    with pytest.raises(UserError, match=r"texts\.npy cannot be read as \.npy \(it ends before row 24\)"):
        read(given)
    out = given.parent / "out"
    assert not (out / "train2017_text_embeddings.pt").exists()
    assert not list(out.glob(".unfinished*"))
    (given / "texts.npy").write_bytes(content)
    check_set(read(given))


def test_what_a_killed_reading_left_behind_is_removed(given):
    """Killed while it wrote the images, it has left its record and a part of them."""
    out = given.parent / "out"
    (out / ".unfinished").mkdir(parents=True)
    (out / ".unfinished" / "train2017_image_embeddings.pt").write_bytes(b"a part")
    (out / "read_embeddings.json").write_text('{"format": 1, "sources": {}}')
    check_set(read(given))
    assert not list(out.glob(".unfinished*"))


def test_embeddings_of_ones_own_are_not_replaced(given):
    own = given.parent / "out"
    write_set(own, *related_embeddings(2, 1)[:2], {"image_ids": [1, 2]})
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    with pytest.raises(UserError, match=r"holds train2017_image_embeddings\.pt, which read_embeddings has not written"):
        read(given)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_the_record_names_every_source(given):
    record = json.loads((read(given).images.parent / "read_embeddings.json").read_text())
    assert set(record["sources"]) == {
        f"train2017/{name}" for name in ("images/images.npy", "texts/texts.npy", "metadata/pairs.csv")
    }
