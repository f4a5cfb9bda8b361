"""A tiny model of sentence-transformers: pooling and normalisation as its files say."""

import pytest
import torch

from frozenalign.encoders.registry import open_encoder
from frozenalign.system.errors import UserError
from tests.unit.encoders.tiny_models import settings

CPU = torch.device("cpu")
TEXTS = ("the dog runs", "a dog runs on grass", "cat", "two people sits on the red table")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A BERT whose files ask for a mean and for unit rows, and that has a prompt of its own."""
    library = pytest.importorskip("sentence_transformers", reason="envs/requirements-encode.txt is not installed")
    from sentence_transformers.sentence_transformer import modules

    bert = library.SentenceTransformer(
        modules=[modules.Transformer(str(tiny("bert"))), modules.Pooling(16, "mean"), modules.Normalize()],
        prompts={"document": "blue red "},
        default_prompt_name="document",
        device="cpu",
    )
    target = tmp_path_factory.mktemp("sentence_transformers")
    bert.save_pretrained(str(target))
    return target


def opened(folder, **changes):
    return open_encoder(settings(folder, library="sentence-transformers", **changes), "text", CPU)


def test_rows_are_unit_means_of_tokens_in_the_order_of_the_texts(folder, tiny):
    wanted = open_encoder(settings(tiny("bert"), pooling="mean"), "text", CPU).encode(TEXTS)
    rows = opened(folder).encode(TEXTS)
    torch.testing.assert_close(rows, torch.nn.functional.normalize(wanted), rtol=1e-5, atol=1e-5)
    for text, row in zip(TEXTS, rows, strict=True):
        torch.testing.assert_close(opened(folder).encode([text])[0], row, rtol=1e-5, atol=1e-5)


def test_only_the_prompt_of_the_settings_stands_before_a_text(folder):
    prompted = opened(folder, prompt="the cat ")
    assert torch.equal(prompted.encode(["dog"]), opened(folder).encode(["the cat dog"]))
    assert prompted.lengths(["dog", "a dog"]) == [5, 6]


def test_texts_are_cut_at_max_length(folder):
    cut = opened(folder, max_length=4)
    assert cut.facts()["max_length"] == 4
    torch.testing.assert_close(cut.encode(["the dog runs on grass"]), cut.encode(["the dog"]))
    assert cut.lengths(["the dog runs on grass"]) == [7]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_computes_in_the_number_format_of_the_settings(folder, dtype):
    encoder = opened(folder, dtype=dtype)
    assert next(encoder.model.parameters()).dtype == getattr(torch, dtype)
    assert encoder.encode(TEXTS).dtype == torch.float32


def test_what_its_own_files_decide_is_refused(folder):
    with pytest.raises(UserError, match="pooling: the files of a model of sentence-transformers decide: leave it out"):
        opened(folder, pooling="mean")
    with pytest.raises(UserError, match="layer: sentence-transformers gives the rows of the last layer alone"):
        opened(folder, layer=1)
    with pytest.raises(UserError, match="set `modality: text`"):
        open_encoder(settings(folder, library="sentence-transformers"), "image", CPU)
