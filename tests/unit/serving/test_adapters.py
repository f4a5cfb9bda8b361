"""The adapters, called as CLIP_benchmark and mteb call models; where these are installed, by their own code."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from frozenalign.serving.clip_benchmark_adapter import load_exported
from frozenalign.serving.encoded_model import EncodedModel
from frozenalign.serving.export import export
from frozenalign.serving.mteb_adapter import MtebEncoder
from frozenalign.system.errors import UserError
from tests.unit.serving.conftest import random_model, save_run

pytest.importorskip("safetensors", reason="envs/requirements-export.txt is not installed")
PICTURES, CAPTIONS = 12, 2


@pytest.fixture(scope="module")
def exported(run_of_encoded, encoded, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapted") / "export"
    export(folder, run_of_encoded, encoded, None, with_onnx=False)
    return folder


@pytest.fixture(scope="module")
def pairs(encoded) -> list[tuple[Image.Image, list[str]]]:
    """The first pictures of the encoded set, opened, each with its captions."""
    metadata = json.loads((encoded / "train2017_metadata.json").read_text())
    captions = np.array(metadata["captions"], dtype=object).reshape(-1, CAPTIONS)
    ids = metadata["unique_image_ids"][:PICTURES]
    pictures = [Image.open(encoded / metadata["image_files"][str(each)]).convert("RGB") for each in ids]
    return list(zip(pictures, captions.tolist(), strict=False))


@pytest.fixture(scope="module")
def projections(exported, encoded) -> tuple[torch.Tensor, torch.Tensor]:
    """The projections of the rows that the set has: images (N, D) and texts (2 N, D)."""
    model = EncodedModel.from_pretrained(exported, "cpu").model
    images, texts = (torch.load(encoded / f"train2017_{kind}_embeddings.pt") for kind in ("image", "text"))
    return model.project_images(images[:PICTURES]), model.project_texts(texts[: PICTURES * CAPTIONS])


def recalls(projections: tuple[torch.Tensor, torch.Tensor], k: int) -> dict[str, float]:
    """Return our exact recall at K in both directions, as shares."""
    images, texts = projections
    cosines, owner = texts @ images.T, torch.arange(PICTURES).repeat_interleave(CAPTIONS)
    own = cosines.gather(1, owner[:, None])
    t2i = (cosines > own).sum(1) < k
    best = (
        torch.stack(
            [
                (cosines[:, image] > cosines[image * CAPTIONS : (image + 1) * CAPTIONS, image].max()).sum()
                for image in range(PICTURES)
            ]
        )
        < k
    )
    return {"t2i": t2i.float().mean().item(), "i2t": best.float().mean().item()}


def test_pictures_and_texts_are_projected_behind_their_encoders(exported, pairs, projections):
    model = EncodedModel.from_pretrained(exported, "cpu")
    assert torch.equal(model.encode_images([picture for picture, _ in pairs]), projections[0])
    assert torch.equal(model.encode_texts([text for _, texts in pairs for text in texts]), projections[1])


def test_a_model_of_unknown_encoders_takes_no_pictures(tmp_path):
    export(tmp_path / "export", save_run(tmp_path, random_model("linear")), None, None, with_onnx=False)
    with pytest.raises(UserError, match=r"export does not say what encoded the data"):
        EncodedModel.from_pretrained(tmp_path / "export", "cpu").encode_texts(["a cat"])


def test_clip_benchmark_gets_model_transform_and_tokenizer(exported, pairs, projections):
    model, transform, tokenizer = load_exported("any", exported, device="cpu")
    rows = torch.stack([transform(picture) for picture, _ in pairs])
    # Its functions turn autocast on unless they are told otherwise.
    with torch.autocast("cpu"):
        images, texts = model.encode_image(rows), model.encode_text(tokenizer(pairs[0][1]))
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, projections[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(texts, projections[1][:CAPTIONS], rtol=0, atol=1e-5)
    assert tokenizer("one text").shape == (1, 256)


def test_clip_benchmark_computes_our_recalls(exported, pairs, projections):
    retrieval = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    model, transform, tokenizer = load_exported("any", exported, device="cpu")
    data = DataLoader(
        [(transform(picture), texts) for picture, texts in pairs],
        batch_size=5,
        collate_fn=lambda batch: (torch.stack([rows for rows, _ in batch]), [texts for _, texts in batch]),
    )
    found = retrieval.evaluate(model, data, tokenizer, "cpu", amp=True, recall_k_list=[1, 5])
    for k in (1, 5):
        expected = recalls(projections, k)
        assert found[f"image_retrieval_recall@{k}"] == pytest.approx(expected["t2i"])
        assert found[f"text_retrieval_recall@{k}"] == pytest.approx(expected["i2t"])


def batches(key: str, items: list, size: int = 5) -> list[dict]:
    return [{key: items[start : start + size]} for start in range(0, len(items), size)]


def test_mteb_gets_vectors_of_batches_of_pictures_and_of_texts(exported, pairs, projections):
    encoder = MtebEncoder(exported, device="cpu")
    pictures, texts = [picture for picture, _ in pairs], [text for _, texts in pairs for text in texts]
    how = {"task_metadata": None, "hf_split": "test", "hf_subset": "default", "prompt_type": None, "batch_size": 5}
    images = encoder.encode(batches("image", pictures), **how)
    torch.testing.assert_close(images, projections[0])
    torch.testing.assert_close(encoder.encode(batches("text", texts), **how), projections[1])
    assert encoder.encode([], **how).shape == (0, projections[0].shape[1])
    similarities = encoder.similarity(images.numpy(), projections[1])
    torch.testing.assert_close(similarities, projections[0] @ projections[1].T)
    torch.testing.assert_close(encoder.similarity_pairwise(images, projections[1][:PICTURES]), similarities.diag())


@pytest.mark.parametrize(("batch", "said"), [({"image": [], "text": []}, "image and text"), ({"audio": []}, "neither")])
def test_mteb_batches_of_several_modalities_are_refused(exported, batch, said):
    with pytest.raises(UserError, match=f"a batch of mteb holds {said}.*: leave this task out"):
        MtebEncoder(exported, device="cpu").encode([batch])


def test_mteb_computes_our_recalls(exported, pairs, projections, tmp_path):
    mteb = pytest.importorskip("mteb")
    from datasets import Dataset
    from datasets import Image as ImageColumn
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    class Pictures(AbsTaskRetrieval):
        metadata = mteb.get_task("Flickr30kT2IRetrieval").metadata.model_copy(update={"name": "Pictures"})

        def load_data(self, **_) -> None:
            corpus = Dataset.from_dict({"id": [f"i{n}" for n in range(PICTURES)], "image": [each for each, _ in pairs]})
            texts = [text for _, texts in pairs for text in texts]
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": corpus.cast_column("image", ImageColumn()),
                        "queries": Dataset.from_dict({"id": [f"q{n}" for n in range(len(texts))], "text": texts}),
                        "relevant_docs": {f"q{n}": {f"i{n // CAPTIONS}": 1} for n in range(len(texts))},
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    encoder = MtebEncoder(exported, device="cpu")
    assert isinstance(encoder, mteb.EncoderProtocol)
    result = mteb.evaluate(encoder, Pictures(), cache=None)
    (scores,) = result.task_results[0].scores["test"]
    for k in (1, 5):
        assert scores[f"recall_at_{k}"] == pytest.approx(recalls(projections, k)["t2i"], abs=1e-5)
    assert result.model_name == "frozenalign/small-tried"
