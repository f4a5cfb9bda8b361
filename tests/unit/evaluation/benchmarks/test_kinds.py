"""Hard negatives and zero-shot classification on folders of rows; rows of others are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.benchmarks.folder import benchmark_rows
from frozenalign.data.pairs import PairFiles
from frozenalign.data.rows import open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.benchmarks.hard_negatives import hard_negatives
from frozenalign.evaluation.benchmarks.registry import AskedSet
from frozenalign.evaluation.benchmarks.zero_shot import zero_shot_classification
from frozenalign.evaluation.protocol import Protocol
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash

CPU = torch.device("cpu")
ENCODED = {
    **{"encoder": "minilm-l6", "library": "transformers", "name": "MiniLM", "revision": "1", "pooling": "mean"},
    **{"prompt": None, "dtype": "float32", "device_name": "CPU", "rows": 1, "refused": 0, "truncated": 0, "facts": {}},
    **{"layer": 2, "image_size": 224, "max_length": 64},
}
ENCODING = {"images": ENCODED, "texts": ENCODED, "dropped_pairs": 0}


@pytest.fixture
def model() -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder({"type": "linear", "output_dim": 6}, 12, 9).eval()


def folder_of(tmp_path: Path, images: int, texts: int, meaning: dict) -> Path:
    """Write a folder with random rows."""
    generator = torch.Generator().manual_seed(0)
    torch.save(torch.randn(images, 12, generator=generator), tmp_path / "train2017_image_embeddings.pt")
    torch.save(torch.randn(texts, 9, generator=generator), tmp_path / "train2017_text_embeddings.pt")
    (tmp_path / "rows.json").write_text(json.dumps({"format": 1} | meaning))
    return tmp_path


def write_encoding(folder: Path) -> None:
    names = ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt", "rows.json")
    record = {"format": 1, "refused_pictures": {}, "files": {name: file_hash(folder / name) for name in names}}
    (folder / "encoding.json").write_text(json.dumps(record | ENCODING))


def asked(folder: Path, kind: str, encoding: dict | None = None, widths: tuple[int, int] = (12, 9)) -> AskedSet:
    """Return what is asked in a run that trains on other rows of the given widths."""
    trained = folder / "trained"
    trained.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    paths = [trained / name for name in ("images.pt", "texts.pt")]
    for path, width in zip(paths, widths, strict=True):
        torch.save(torch.randn(8, width, generator=generator), path)
    rows = np.arange(8)
    train = PairFiles(*map(open_rows, paths), SplitIndex(rows, rows, rows))
    return AskedSet("set", kind, folder, None, Protocol(folder, folder, "test", "all"), encoding, train)


def vectors(model: DualEncoder, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = (torch.load(folder / f"train2017_{what}_embeddings.pt", weights_only=True) for what in ("image", "text"))
    with torch.no_grad():
        return tuple(
            encode(each).double().numpy()
            for encode, each in zip((model.encode_images, model.encode_texts), rows, strict=True)
        )


def test_a_row_is_right_where_the_image_is_nearer_to_its_caption(model, tmp_path, rng):
    rows = [
        {"image": int(rng.integers(20)), "caption": int(caption), "negative": int(negative)}
        for caption, negative in (rng.choice(50, 2, replace=False) for _ in range(80))
    ]
    rows.append({"image": 1, "caption": 4, "negative": 4})
    folder = folder_of(tmp_path, 20, 50, {"kind": "hard_negatives", "rows": rows})
    found = hard_negatives(asked(folder, "hard_negatives"), model, CPU)
    images, texts = vectors(model, folder)
    right = [
        images[row["image"]] @ texts[row["caption"]] > images[row["image"]] @ texts[row["negative"]] for row in rows
    ]
    assert not right[-1]
    assert found.metrics == {"accuracy": pytest.approx(100 * np.mean(right))}
    assert found.chance == {"accuracy": 50.0}
    assert found.counts == {"rows": 81, "images": len({row["image"] for row in rows})}
    low, high = found.intervals["accuracy"]
    assert low < found.metrics["accuracy"] < high
    assert found.warnings == [
        f"what encoded {folder} is unknown: the numbers hold only if it is the same encoders with the same settings"
    ]


def test_a_class_is_the_mean_of_its_prompts_and_ties_count_against_it(model, tmp_path, rng):
    prompts = [[0, 1], [2], [3, 4, 5], [6], [7], [6], [8]]
    labels = rng.integers(len(prompts), size=40).tolist()
    meaning = {"classes": list("abcdefg"), "labels": labels, "prompts": prompts}
    folder = folder_of(tmp_path, 40, 9, {"kind": "zero_shot_classification"} | meaning)
    found = zero_shot_classification(asked(folder, "zero_shot_classification"), model, CPU)
    images, texts = vectors(model, folder)
    means = np.stack([texts[of_class].mean(0) for of_class in prompts])
    scores = images @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    # Two classes have one prompt, so that neither is ever the first.
    rank = np.array([(row >= row[label] - 1e-9).sum() for row, label in zip(scores, labels, strict=True)])
    assert found.metrics == pytest.approx({f"top-{k}": 100 * (rank <= k).mean() for k in (1, 5)})
    assert found.chance == pytest.approx({"top-1": 100 / 7, "top-5": 500 / 7})
    assert found.counts == {"images": 40, "classes": 7, "prompts": 10}


def test_five_classes_or_fewer_have_no_top_5_and_classes_of_one_name_a_warning(model, tmp_path):
    meaning = {"classes": ["a", "b", "a"], "labels": [0, 1], "prompts": [[0], [1], [2]]}
    folder = folder_of(tmp_path, 2, 3, {"kind": "zero_shot_classification"} | meaning)
    found = zero_shot_classification(asked(folder, "zero_shot_classification"), model, CPU)
    assert list(found.metrics) == ["top-1"]
    assert found.warnings[-1] == "1 classes have the name of another, so that they tie and are never the first"


@pytest.mark.parametrize(
    ("meaning", "problem"),
    [
        ({"kind": "zero_shot_classification"}, "is of the kind 'zero_shot_classification', not of 'hard_negatives'"),
        ({"kind": "hard_negatives", "format": 2}, "in format 1"),
        ({"kind": "hard_negatives"}, "rows is None"),
        (
            {"kind": "hard_negatives", "rows": [{"image": 0}]},
            r"rows\[0\] is {'image': 0}: write image, caption, negative",
        ),
        ({"kind": "hard_negatives", "rows": [{"image": 2, "caption": 0, "negative": 1}]}, "is 2, not from 0 to 1"),
        ({"kind": "hard_negatives", "rows": [{"image": 0, "caption": -1, "negative": 1}]}, "is -1, not from 0 to 2"),
        ({"kind": "hard_negatives", "rows": [{"image": 0, "caption": True, "negative": 1}]}, "write a list of whole"),
    ],
)
def test_a_document_of_other_rows_is_refused(model, tmp_path, meaning, problem):
    folder = folder_of(tmp_path, 2, 3, meaning)
    with pytest.raises(UserError, match=problem):
        hard_negatives(asked(folder, "hard_negatives"), model, CPU)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"classes": ["a"]}, "at least two classes"),
        ({"prompts": [[0]]}, "a list of text rows for each class"),
        ({"prompts": [[0], []]}, r"prompts\[1\] is \[\]"),
        ({"labels": [0]}, "labels has 1 entries: write one for each of 2 images"),
        ({"labels": [0, 2]}, r"labels\[1\] is 2, not from 0 to 1"),
    ],
)
def test_classes_that_do_not_fit_the_rows_are_refused(model, tmp_path, change, problem):
    meaning = {"kind": "zero_shot_classification", "classes": ["a", "b"], "labels": [0, 1], "prompts": [[0], [1]]}
    folder = folder_of(tmp_path, 2, 3, meaning | change)
    with pytest.raises(UserError, match=problem):
        zero_shot_classification(asked(folder, "zero_shot_classification"), model, CPU)


def test_rows_that_are_not_finite_or_of_another_width_are_refused(model, tmp_path):
    rows = {"kind": "hard_negatives", "rows": [{"image": 0, "caption": 0, "negative": 1}]}
    folder = folder_of(tmp_path, 2, 3, rows)
    with pytest.raises(UserError, match="has 12 dimensions, the data of the run have 13"):
        hard_negatives(asked(folder, "hard_negatives", widths=(13, 9)), model, CPU)
    torch.save(torch.full((2, 12), torch.nan), folder / "train2017_image_embeddings.pt")
    with pytest.raises(UserError, match="2 NaN or infinite rows"):
        hard_negatives(asked(folder, "hard_negatives"), model, CPU)


def test_a_warning_counts_the_images_that_a_head_was_trained_on(model, tmp_path):
    rows = {"kind": "hard_negatives", "rows": [{"image": 0, "caption": 0, "negative": 1}]}
    folder = folder_of(tmp_path, 5, 3, rows)
    whole = asked(folder, "hard_negatives")
    images = torch.load(folder / "train2017_image_embeddings.pt", weights_only=True)
    images[1:4] = torch.load(folder / "trained" / "images.pt", weights_only=True)[2:5].half().float()
    torch.save(images, folder / "train2017_image_embeddings.pt")
    (found,) = hard_negatives(whole, model, CPU).warnings[1:]
    assert found.startswith("3 of its 5 images are in train (identical, or different by rounding), so that it does not")


@pytest.mark.parametrize(
    "key", ["library", "name", "revision", "pooling", "prompt", "layer", "image_size", "max_length"]
)
def test_a_set_of_another_encoder_is_refused_in_one_sentence(model, tmp_path, key):
    folder = folder_of(tmp_path, 2, 3, {"kind": "hard_negatives", "rows": [{"image": 0, "caption": 0, "negative": 1}]})
    write_encoding(folder)
    assert hard_negatives(asked(folder, "hard_negatives", ENCODING), model, CPU).warnings == []
    other = ENCODING | {"texts": ENCODED | {key: "other", "encoder": "e5"}}
    with pytest.raises(UserError) as refused:
        hard_negatives(asked(folder, "hard_negatives", other), model, CPU)
    own = ENCODED[key]
    assert str(refused.value) == (
        f"{folder}: its texts were encoded with {key} {own!r}, those that the head was trained on with 'other': encode "
        "the set with e5"
    )


def test_a_manifest_of_an_earlier_version_does_not_say_which_layer(model, tmp_path):
    folder = folder_of(tmp_path, 2, 3, {"kind": "hard_negatives", "rows": [{"image": 0, "caption": 0, "negative": 1}]})
    write_encoding(folder)
    earlier = {key: value for key, value in ENCODED.items() if key not in ("layer", "image_size", "max_length")}
    trained = ENCODING | {"images": earlier, "texts": earlier}
    assert hard_negatives(asked(folder, "hard_negatives", trained), model, CPU).warnings == []


def test_a_document_is_not_read_beyond_what_its_rows_need(tmp_path):
    folder = folder_of(tmp_path, 1, 1, {"kind": "hard_negatives", "rows": []})
    (folder / "rows.json").write_text(" " * (2 << 20))
    with pytest.raises(UserError, match="where at most"):
        benchmark_rows(folder, "hard_negatives")
