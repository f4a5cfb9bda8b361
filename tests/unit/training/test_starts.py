"""Closed forms as models: the baseline that validation chooses, saved as a linear head, and the start of another."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.closed_forms.baselines import cca_by_width
from frozenalign.closed_forms.canonical_maps import (
    CanonicalMaps,
    choose_canonical_maps,
    load_canonical_maps,
    save_canonical_maps,
)
from frozenalign.closed_forms.choice import best_of_each, choose_maps, model_of
from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.closed_forms.registry import BASELINES, Candidate, LinearPair
from frozenalign.data import pairs as pairs_module
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs, Statistics, pair_chunks
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.models.dual_encoder import DualEncoder, unit
from frozenalign.models.model_file import load_heads, save_heads
from frozenalign.system.errors import UserError
from frozenalign.training import data as data_module
from frozenalign.training.data import TrainingData
from frozenalign.training.starts import fit_start, start_from, whiten
from tests.conftest import related_embeddings
from workflow.scripts import baselines


@pytest.fixture(scope="module")
def pairs() -> tuple[ResidentPairs, ResidentPairs]:
    """120 training and 40 validation images with three captions each, (N, 12) and (M, 9), standardised."""
    images, texts, _ = related_embeddings(160, 3)
    images, texts = ((rows - rows.mean(0)) / rows.std(0) for rows in (images[::3], texts))
    owner = torch.arange(480) // 3
    return (
        ResidentPairs(images[:120], texts[:360], owner[:360]),
        ResidentPairs(images[120:], texts[360:], owner[360:] - 120),
    )


def standardized(pairs: tuple[ResidentPairs, ResidentPairs]) -> TrainingData:
    """Return pairs that are standardised already as data of a training."""
    return TrainingData(*pairs, *(Statistics(torch.zeros(width), torch.ones(width)) for width in pairs[0].widths))


def rsum(images: Tensor, texts: Tensor, text_image: Tensor) -> float:
    return summarize(retrieval_ranks(images, texts, text_image))["RSUM"]


def test_chunks_of_resident_pairs_are_all_pairs_in_order(pairs, monkeypatch):
    train, _ = pairs
    monkeypatch.setattr(pairs_module, "PAIRS_AT_ONCE", 100)
    chunks = list(pair_chunks(train))
    assert [len(texts) for _, texts in chunks] == [100, 100, 100, 60]
    images, texts = (torch.cat(part) for part in zip(*chunks, strict=True))
    assert torch.equal(texts, train.texts)
    assert torch.equal(images, train.images.repeat_interleave(3, 0))


@pytest.mark.parametrize("name", ["ridge", "procrustes", "cca"])
def test_validation_chooses_the_candidate(name, pairs):
    train, val = pairs
    moments = Moments.of_rows(train.images, train.texts, train.text_image)
    found = choose_maps(name, moments, val)
    candidates = [
        (candidate.chosen, rsum(*candidate.pair.project(val.images, val.texts), val.text_image))
        for candidate in BASELINES[name](moments)
    ]
    assert len({value for _, value in candidates}) > 1
    assert found.rsum == max(value for _, value in candidates)
    assert (found.candidate.chosen, found.rsum) in candidates


def test_of_equally_good_candidates_the_first_is_taken(pairs, monkeypatch):
    train, val = pairs
    maps = LinearPair(torch.zeros(12), torch.eye(9, 12), torch.zeros(9), torch.eye(9))
    monkeypatch.setitem(BASELINES, "twice", lambda moments: iter([Candidate({"number": 1}, maps), Candidate({}, maps)]))
    assert choose_maps("twice", Moments.of(pair_chunks(train)), val).candidate.chosen == {"number": 1}


def test_a_baseline_without_candidates_is_a_fault_that_is_named(pairs, monkeypatch):
    monkeypatch.setitem(BASELINES, "nothing", lambda moments: iter([]))
    with pytest.raises(ValueError, match="'nothing' yields no candidate"):
        choose_maps("nothing", Moments.of(pair_chunks(pairs[0])), pairs[1])


def test_a_baseline_as_a_model_computes_the_same_maps_of_raw_embeddings_also_from_its_file(pairs, tmp_path: Path):
    train, val = pairs
    maps = choose_maps("cca", Moments.of(pair_chunks(train)), val).candidate.pair
    save_heads(tmp_path / "best_model.pt", model_of(maps), {})
    raw_images, raw_texts = 5 * val.images + 3, 2 * val.texts - 1
    expected_images = unit((raw_images - maps.image_mean) @ maps.image_map.T)
    expected_texts = unit((raw_texts - maps.text_mean) @ maps.text_map.T)
    for model in (model_of(maps), load_heads(tmp_path / "best_model.pt")[0]):
        torch.testing.assert_close(model.encode_images(raw_images), expected_images)
        torch.testing.assert_close(model.encode_texts(raw_texts), expected_texts)
        assert not model.training


def begin(model: DualEncoder, pairs: tuple[ResidentPairs, ResidentPairs]) -> None:
    """Let a model start from the CCA of standardised pairs, whose statistics it does not know."""
    output_dim = model.settings["output_dim"]
    start_from(model, fit_start(standardized(pairs), [output_dim]).of_width(output_dim).pair)


def started(output_dim: int, pairs: tuple[ResidentPairs, ResidentPairs], init: str = "cca", kind: str = "linear"):
    torch.manual_seed(0)
    model = DualEncoder({"type": kind, "output_dim": output_dim, **({"init": init} if init else {})}, 12, 9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    begin(model, pairs)
    return model, before


@pytest.mark.parametrize("output_dim", [9, 20])
def test_a_linear_head_that_starts_from_cca_ranks_as_cca_does(output_dim, pairs):
    val = pairs[1]
    model, _ = started(output_dim, pairs)
    maps = choose_maps("cca", Moments.of(pair_chunks(pairs[0])), val).candidate.pair
    expected = maps.project(val.images, val.texts)
    found = model.encode_images(val.images), model.encode_texts(val.texts)
    torch.testing.assert_close(found[0] @ found[1].T, expected[0] @ expected[1].T, atol=1e-5, rtol=0)
    assert torch.count_nonzero(model.image_tower.weight[len(maps.image_map) :]) == 0
    assert torch.count_nonzero(model.text_tower.bias[len(maps.image_map) :]) == 0


def test_weights_from_cca_are_as_large_as_random_ones(pairs):
    model, before = started(9, pairs)
    ratio = model.image_tower.weight.std() / before["image_tower.weight"].std()
    assert 0.5 < ratio < 2.0


@pytest.mark.parametrize("output_dim", [2, 3, 5])
def test_a_narrow_head_starts_from_the_best_maps_of_its_own_width(output_dim, pairs):
    """Regularisers are chosen for the dimensions that are kept, not for all that CCA could give."""
    train, val = pairs
    model, _ = started(output_dim, pairs)
    best = max(
        rsum(*candidate.pair.project(val.images, val.texts), val.text_image)
        for _, candidate in cca_by_width(Moments.of(pair_chunks(train)), [output_dim])
    )
    found = rsum(model.encode_images(val.images), model.encode_texts(val.texts), val.text_image)
    assert found == pytest.approx(best)


@pytest.mark.parametrize(("kind", "init"), [("linear", "random"), ("mlp", "")])
def test_other_heads_keep_their_random_weights(kind, init, pairs):
    model, before = started(4, pairs, init, kind)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("head", ["mlp", "attention", "cross_modal", "siglip", "clip", "align", "blip"])
def test_a_tower_beside_a_path_starts_as_the_closed_form_and_learns_both(pairs, head):
    _, val = pairs
    sizes = {"hidden_dim": 16} if head != "siglip" else {}
    tokens = {"num_tokens": 2, "num_heads": 2} if head in ("attention", "cross_modal") else {}
    model = DualEncoder({"type": head, "output_dim": 9, "skip": "cca", **sizes, **tokens}, 12, 9).eval()
    begin(model, pairs)
    linear = DualEncoder({"type": "linear", "output_dim": 9, "init": "cca"}, 12, 9).eval()
    begin(linear, pairs)
    for modality in ("image", "text"):
        rows = getattr(val, f"{modality}s")
        found, expected = (getattr(each, f"{modality}_tower")(rows) for each in (model, linear))
        torch.testing.assert_close(unit(found), unit(expected), atol=1e-5, rtol=0)
    model.image_tower(val.images).square().sum().backward()
    assert model.image_tower.gate.grad.abs().sum() > 0
    assert model.image_tower.path.weight.grad.abs().sum() > 0


def test_maps_of_a_file_are_those_that_were_fitted(pairs, tmp_path):
    train, val = pairs
    moments = Moments.of(pair_chunks(train))
    chosen = choose_canonical_maps(moments, val, [2, 5, 9, 20])
    axes = PrincipalAxes.of(moments.image_covariance), PrincipalAxes.of(moments.text_covariance)
    save_canonical_maps(tmp_path / "best_model.pt", CanonicalMaps.of(chosen, axes), {})
    again, _ = load_canonical_maps(tmp_path / "best_model.pt")
    assert all(torch.equal(mine.vectors, saved.vectors) for mine, saved in zip(axes, again.axes, strict=True))
    assert all(torch.equal(mine.values, saved.values) for mine, saved in zip(axes, again.axes, strict=True))
    assert set(again.narrower) == {2, 5}
    for output_dim in (2, 5, 9, 20):
        expected = best_of_each(cca_by_width(moments, [output_dim]), val)[output_dim].candidate
        found = again.of_width(output_dim)
        assert found.chosen == expected.chosen
        assert torch.equal(found.pair.image_map, expected.pair.image_map)
        assert torch.equal(found.pair.text_map, expected.pair.text_map)


def test_a_width_that_nothing_was_chosen_for_takes_the_first_dimensions_of_the_next(pairs):
    train, val = pairs
    maps = CanonicalMaps.of(choose_canonical_maps(Moments.of(pair_chunks(train)), val, [5]))
    for output_dim, source in ((3, maps.narrower[5]), (7, maps.widest)):
        found = maps.of_width(output_dim)
        assert found.chosen == source.chosen
        assert torch.equal(found.pair.text_map, source.pair.text_map[:output_dim])


@pytest.mark.parametrize(
    "damage",
    [
        lambda maps: maps.pop("chosen"),
        lambda maps: maps["chosen"].pop("text_regularizer"),
        lambda maps: maps["narrower"].update({"wide": maps["narrower"][5]}),
        lambda maps: maps["narrower"][5].update(image_map=torch.ones(5, 11)),
        lambda maps: maps["narrower"][5].update(image_map=torch.ones(4, 12)),
        lambda maps: maps["narrower"][5]["text_map"].fill_(torch.nan),
        lambda maps: maps["narrower"][5].update(text_map="of text"),
        lambda maps: maps.update(narrower=[1, 2]),
        lambda maps: maps.pop("axes"),
        lambda maps: maps["axes"].pop("text"),
        lambda maps: maps["axes"]["text"].update(vectors=torch.eye(8)),
        lambda maps: maps["axes"]["image"].pop("values"),
        lambda maps: maps["axes"]["image"]["values"].fill_(torch.nan),
        lambda maps: maps["axes"]["image"].update(values=[1.0] * 12),
    ],
)
def test_a_damaged_file_of_maps_is_refused_in_one_sentence(pairs, tmp_path, damage):
    train, val = pairs
    path = tmp_path / "best_model.pt"
    moments = Moments.of(pair_chunks(train))
    axes = PrincipalAxes.of(moments.image_covariance), PrincipalAxes.of(moments.text_covariance)
    save_canonical_maps(path, CanonicalMaps.of(choose_canonical_maps(moments, val, [5]), axes), {})
    content = torch.load(path, weights_only=True)
    damage(content["canonical_maps"])
    torch.save(content, path)
    with pytest.raises(UserError, match=r"best_model\.pt holds no CCA: give best_model\.pt of the baseline cca"):
        load_canonical_maps(path)


def test_a_model_of_another_step_is_no_start(pairs, tmp_path):
    save_heads(tmp_path / "best_model.pt", DualEncoder({"type": "mlp", "output_dim": 4}, 12, 9), {})
    with pytest.raises(UserError, match="holds no CCA"):
        load_canonical_maps(tmp_path / "best_model.pt")


def test_heads_start_from_raw_maps_as_from_those_of_standardised_pairs(pairs):
    """The statistics of a data set change what the towers see, not what a head that starts from the CCA computes."""
    statistics = [Statistics(torch.randn(width), torch.rand(width) + 0.5) for width in (12, 9)]
    data = TrainingData(*pairs, *statistics)
    model = DualEncoder({"type": "linear", "output_dim": 9, "init": "cca"}, 12, 9)
    for layer, each in zip((model.image_statistics, model.text_statistics), statistics, strict=True):
        each.fill(layer)
    maps = fit_start(data).widest.pair
    start_from(model, maps)
    rows = zip(statistics, (pairs[1].images, pairs[1].texts), strict=True)
    images, texts = (each.mean + each.scale * standardised for each, standardised in rows)
    expected = maps.project(images, texts)
    found = model.encode_images(images), model.encode_texts(texts)
    torch.testing.assert_close(found[0] @ found[1].T, expected[0] @ expected[1].T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whitened_training_rows_vary_alike_in_every_direction(kind, pairs):
    train, _ = pairs
    settings = {"type": "mlp", "output_dim": 4, "hidden_dim": 6, "whitening": kind, "shrinkage": 0.0}
    model = DualEncoder(settings, 12, 9)
    whiten(model, standardized(pairs))
    rows = functional.linear(train.texts, model.text_tower.matrix)
    torch.testing.assert_close(torch.cov(rows.T, correction=0), torch.eye(9), atol=1e-3, rtol=1e-3)
    symmetric = torch.allclose(model.text_tower.matrix, model.text_tower.matrix.T, atol=1e-5)
    assert symmetric == (kind == "zca")


def test_heads_of_the_same_pairs_share_the_axes_that_whiten_them(pairs, monkeypatch):
    data, passes = standardized(pairs), []
    monkeypatch.setattr(data_module, "pair_chunks", lambda train: (passes.append(train), pair_chunks(train))[1])
    settings = {"type": "mlp", "output_dim": 4, "hidden_dim": 6, "shrinkage": 0.0}
    for kind in ("pca", "zca", "none"):
        whiten(DualEncoder(settings | {"whitening": kind}, 12, 9), data)
    assert passes == [data.train]
    again = standardized(pairs)
    whiten(DualEncoder(settings | {"whitening": "pca"}, 12, 9), again, data.principal_axes)
    assert passes == [data.train]


def test_axes_of_the_file_that_heads_start_from_whiten_as_those_of_their_pairs(data, data_dir, split_dir, tmp_path):
    folders = ["--data-dir", str(data_dir), "--split-dir", str(split_dir), "--output-dir", str(tmp_path)]
    baselines.main(["--baselines", "cca", *folders])
    maps, _ = load_canonical_maps(tmp_path / "cca/seed0/best_model.pt")
    matrices = []
    for known in (None, maps.axes):
        model = DualEncoder({"type": "mlp", "output_dim": 4, "whitening": "zca", "shrinkage": 0.1}, *data.train.widths)
        whiten(model, data, known)
        matrices.append(model.text_tower.matrix)
    torch.testing.assert_close(*matrices, atol=5e-3, rtol=5e-3)


def test_a_whitened_tower_keeps_its_linear_path_and_is_saved_whole(pairs, tmp_path):
    train, _ = pairs
    settings = {"type": "clip", "output_dim": 4, "hidden_dim": 6, "whitening": "zca", "shrinkage": 0.1, "skip": "cca"}
    model = DualEncoder(settings, 12, 9).eval()
    begin(model, pairs)
    whiten(model, standardized(pairs))
    save_heads(tmp_path / "model.pt", model, {})
    again, _ = load_heads(tmp_path / "model.pt")
    assert torch.equal(again.encode_images(train.images), model.encode_images(train.images))
    assert again.head.learnable_temp


def test_a_validation_set_that_cannot_choose_is_said(pairs):
    train, val = pairs
    moments = Moments.of(pair_chunks(train))
    assert choose_maps("ridge", moments, val).warnings == []
    two = ResidentPairs(train.images[:2], train.texts[train.text_image < 2], train.text_image[train.text_image < 2])
    (said,) = choose_maps("ridge", moments, two).warnings
    assert said.startswith("validation RSUM is 600.0 for every regulariser, so that none was chosen")


def test_a_single_weight_starts_from_the_closed_form():
    rows = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    pairs = ResidentPairs(rows, 2 * rows, torch.arange(40))
    model = DualEncoder({"type": "linear", "output_dim": 1, "init": "cca"}, 1, 1)
    maps = fit_start(standardized((pairs, pairs)))
    start_from(model, maps.widest.pair)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
