"""An evaluation in parts: its counts add up to those of one process; parts that do not belong together are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.pairs import PairFiles
from frozenalign.evaluation import reranking
from frozenalign.evaluation.hubness import choose_correction
from frozenalign.evaluation.parts import checked, summed_counts, write_counts
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.ranks import score_tiles
from frozenalign.evaluation.retrieval import Counts, Retrieval, evaluate, rank_arrays
from frozenalign.evaluation.shares import WHOLE, Share
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError

CPU = torch.device("cpu")
EVALUATED = {"model": "abc", "split": "test def", "captions_rule": "all"}
HEADS = {
    "linear": {},
    "cross_modal": {"hidden_dim": 16, "num_tokens": 2, "num_heads": 2, "num_layers": 1, "rerank_k": 20},
}


@pytest.fixture(scope="module", params=HEADS)
def retrieval(request, data_dir, split_dir) -> Retrieval:
    """The 40 training images, of which two are alike, in a head that has not been trained."""
    torch.manual_seed(0)
    model = DualEncoder({"type": request.param, "output_dim": 6, **HEADS[request.param]}, 12, 9).eval()
    if model.scorer is not None:
        torch.nn.init.normal_(model.scorer.compare[-1].weight, std=5.0)
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    files = PairFiles.open(*names, split_dir / "train.npz")
    projections = project_files(model, files, CPU)
    return Retrieval.of(model, files, CPU, choose_correction(projections, projections))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Tiles and blocks of queries of which 40 images and 120 captions have several."""
    monkeypatch.setitem(score_tiles.found, "cpu", 16)
    monkeypatch.setattr("frozenalign.evaluation.ranks.CANDIDATE_QUERIES", 16)
    monkeypatch.setattr(reranking, "QUERIES_AT_ONCE", 8)


def written(folder: Path, retrieval: Retrieval, parts: int, **evaluated: str) -> list[Path]:
    """Write every part as its job does and return the files."""
    for part in range(1, parts + 1):
        counts = {"test": retrieval.counts(Share(part, parts))}
        write_counts(folder / str(part), EVALUATED | evaluated, Share(part, parts), CPU, counts)
    return [folder / str(part) / "counts.npz" for part in range(1, parts + 1)]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_files_of_all_parts_add_up_to_the_counts_of_one_process(parts, retrieval, tmp_path):
    whole = retrieval.counts()
    paths = written(tmp_path, retrieval, parts)
    found = summed_counts(paths[::-1], EVALUATED, CPU)["test"]
    assert set(found.arrays) == set(whole.arrays) == set(retrieval.bounds())
    for name, expected in whole.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], expected, err_msg=name)
        assert found.arrays[name].dtype == expected.dtype
    one, several = (evaluate(retrieval, checked(each, retrieval, paths[0]), "test", "all") for each in (whole, found))
    assert json.dumps(several.metrics) == json.dumps(one.metrics)
    for name, expected in rank_arrays(one).items():
        np.testing.assert_array_equal(rank_arrays(several)[name], expected, err_msg=name)


def test_every_part_does_some_of_each_kind_of_work(retrieval):
    for part in (1, 2, 3):
        assert all(array.any() for array in retrieval.counts(Share(part, 3)).arrays.values())


@pytest.fixture
def paths(retrieval, tmp_path) -> list[Path]:
    return written(tmp_path, retrieval, 3)


def refused(paths: list[Path], evaluated: dict[str, str] = EVALUATED) -> str:
    with pytest.raises(UserError) as error:
        summed_counts(paths, evaluated, CPU)
    return str(error.value)


def changed(path: Path, **facts: object) -> None:
    """Write a part again with some of its facts changed."""
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["facts_of_counts"] = np.array(json.dumps(json.loads(str(arrays["facts_of_counts"])) | facts))
    np.savez(path, **arrays)


def facts_of(path: Path) -> dict:
    with np.load(path) as archive:
        return json.loads(str(archive["facts_of_counts"]))


def test_a_part_of_another_model_is_refused(paths):
    assert refused(paths, EVALUATED | {"model": "xyz"}) == (
        f"{paths[0]} was counted with another model: delete the file and run the step that writes it again"
    )


def test_a_part_of_another_split_and_captions_rule_is_refused(paths):
    changed(paths[1], evaluated=EVALUATED | {"split": "test xyz", "captions_rule": "first5"})
    assert "2/counts.npz was counted with another split, another captions_rule: delete" in refused(paths)


def test_a_missing_part_and_one_given_twice_are_refused(paths):
    assert refused(paths[:2]) == "--parts: found 1, 2 of 3 parts: give the file of every part once"
    assert "found 1, 2, 2 of 3 parts" in refused([*paths[:2], paths[1]])


def test_parts_of_different_divisions_are_refused(paths, retrieval, tmp_path):
    others = written(tmp_path / "others", retrieval, 2)
    assert "is one of 2 parts, " in refused([paths[0], others[1]])


def test_parts_from_unlike_devices_are_refused(paths):
    changed(paths[2], device="cuda", device_name="A GPU")
    said = refused(paths)
    assert f"{paths[2]} was computed on cuda (A GPU) and {paths[0]} on cpu (" in said
    assert "run all parts on devices of one kind" in said


def test_parts_from_another_device_than_the_rest_are_refused(paths):
    for path in paths:
        changed(path, device="cuda")
    assert f"{paths[0]} was computed on cuda, and the rest would be on cpu, where scores differ" in refused(paths)


def test_parts_whose_scores_differ_in_a_bit_are_refused(paths):
    sets = facts_of(paths[1])["sets"]
    sets["test"]["matches"][1] = "0" * 64
    changed(paths[1], sets=sets)
    assert "whose scores differ in their last digits" in refused(paths)


def test_a_score_that_differs_in_its_last_bit_is_noticed(retrieval):
    texts = retrieval.projections.texts
    nudged = replace(retrieval.projections, texts=torch.nextafter(texts, torch.tensor(2.0)))
    assert replace(retrieval, projections=nudged).counts().matches[0] != retrieval.counts().matches[0]


def test_parts_in_tiles_of_different_sizes_are_refused(paths, retrieval, monkeypatch):
    monkeypatch.setitem(score_tiles.found, "cpu", 8)
    write_counts(paths[1].parent, EVALUATED, Share(2, 3), CPU, {"test": retrieval.counts(Share(2, 3))})
    assert "were counted in tiles of different sizes because memory ran out in one of them" in refused(paths)


def test_a_file_of_another_kind_and_damaged_facts_are_refused(paths, tmp_path):
    np.savez(tmp_path / "ranks.npz", t2i=np.arange(3))
    assert refused([tmp_path / "ranks.npz"]).startswith(f"{tmp_path / 'ranks.npz'} holds no counts of an evaluation")
    changed(paths[0], part="one")
    assert f"{paths[0]}: facts: part" in refused(paths)


def test_counts_that_no_comparison_gives_are_refused(retrieval):
    whole = retrieval.counts(WHOLE)
    wrong = Counts(whole.arrays | {"t2i": whole.arrays["t2i"] + 40}, whole.tiles, whole.matches)
    with pytest.raises(UserError, match=r"counts.npz: t2i\[\d+\] is \d+, not from 0 to 39"):
        checked(wrong, retrieval, Path("counts.npz"))
    missing = {name: array for name, array in whole.arrays.items() if name != "nearest_texts"}
    with pytest.raises(UserError, match=r"nearest_texts does not hold 120 whole numbers"):
        checked(Counts(missing, whole.tiles, whole.matches), retrieval, Path("counts.npz"))
