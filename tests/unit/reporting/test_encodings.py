"""The board over several encodings of one set: what validation chooses, paired comparisons, and what is refused."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenalign.evaluation.metrics import SECOND_RANKINGS
from frozenalign.evaluation.uncertainty import ImageHits
from frozenalign.reporting.encoded_sets import EncodedSet, read_set, refuse_other_pairs, similarity_table
from frozenalign.reporting.encodings import agreement, encodings_board
from frozenalign.reporting.encodings_page import render_encodings
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.system.errors import UserError

IMAGES = 1000
ROWS = {"train": "a", "train_tuning": "b", "val": "c", "test": "d"}


def recorded(name: str, **changes: Any) -> dict[str, Any]:
    found = {"encoder": name, "library": "demo", "name": "scenes", "revision": "0", "pooling": None, "prompt": None}
    found |= {"dtype": "float32", "device_name": "cpu", "rows": IMAGES, "refused": 0, "truncated": 0, "facts": {}}
    return found | changes


def encoded(images: str, texts: str, cka: float = 0.5, shared: float = 0.2, **manifest: Any) -> EncodedSet:
    described = {
        "images": 1500,
        "pairs": 1500,
        "image_dim": 16,
        "text_dim": 8,
        "hashes": {"pairs": "ids", "train2017_image_embeddings.pt": images, "train2017_text_embeddings.pt": texts},
        "rows": ROWS,
        "encoding": {"images": recorded(images), "texts": recorded(texts)},
    }
    alike = {"cka": cka, "mutual_neighbours": shared, "chance": 0.01, "images": 900, "neighbours": 10}
    return EncodedSet(Path("results") / f"set-{images}-{texts}", described | manifest, alike)


def run(of: EncodedSet, name: str, rsum: float, val: float, seed: int = 0, kind: str = "head", first: int = 0, **other):
    """One caption an image; the images from `first` on are hits in every recall, as many as give the RSUM."""
    recalls = dict.fromkeys(("R@1", "R@5", "R@10", "MedR", "MRR"), rsum / 6)
    metrics = {
        "experiment": name,
        "kind": kind,
        "seed": seed,
        "selected": {"RSUM": val},
        "warnings": [],
        "protocol": {
            "split": "test",
            "images": IMAGES,
            "captions": IMAGES,
            "captions_rule": "all",
            "rows": ROWS["test"],
        },
        "inputs": of.manifest["hashes"],
        "full": {"i2t": recalls, "t2i": recalls, "RSUM": rsum},
        **dict.fromkeys(SECOND_RANKINGS),
        **other,
    }
    ranks = np.where((np.arange(IMAGES) - first) % IMAGES < rsum / 600 * IMAGES, 0, 99)
    hits = {name: ImageHits.of(ranks, ranks, np.arange(IMAGES))}
    settings = {"kind": kind}
    return RunResult(of.folder / name / f"seed{seed}", metrics, {"parameters": 10, "seconds": 1.0}, settings, hits)


@pytest.fixture
def four() -> list[EncodedSet]:
    return [encoded(images, texts) for images, texts in product(("fine", "coarse"), ("last", "middle"))]


def board_of(sets, rsums, vals, name="mlp"):
    return encodings_board(sets, [run(of, name, *each) for of, *each in zip(sets, rsums, vals, strict=True)])


def test_validation_alone_chooses_and_all_others_are_compared_with_it(four):
    rows = board_of(four, [300, 330, 270, 300], [310, 305, 280, 290]).rows
    assert rows["RSUM"].tolist() == [330, 300, 300, 270]
    best = rows[rows["best"]].iloc[0]
    assert (best["images"], best["texts"], best["RSUM"], best["best_outcome"]) == ("fine", "last", 300, None)
    others = rows[~rows["best"]].set_index(["images", "texts"])
    assert others["best_difference"].to_dict() == {
        ("fine", "middle"): 30,
        ("coarse", "middle"): 0,
        ("coarse", "last"): -30,
    }
    assert others["best_outcome"].tolist() == ["better", "not distinguishable", "worse"]


def test_comparisons_are_of_the_same_images(four):
    """30 of 600 is a twentieth of the images; the same hits otherwise add nothing, other hits add their spread."""
    one, other = four[:2]
    paired = encodings_board(four[:2], [run(one, "mlp", 300, 2), run(other, "mlp", 330, 1)]).rows
    row = paired[~paired["best"]].iloc[0]
    assert row["best_high"] - 30 == pytest.approx(1.96 * 600 * (0.05 * 0.95 / IMAGES) ** 0.5, rel=0.1)
    apart = encodings_board(four[:2], [run(one, "mlp", 300, 2), run(other, "mlp", 330, 1, first=500)]).rows
    row = apart[~apart["best"]].iloc[0]
    assert row["best_outcome"] == "not distinguishable"
    # Nearly every image is a hit of one of both alone.
    assert row["best_high"] - row["best_low"] == pytest.approx(2 * 1.96 * 600 * (0.95 / IMAGES) ** 0.5, rel=0.1)


def test_each_head_has_the_pair_that_validation_chose_for_it_and_the_next_one(four):
    runs = [run(of, "mlp", rsum, val) for of, rsum, val in zip(four, (300, 330, 270, 240), (1, 3, 2, 0), strict=True)]
    runs += [run(of, "cca", rsum, rsum, kind="baseline") for of, rsum in zip(four, (60, 30, 90, 120), strict=True)]
    board = encodings_board(four, runs)
    heads = board.heads.set_index("experiment")
    assert heads.loc["mlp", ["images", "texts", "next_images", "next_texts"]].tolist() == [
        *("fine", "middle", "coarse", "last")
    ]
    assert heads.loc["mlp", ["RSUM", "next_difference", "next_outcome", "lowest", "highest"]].tolist() == [
        *(330, 60, "better", 240, 330)
    ]
    assert heads.loc["cca", ["images", "texts", "RSUM", "next_difference"]].tolist() == ["coarse", "middle", 120, 30]
    rows = board.rows
    assert rows[rows["best_of_head"]]["RSUM"].tolist() == [330, 120]
    assert rows[rows["best"]]["experiment"].tolist() == ["cca"], "heads and baselines are held against each other"
    assert set(rows[rows["best_of_set"]]["experiment"]) == {"cca"}


def test_seeds_are_averaged_and_ensembles_never_chosen(four):
    one = four[0]
    runs = [run(one, "mlp", 300, 10, seed) for seed in (0, 1)] + [run(one, "both", 320, 50, kind="ensemble")]
    rows = encodings_board([one], runs).rows
    assert rows[["experiment", "seeds", "best"]].to_numpy().tolist() == [["both", 1, False], ["mlp", 2, True]]


def test_variants_controls_and_corrected_rows_are_left_to_the_report_of_each_pair(four):
    one = four[0]
    corrected = {"full": {"i2t": dict.fromkeys(("R@1", "R@5", "R@10", "MedR", "MRR"), 1), "RSUM": 6.0}}
    corrected["full"]["t2i"] = corrected["full"]["i2t"]
    plain = run(one, "mlp", 300, 10, hubness_corrected=corrected)
    plain.hits["mlp, hubness-corrected"] = plain.hits["mlp"]
    runs = [plain, run(one, "mlp-x", 1, 1, kind="variant"), run(one, "shuffled", 1, 1, kind="control")]
    assert encodings_board([one], runs).rows["experiment"].tolist() == ["mlp"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hashes": {"pairs": "others"}}, "has other images or captions than"),
        ({"rows": ROWS | {"train": "x"}}, "first seen in train: bit-identical rows of images stay together"),
        ({"rows": ROWS | {"test": "x"}}, "first seen in test"),
    ],
)
def test_sets_of_other_images_or_divided_in_another_way_are_refused(four, change, said):
    refuse_other_pairs(four)
    with pytest.raises(UserError, match="set-other-last") as caught:
        refuse_other_pairs([*four, encoded("other", "last", **change)])
    assert said in str(caught.value)


def test_two_sets_with_the_same_encodings_are_refused(four):
    with pytest.raises(UserError, match="are both fine and last: leave one out"):
        refuse_other_pairs([*four, four[0]])


def test_runs_of_no_set_or_of_another_split_are_refused(four):
    runs = [run(of, "mlp", 300, 1) for of in four]
    with pytest.raises(UserError, match="is a run of none of the sets: add results/set-coarse-middle"):
        encodings_board(four[:3], runs)
    with pytest.raises(UserError, match="set-coarse-middle has no run among --runs"):
        encodings_board(four, runs[:3])
    stranger = run(encoded("fine", "last", hashes={"train2017_image_embeddings.pt": "old"}), "mlp", 1, 1)
    with pytest.raises(UserError, match="was not evaluated on the split of"):
        encodings_board(four[:1], [stranger])


def test_a_set_without_a_record_of_its_encoders_goes_by_its_name():
    one = encoded("a", "b", encoding=None)
    assert set(one.encodings.values()) == {"set-a-b"}


def test_most_similar_encoders_come_first():
    sets = [encoded("a", "x", shared=0.1), encoded("b", "x", shared=0.3, cka=None)]
    table = similarity_table(sets)
    assert table["images"].tolist() == ["b", "a"]
    assert np.isnan(table["cka"][0])


def six(similarities) -> list[EncodedSet]:
    return [encoded(f"e{place}", "t", cka=value, shared=(value or 1) ** 3) for place, value in enumerate(similarities)]


def test_rank_correlation_of_similarity_and_result_is_spearman_s():
    from scipy.stats import spearmanr

    similarities, rsums = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [60, 30, 120, 90, 90, 150]
    found = agreement(board_of(six(similarities), rsums, rsums).rows)
    wanted = spearmanr(similarities, rsums).statistic
    assert found.by_head == [
        {"experiment": "mlp", "cka": pytest.approx(wanted), "mutual_neighbours": pytest.approx(wanted)}
    ]
    # The next larger value, 0.886, is the two-sided 5 % point in tables for six pairs.
    assert found.by_chance == pytest.approx(0.829, abs=0.001)


def test_too_few_pairs_or_equal_results_have_no_rank_correlation(four):
    assert agreement(board_of(four, [1, 2, 3, 4], [1, 2, 3, 4]).rows) is None
    (row,) = agreement(board_of(six([0.1, 0.2, 0.3, 0.4, 0.5, None]), [60] * 6, [1] * 6).rows).by_head
    assert row == {"experiment": "mlp", "cka": None, "mutual_neighbours": None}


def test_the_page_shows_rows_similarity_and_what_encoded_and_escapes_names():
    sets = [encoded(f"e{place}", "<b>", cka=place / 10, shared=place / 20) for place in range(5)]
    sets.append(encoded("alone", "<b>", encoding=None))
    sets[0].manifest["encoding"]["texts"]["prompt"] = "<script>alert(1)</script>"
    runs = [run(of, "mlp", 60 + 10 * place, place) for place, of in enumerate(sets)]
    runs[0].metrics["warnings"].append("a few copies <i>")
    page = render_encodings("mine<", sets, runs, encodings_board(sets, runs))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "mine&lt;: which encodings align best, with which head?" in page
    assert "<strong>set-alone-&lt;b&gt;</strong>" in page, "validation chose the last"
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "<strong>mlp on e0 + &lt;b&gt;</strong>: a few copies &lt;i&gt;." in page
    assert "not recorded" in page


def test_each_recall_has_its_interval(four):
    row = encodings_board(four[:1], [run(four[0], "mlp", 300, 1)]).rows.iloc[0]
    by_theory = 1.96 * 100 * (0.5 * 0.5 / IMAGES) ** 0.5
    for column in ("i2t_R@1", "t2i_R@10"):
        assert row[f"{column}_high"] - row[column] == pytest.approx(by_theory, rel=0.1)
        assert row[column] - row[f"{column}_low"] == pytest.approx(by_theory, rel=0.1)


def written(folder: Path, of: EncodedSet, similarity: dict[str, Any]) -> Path:
    """Write the two files of a set that are read, in the form that the steps give them."""
    full = {"format": 2, "folder": "data", "seed": 0, "splits": {}, "unused": {"images": 0, "pairs": 0}, "missing": {}}
    full |= {"identical_image_groups": 0, "averaged_images": 0, "leak_check": "passed", "warnings": [], "extra": {}}
    manifest = full | dict(of.manifest)
    if manifest["encoding"]:
        manifest["encoding"] = {"dropped_pairs": 0} | manifest["encoding"]
    (folder / "split").mkdir(parents=True)
    (folder / "split" / "manifest.json").write_text(json.dumps(manifest))
    (folder / "encodings").mkdir()
    of_split = {"hashes": manifest["hashes"], "rows": manifest["rows"]["train"]}
    content = {"format": 1} | dict(of.similarity) | of_split | similarity
    (folder / "encodings" / "encoder_similarity.json").write_text(json.dumps(content))
    return folder


def test_a_set_is_read_as_the_steps_wrote_it(tmp_path, four):
    found = read_set(written(tmp_path / "mine", four[0], {}))
    assert (found.name, found.encodings) == ("mine", {"images": "fine", "texts": "last"})
    assert found.similarity["cka"] == 0.5


def test_the_similarity_of_another_split_is_refused(tmp_path, four):
    with pytest.raises(UserError, match=r"is not of the split in .*: run `python -m workflow.scripts.comp"):
        read_set(written(tmp_path / "mine", four[0], {"rows": "others"}))


def test_a_name_that_a_table_would_compute_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"encoding.texts.encoder: name: found '=1\+1'"):
        read_set(written(tmp_path / "mine", encoded("fine", "=1+1"), {}))
