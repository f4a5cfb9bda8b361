"""The evaluation protocol: which captions count, blocks of images, and the layout of metrics.json."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation import retrieval as evaluation
from frozenalign.evaluation.hubness import choose_correction
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.protocol import captions_by_rule
from frozenalign.evaluation.retrieval import Evaluation, Retrieval, metrics_document, rank_arrays
from frozenalign.models.dual_encoder import DualEncoder

CPU = torch.device("cpu")
RECALLS = ("R@1", "R@5", "R@10")
CIRCUMSTANCES = {"rows": "abc", "inputs": {"images.pt": "def"}, "models": ["123"], "warnings": ["few images"]}


@pytest.fixture
def files(data_dir, split_dir) -> PairFiles:
    """The 40 training images: enough for blocks."""
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    return PairFiles.open(*names, split_dir / "train.npz")


def evaluate(model: DualEncoder, files: PairFiles, name: str = "test", rule: str = "all") -> Evaluation:
    """Evaluate with the hubness correction that the same rows, as training and validation pairs, give."""
    projections = project_files(model, files, CPU)
    retrieval = Retrieval.of(model, files, CPU, choose_correction(projections, projections))
    return evaluation.evaluate(retrieval, retrieval.counts(), name, rule)


def new_model(kind: str = "linear", **parameters) -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder({"type": kind, "output_dim": 6, **parameters}, 12, 9).eval()


def reranker() -> DualEncoder:
    return new_model("cross_modal", hidden_dim=16, num_tokens=2, num_heads=2, num_layers=1, rerank_k=40)


def recalls(scores: np.ndarray, owner: np.ndarray) -> dict:
    """Count from a full score matrix (images, captions), a rival that ties standing before the match."""
    rivals = owner[None, :] != np.arange(len(scores))[:, None]
    own_scores = scores[owner, np.arange(len(owner))]
    t2i = np.array([(scores[rivals[:, j], j] >= own_scores[j]).sum() for j in range(len(owner))])
    i2t = np.array([(scores[i, rivals[i]] >= scores[i, ~rivals[i]].max()).sum() for i in range(len(scores))])
    found = {name: {f"R@{k}": 100 * (r < k).mean() for k in (1, 5, 10)} for name, r in (("i2t", i2t), ("t2i", t2i))}
    return found | {"RSUM": sum(found["i2t"].values()) + sum(found["t2i"].values())}


@torch.no_grad()
def full_scores(model: DualEncoder, files: PairFiles) -> np.ndarray:
    images, texts = (
        torch.load(file.path, weights_only=True)[rows]
        for file, rows in ((files.images, files.split.image_rows), (files.texts, files.split.text_rows))
    )
    return (model.encode_images(images).double() @ model.encode_texts(texts).double().T).numpy()


def assert_recalls(found: dict, expected: dict) -> None:
    for direction in ("i2t", "t2i"):
        assert {name: found[direction][name] for name in RECALLS} == pytest.approx(expected[direction])
    assert found["RSUM"] == pytest.approx(expected["RSUM"])


def test_all_captions_are_all_captions():
    split = SplitIndex(np.array([3, 9]), np.arange(14), np.repeat([0, 1], 7))
    assert captions_by_rule(split, "all") is split


def test_the_first_five_captions_of_an_image_are_the_first_in_the_file(rng):
    text_image = rng.permutation(np.repeat(np.arange(4), [7, 2, 5, 6]))
    split = SplitIndex(np.array([2, 5, 6, 9]), np.sort(rng.choice(100, 20, replace=False)), text_image)
    kept = captions_by_rule(split, "first5")
    expected = [i for i, image in enumerate(text_image) if (text_image[:i] == image).sum() < 5]
    assert kept.text_rows.tolist() == split.text_rows[expected].tolist()
    assert kept.text_image.tolist() == text_image[expected].tolist()
    assert np.bincount(kept.text_image).tolist() == [5, 2, 5, 5]
    assert kept.image_rows is split.image_rows


def test_the_metrics_of_a_model_are_those_of_its_full_score_matrix(files):
    model = new_model()
    found = evaluate(model, files)
    assert_recalls(found.metrics["full"], recalls(full_scores(model, files), files.split.text_image))
    assert list(found.metrics) == ["protocol", "full", "1k", "intervals", "reranked", "hubness_corrected"]
    assert found.metrics["protocol"] == {"split": "test", "images": 40, "captions": 120, "captions_rule": "all"}
    assert found.metrics["reranked"] is None
    assert len(found.ranks.t2i) == 120
    for name, (low, high) in found.metrics["intervals"]["full"]["t2i"].items():
        assert low <= found.metrics["full"]["t2i"][name] <= high


def test_fewer_images_than_a_block_have_no_result_for_blocks(files):
    assert evaluation.FOLD_IMAGES == 1000
    assert evaluate(new_model(), files).metrics["1k"] is None


@pytest.mark.parametrize(("size", "folds"), [(20, 2), (13, 3), (40, 1)])
def test_blocks_are_consecutive_disjoint_and_whole_and_their_metrics_are_averaged(size, folds, files, monkeypatch):
    monkeypatch.setattr(evaluation, "FOLD_IMAGES", size)
    model = new_model()
    found = evaluate(model, files).metrics["1k"]
    scores, owner = full_scores(model, files), files.split.text_image
    blocks = []
    for start in range(0, folds * size, size):
        texts = (owner >= start) & (owner < start + size)
        blocks.append(recalls(scores[start : start + size, texts], owner[texts] - start))
    mean = {d: {name: np.mean([block[d][name] for block in blocks]) for name in RECALLS} for d in ("i2t", "t2i")}
    assert found["folds"] == folds
    assert_recalls(found, mean | {"RSUM": np.mean([block["RSUM"] for block in blocks])})


def test_a_head_with_a_scorer_is_reported_with_and_without_re_ranking(files, monkeypatch):
    monkeypatch.setattr(evaluation, "FOLD_IMAGES", 20)
    model = reranker()
    untrained = evaluate(model, files).metrics
    assert list(untrained["reranked"]) == ["rerank_k", "full", "1k", "intervals"]
    assert untrained["reranked"]["rerank_k"] == 40
    for part in ("full", "1k", "intervals"):
        assert untrained["reranked"][part] == untrained[part]

    torch.nn.init.normal_(model.scorer.compare[-1].weight, std=5.0)
    opinionated = evaluate(model, files).metrics
    assert opinionated["full"] == untrained["full"]
    for part in ("full", "1k", "intervals"):
        assert opinionated["reranked"][part] != opinionated[part]
    assert opinionated["reranked"]["1k"]["folds"] == 2


def test_blocks_are_re_ranked_with_the_tokens_of_their_own_images(files, monkeypatch):
    """A block of the first half of the images is evaluated as a split of that half is."""
    model = reranker()
    torch.nn.init.normal_(model.scorer.compare[-1].weight, std=5.0)
    monkeypatch.setattr(evaluation, "FOLD_IMAGES", 20)
    both = evaluate(model, files).metrics["reranked"]["1k"]
    halves = []
    for start in (0, 20):
        texts = (files.split.text_image >= start) & (files.split.text_image < start + 20)
        rows = files.split.image_rows[start : start + 20], files.split.text_rows[texts]
        half = PairFiles(files.images, files.texts, SplitIndex(*rows, files.split.text_image[texts] - start))
        halves.append(evaluate(model, half).metrics["reranked"]["full"])
    for direction in ("i2t", "t2i"):
        for name, value in both[direction].items():
            assert value == pytest.approx(np.mean([half[direction][name] for half in halves])), (direction, name)


def test_every_model_is_reported_with_and_without_hubness_correction(files, monkeypatch):
    monkeypatch.setattr(evaluation, "FOLD_IMAGES", 20)
    found = evaluate(new_model(), files)
    corrected = found.metrics["hubness_corrected"]
    assert list(corrected) == ["correction", "full", "1k", "intervals"]
    assert corrected["correction"]["validation_RSUM"] == pytest.approx(corrected["full"]["RSUM"])
    assert corrected["1k"]["folds"] == 2
    for part in ("full", "1k", "intervals"):
        assert corrected[part] != found.metrics[part]


def test_the_ranks_of_every_retrieval_are_kept(files):
    plain = {"t2i", "i2t", "caption_image", "hubness_corrected_t2i", "hubness_corrected_i2t"}
    assert set(rank_arrays(evaluate(new_model(), files))) == plain
    assert set(rank_arrays(evaluate(reranker(), files))) == plain | {"reranked_t2i", "reranked_i2t"}


FACTS = {
    "dataset": "demo",
    "experiment": "linear",
    "kind": "head",
    "seed": 3,
    "epoch": 7,
    "selected": {"split": "val", "RSUM": 100.0},
    "settings": {},
}
DIAGNOSTICS = {"modality_gap": 0.5}


def test_the_document_says_who_was_evaluated_how_it_was_chosen_and_what_came_out(files):
    main = evaluate(new_model(), files, rule="first5")
    document = metrics_document(FACTS, main, DIAGNOSTICS, {}, **CIRCUMSTANCES)
    assert list(document) == [
        "format",
        "dataset",
        "experiment",
        "kind",
        "seed",
        "selected",
        "models",
        "warnings",
        "protocol",
        "full",
        "1k",
        "intervals",
        "reranked",
        "hubness_corrected",
        "diagnostics",
        "inputs",
        "extra",
    ]
    assert document["selected"] == {"split": "val", "RSUM": 100.0}
    assert document["protocol"]["captions_rule"] == "first5"
    assert document["protocol"]["rows"] == "abc"
    assert document["warnings"] == ["few images"]
    assert document["models"] == ["123"]
    assert document["inputs"] == {"images.pt": "def"}
    assert document["diagnostics"] == {"modality_gap": 0.5}
    assert document["extra"] is None
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_document_holds_every_extra_set_in_the_same_form(files):
    main = evaluate(new_model(), files)
    extra = replace(main, metrics=main.metrics | {"protocol": {"split": "val2017"}})
    document = metrics_document(FACTS, main, DIAGNOSTICS, {"val2017": extra}, **CIRCUMSTANCES)
    assert list(document["extra"]) == ["val2017"]
    assert document["extra"]["val2017"]["protocol"] == {"split": "val2017"}
    assert document["extra"]["val2017"]["full"] == main.metrics["full"]


def test_a_document_with_re_ranking_is_plain_values_as_well(files):
    document = metrics_document(FACTS, evaluate(reranker(), files), DIAGNOSTICS, {}, **CIRCUMSTANCES)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
