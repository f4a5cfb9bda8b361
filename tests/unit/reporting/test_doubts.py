"""Warnings stand beside the numbers that they are about, and runs that do not belong together are refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from frozenalign.reporting.belonging import refuse_other_members, refuse_other_split, refuse_other_studies
from frozenalign.reporting.leaderboard import RunResult, doubts, leaderboard
from frozenalign.system.errors import UserError
from frozenalign.system.files import write_json
from tests.unit.reporting.test_leaderboard import result

MANIFEST = {"rows": {"test": "abc"}, "hashes": {"images.pt": "1", "texts.pt": "2", "train2017_metadata.json": "3"}}


def warned(run: RunResult, *warnings: str) -> RunResult:
    return replace(run, metrics=run.metrics | {"warnings": list(warnings)})


def test_what_all_runs_share_is_said_once_and_the_rest_by_row():
    runs = [
        warned(result("a", 200, 210), "val has few images"),
        warned(result("b", 300, 310, 0), "val has few images"),
        warned(result("b", 300, 310, 1), "val has few images", "small batches"),
        warned(result("c", 300, 310), "small batches", "val has few images", "no average"),
    ]
    found = doubts(runs)
    assert found.of_all == ["val has few images"]
    assert found.of_rows == {"b": ["small batches"], "c": ["small batches", "no average"]}
    assert found.of_some == {"small batches": ["b", "c"], "no average": ["c"]}
    assert len(found) == 3


def test_sound_runs_leave_no_doubt():
    assert len(doubts([result("a", 200, 210)])) == 0


def test_the_table_has_the_warnings_of_every_row():
    board = leaderboard([warned(result("a", 300, 210, reranked=310), "one", "two"), result("b", 200, 210)])
    assert board["warnings"].tolist() == ["one; two", "one; two", ""]


def evaluated(rows: str = "abc", **inputs: str) -> RunResult:
    run = result("a", 200, 210)
    metrics = {"protocol": {"split": "test", "rows": rows}, "inputs": MANIFEST["hashes"] | inputs}
    return replace(run, metrics=run.metrics | metrics)


def test_runs_of_the_split_are_taken_whatever_else_they_read():
    captions = {"train2017_metadata.json": "others"}
    refuse_other_split([evaluated(), evaluated(**captions, **{"val2017.pt": "3"})], MANIFEST, Path("manifest.json"))


@pytest.mark.parametrize("run", [evaluated(rows="def"), evaluated(**{"texts.pt": "3"})])
def test_runs_of_another_split_or_other_embeddings_are_refused(run):
    with pytest.raises(UserError, match=r"was not evaluated on the split of split/manifest.json"):
        refuse_other_split([evaluated(), run], MANIFEST, Path("split/manifest.json"))


def of_model(run: RunResult, *models: str, members: Sequence[tuple[str, int]] = ()) -> RunResult:
    """Return a run of these models; with members, an ensemble of them."""
    settings = {"kind": run.metrics["kind"]}
    if members:
        settings["ensemble"] = {"members": [{"experiment": name, "seed": seed} for name, seed in members]}
    return replace(run, folder=Path(run.experiment), facts=run.facts | {"models": list(models)}, settings=settings)


HEADS = [of_model(result("a", 200, 210, seed), f"model {seed}") for seed in (0, 1)]
BOTH = of_model(result("both", 300, 310, kind="ensemble"), "model 0", "model 1", members=[("a", 0), ("a", 1)])


def test_an_ensemble_stands_beside_its_members_and_without_them():
    other = of_model(result("a", 200, 210, seed=2), "model 2")
    for runs in ([BOTH], [BOTH, HEADS[1]], [*HEADS, BOTH, other]):
        refuse_other_members(runs)


@pytest.mark.parametrize("models", [["model 3"], []])
def test_an_ensemble_of_another_model_than_its_member_has_is_refused(models):
    retrained = of_model(HEADS[1], *models)
    with pytest.raises(
        UserError, match=r"^both was put .* another model of 'a', seed 1, than a: run the ensemble step"
    ):
        refuse_other_members([BOTH, HEADS[0], retrained])


EMBEDDINGS = {"train2017_image_embeddings.pt": "1", "train2017_text_embeddings.pt": "2"}
ROWS = {"train": "t", "train_tuning": "u", "val": "v", "test": "abc"}
DIVIDED = {"rows": ROWS, "hashes": EMBEDDINGS, "warnings": [], "extra": {}}
STUDY = {"format": 2, "study": "quick", "importances": {}}
STUDIED = {"images": "1", "texts": "2", "train": "u", "val": "v"}


@pytest.mark.parametrize("train", ["t", "u"])
def test_a_study_on_either_training_rows_of_the_split_is_taken(train, tmp_path):
    write_json(tmp_path / "study.json", STUDY | {"inputs": STUDIED | {"train": train}})
    refuse_other_studies([tmp_path], DIVIDED, Path("manifest.json"))


@pytest.mark.parametrize("part", STUDIED)
def test_a_study_of_other_embeddings_or_other_rows_is_refused(part, tmp_path):
    write_json(tmp_path / "own" / "study.json", STUDY | {"inputs": STUDIED})
    write_json(tmp_path / "quick" / "study.json", STUDY | {"inputs": STUDIED | {part: "other"}})
    said = r"quick is a study of other embeddings or of another split than split/manifest.json describes: "
    with pytest.raises(UserError, match=said):
        refuse_other_studies([tmp_path / "own", tmp_path / "quick"], DIVIDED, Path("split/manifest.json"))


def test_the_same_seed_twice_is_refused():
    runs = [result("a", 200, 210, seed=1), replace(result("a", 204, 214, seed=1), folder=Path("another"))]
    with pytest.raises(UserError, match=r"another and unused are both 'a' with seed 1: leave one out"):
        leaderboard(runs)


def test_seeds_with_different_settings_are_refused():
    runs = [replace(result("a", 200, 210, seed), settings={"seed": seed, "loss": {"type": "clip"}}) for seed in (0, 1)]
    leaderboard(runs)
    runs[1].settings["loss"] = {"type": "siglip"}
    with pytest.raises(UserError, match=r"are seeds of 'a' with different settings"):
        leaderboard(runs)


def test_runs_on_other_test_images_are_refused_though_their_captions_are_as_many():
    runs = [
        replace(run, metrics=run.metrics | {"protocol": {"rows": run.experiment}})
        for run in (result("a", 200, 210), result("b", 200, 210))
    ]
    with pytest.raises(UserError, match="are evaluated on other test rows"):
        leaderboard(runs)
