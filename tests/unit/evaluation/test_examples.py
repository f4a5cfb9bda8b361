"""Retrieval examples: the same queries for every model, their true best five, the worst, and what they are called."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.data.embeddings import Metadata
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.examples import retrieval_examples, worst_queries
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.retrieval import Evaluation

IMAGES, CAPTIONS = 12, 30


@pytest.fixture
def split(rng) -> SplitIndex:
    """Twelve images with thirty captions in no order, at rows 100 to 129 of a larger file."""
    owner = rng.permutation(np.concatenate([np.arange(IMAGES), rng.integers(IMAGES, size=CAPTIONS - IMAGES)]))
    return SplitIndex(np.arange(50, 50 + IMAGES), np.arange(100, 100 + CAPTIONS), owner)


@pytest.fixture
def metadata(split) -> Metadata:
    """Row 100 + j holds `caption j`; image i has the id `id-i` and, if i is even, a file."""
    ids = ["elsewhere"] * 100 + [f"id-{image}" for image in split.text_image]
    captions = ["elsewhere"] * 100 + [f"caption {j}" for j in range(CAPTIONS)]
    files = {f"id-{image}": f"images/{image}.png" for image in range(0, IMAGES, 2)}
    return Metadata(np.array(ids), None, captions, files)


def evaluation_of(split: SplitIndex, seed: int = 0) -> Evaluation:
    generator = torch.Generator().manual_seed(seed)
    images = functional.normalize(torch.randn(len(split.image_rows), 4, generator=generator), dim=1)
    noise = torch.randn(len(split.text_rows), 4, generator=generator)
    texts = functional.normalize(images[split.text_image] + 0.7 * noise, dim=1)
    projections = Projections(images, texts, torch.from_numpy(split.text_image))
    return Evaluation(projections, projections.ranks(), {})


@pytest.fixture
def evaluation(split) -> Evaluation:
    return evaluation_of(split)


def caption_number(described: dict) -> int:
    return int(described["caption"].removeprefix("caption "))


def image_number(described: dict) -> int:
    return int(described["image_id"].removeprefix("id-"))


def test_six_different_queries_of_each_direction_with_five_candidates(evaluation, split, metadata):
    found = retrieval_examples(evaluation, split, metadata)
    assert list(found) == ["format", "image_files", "t2i", "i2t"]
    assert len({caption_number(example["query"]) for example in found["t2i"]}) == 6
    assert len({image_number(example["query"]) for example in found["i2t"]}) == 6
    assert all(len(example["candidates"]) == 5 for example in (*found["t2i"], *found["i2t"]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_candidates_of_a_caption_are_its_best_images(evaluation, split, metadata):
    scores = (evaluation.projections.texts.double() @ evaluation.projections.images.double().T).numpy()
    for example in retrieval_examples(evaluation, split, metadata)["t2i"]:
        query = caption_number(example["query"])
        expected = np.argsort(-scores[query])[:5]
        assert [image_number(candidate) for candidate in example["candidates"]] == expected.tolist()
        assert [c["score"] for c in example["candidates"]] == pytest.approx(scores[query, expected].tolist(), abs=1e-6)
        assert [c["correct"] for c in example["candidates"]] == (expected == split.text_image[query]).tolist()
        assert example["rank"] == np.flatnonzero(np.argsort(-scores[query]) == split.text_image[query])[0]


def test_candidates_of_an_image_are_its_best_captions(evaluation, split, metadata):
    scores = (evaluation.projections.images.double() @ evaluation.projections.texts.double().T).numpy()
    for example in retrieval_examples(evaluation, split, metadata)["i2t"]:
        query = image_number(example["query"])
        expected = np.argsort(-scores[query])[:5]
        assert [caption_number(candidate) for candidate in example["candidates"]] == expected.tolist()
        assert [c["score"] for c in example["candidates"]] == pytest.approx(scores[query, expected].tolist(), abs=1e-6)
        own = split.text_image == query
        assert [c["correct"] for c in example["candidates"]] == own[expected].tolist()
        assert example["rank"] == np.flatnonzero(own[np.argsort(-scores[query])])[0]


def test_a_caption_is_described_by_its_text_and_its_images_id_and_file(evaluation, split, metadata):
    for example in retrieval_examples(evaluation, split, metadata)["t2i"]:
        image = split.text_image[caption_number(example["query"])]
        file = f"images/{image}.png" if image % 2 == 0 else None
        assert example["query"]["image_id"] == f"id-{image}"
        assert example["query"]["image_file"] == file


def test_an_image_among_the_candidates_shows_its_first_caption(evaluation, split, metadata):
    for example in retrieval_examples(evaluation, split, metadata)["t2i"]:
        for candidate in example["candidates"]:
            first = np.flatnonzero(split.text_image == image_number(candidate))[0]
            assert candidate["caption"] == f"caption {first}"


def test_an_image_that_asks_does_not_give_its_caption_away(evaluation, split, metadata):
    assert {example["query"]["caption"] for example in retrieval_examples(evaluation, split, metadata)["i2t"]} == {None}


def test_every_model_answers_the_same_queries_and_a_seed_draws_others(split, metadata):
    first, other = (retrieval_examples(evaluation_of(split, seed), split, metadata) for seed in (0, 1))
    assert queries(first) == queries(other)
    assert first != other
    assert queries(retrieval_examples(evaluation_of(split), split, metadata, seed=1)) != queries(first)


def queries(examples: dict) -> list[dict]:
    return [example["query"] for direction in ("t2i", "i2t") for example in examples[direction]]


def test_without_captions_and_files_the_ids_are_left(evaluation, split, metadata):
    bare = replace(metadata, captions=None, image_files={})
    found = retrieval_examples(evaluation, split, bare)
    for described in (found["t2i"][0]["query"], found["i2t"][0]["candidates"][0]):
        assert described["image_id"].startswith("id-")
        assert described["caption"] is None
        assert described["image_file"] is None


def test_the_worst_queries_are_the_ten_captions_whose_image_ranks_lowest_worst_first(evaluation, split, metadata):
    found = worst_queries(evaluation, split, metadata)["queries"]
    ranks = evaluation.ranks.t2i + 1
    assert [query["rank"] for query in found] == sorted(ranks, reverse=True)[:10]
    for query in found:
        number = caption_number(query)
        assert query["rank"] == ranks[number]
        assert image_number(query) == split.text_image[number]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_worst_queries_of_one_rank_stand_in_file_order(evaluation, split, metadata):
    equal = replace(evaluation, ranks=replace(evaluation.ranks, t2i=np.zeros(CAPTIONS, dtype=int)))
    assert [caption_number(query) for query in worst_queries(equal, split, metadata)["queries"]] == list(range(10))


def test_worst_queries_without_captions_are_named_by_their_image(evaluation, split, metadata):
    found = worst_queries(evaluation, split, replace(metadata, captions=None))["queries"]
    assert {query["caption"] for query in found} == {None}
    assert all(query["image_id"].startswith("id-") for query in found)


def test_a_set_smaller_than_the_examples_gives_what_there_is():
    split = SplitIndex(np.array([0, 1]), np.array([0, 1, 2]), np.array([0, 1, 1]))
    metadata = Metadata(np.array(["id-0", "id-1", "id-1"]), None, ["caption 0", "caption 1", "caption 2"], {})
    found = retrieval_examples(evaluation_of(split), split, metadata)
    assert [len(example["candidates"]) for example in found["t2i"]] == [2, 2, 2]
    assert [len(example["candidates"]) for example in found["i2t"]] == [3, 3]
    assert len(worst_queries(evaluation_of(split), split, metadata)["queries"]) == 3
