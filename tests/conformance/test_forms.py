"""A set of pairs gives the same embedding files, byte for byte, and the same metadata, whatever form it comes in."""

import numpy as np
import pytest
import torch

from frozenalign.data.embeddings import EmbeddingFiles, check_set, read_metadata
from frozenalign.data.formats.given_sets import SetSources
from frozenalign.data.formats.opening import open_source
from tests.conformance.forms import FORMS, Pairs
from workflow.scripts.read_embeddings import main as read_embeddings

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """65 pairs of 13 images, whose captions have what separates fields and lines in other places."""
    generator = np.random.default_rng(0)
    images = generator.standard_normal((13, 6)).astype(np.float32).repeat(5, 0)
    texts = generator.standard_normal((65, 4)).astype(np.float32)
    captions = [f'a "dog", number {number};\ta cat — 猫' for number in range(65)]
    return Pairs(images, texts, [100 + number // 5 * 7 for number in range(65)], captions)


@pytest.fixture(scope="module")
def original(pairs, tmp_path_factory) -> EmbeddingFiles:
    """What torch.save writes of the pairs, under the default names."""
    folder = tmp_path_factory.mktemp("original")
    torch.save(torch.from_numpy(pairs.images), folder / "train2017_image_embeddings.pt")
    torch.save(torch.from_numpy(pairs.texts), folder / "train2017_text_embeddings.pt")
    FORMS["pt"](folder, pairs)
    (folder / "metadata.json").rename(folder / "train2017_metadata.json")
    return EmbeddingFiles.of(folder, "train2017")


def read(named, folder) -> EmbeddingFiles:
    options = [f"--{part}={name}" for part, name in named._asdict().items() if name]
    read_embeddings([*options, f"--output-dir={folder}"])
    return EmbeddingFiles.of(folder, "train2017")


@pytest.mark.parametrize("name", FORMS)
def test_a_form_gives_the_bytes_of_the_default_one(name, pairs, original, tmp_path):
    named = FORMS[name](tmp_path / "given", pairs)
    found = read(named, tmp_path / "out")
    assert found.images.read_bytes() == original.images.read_bytes()
    assert found.texts.read_bytes() == original.texts.read_bytes()
    own, other = read_metadata(found.metadata, LIMIT), read_metadata(original.metadata, LIMIT)
    assert own.image_ids.tolist() == other.image_ids.tolist()
    assert own.unique_ids is None
    assert own.captions == other.captions
    check_set(found)


@pytest.mark.parametrize("name", FORMS)
def test_the_header_says_before_what_is_true_after(name, pairs, tmp_path):
    sources = SetSources.find(*FORMS[name](tmp_path, pairs))
    for source, rows in ((sources.images, pairs.images), (sources.texts, pairs.texts)):
        opened = open_source(source)
        assert (opened.rows, opened.width, opened.number) == (*rows.shape, "float32")
