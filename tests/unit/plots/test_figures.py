"""Pictures show the numbers they were given, whatever a run or a study has to show."""

import errno
import io
import os
import warnings

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from frozenalign.plots.drawing import draw
from frozenalign.plots.figures import embedding_map, recall_at_k, similarity_histogram, training_curves
from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.plots.style import IMAGE, TEXT
from frozenalign.plots.tuning import optimization_history, parameter_importance
from frozenalign.system.errors import UserError


def png(figure: Figure) -> Image.Image:
    """Draw a figure as the workflow saves it; a warning would stand in the log of a run."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(stream, dpi=50, bbox_inches="tight")
    return Image.open(stream)


def drawn(axes: Axes, label: str) -> list[tuple[float, float]]:
    """Return the points of the line with this label."""
    line = next(line for line in axes.lines if line.get_label() == label)
    return [tuple(point) for point in line.get_xydata().tolist()]


def scattered(axes: Axes, label: str) -> list[tuple[float, float]]:
    points = next(points for points in axes.collections if points.get_label() == label)
    return [tuple(point) for point in np.ma.getdata(points.get_offsets()).tolist()]


def marked(axes: Axes) -> list[float]:
    """Return the places of the vertical lines."""
    return [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]]


def record(epoch: int, recall: float, **trained) -> dict:
    val = {direction: {f"R@{k}": recall + k + gain for k in (1, 5, 10)} for direction, gain in (("i2t", 0), ("t2i", 3))}
    return {"epoch": epoch, "val": val, "loss_terms": {}} | trained


def history(terms: bool) -> dict:
    records = [
        record(0, 10.0),
        record(1, 40.0, loss=3.0, learning_rate=1e-3),
        record(2, 30.0, loss=2.5, learning_rate=0),
    ]
    for each in records if terms else []:
        each["loss_terms"] = {"temperature": 0.07 - 0.01 * each["epoch"]}
    return {"best_epoch": 1, "monitor": "RSUM", "epochs": records}


@pytest.mark.parametrize("terms", [True, False], ids=["learned temperature", "fixed temperature"])
def test_training_curves_show_every_epoch_and_mark_the_chosen_one(terms):
    figure = training_curves(history(terms), "mlp, seed 0")
    loss, recall, rate, *learned = figure.axes
    assert drawn(loss, "_child0") == [(1, 3.0), (2, 2.5)]
    assert drawn(rate, "_child0") == [(1, 1e-3), (2, 0.0)]
    assert len(recall.get_legend().get_texts()) == 6
    assert drawn(recall, "i2t R@1") == [(0, 11.0), (1, 41.0), (2, 31.0)]
    assert drawn(recall, "t2i R@10") == [(0, 23.0), (1, 53.0), (2, 43.0)]
    assert [marked(each) for each in (loss, recall, rate)] == [[1], [1], [1]]
    assert figure.get_suptitle() == "mlp, seed 0: training, epoch 1 chosen by validation RSUM"
    assert len(learned) == terms
    for axes in learned:
        assert drawn(axes, "temperature") == [(0, 0.07), (1, pytest.approx(0.06)), (2, pytest.approx(0.05))]
    assert png(figure).width > 300


def test_training_that_never_got_past_its_start_has_curves_as_well():
    figure = training_curves({"best_epoch": 0, "monitor": "RSUM", "epochs": [record(0, 10.0)]}, "linear")
    assert drawn(figure.axes[1], "i2t R@5") == [(0, 15.0)]
    png(figure)


def test_recall_at_k_is_the_share_of_queries_whose_match_is_among_the_first_k():
    i2t, t2i = np.array([0, 0, 4, 99]), np.array([0, 1, 2, 3, 9, 10, 50, 100])
    figure = recall_at_k(i2t, t2i, "mlp")
    (axes,) = figure.axes
    image_to_text, text_to_image = (dict(drawn(axes, name)) for name in ("image to text", "text to image"))
    assert list(image_to_text) == list(range(1, 101))
    assert [image_to_text[k] for k in (1, 4, 5, 99, 100)] == [50.0, 50.0, 75.0, 75.0, 100.0]
    assert [text_to_image[k] for k in (1, 3, 10, 11, 100)] == [12.5, 37.5, 62.5, 75.0, 87.5]
    chance = dict(drawn(axes, "chance, text to 4 images"))
    assert [chance[k] for k in (1, 3, 4, 100)] == [25.0, 75.0, 100.0, 100.0]
    png(figure)


@pytest.mark.parametrize(
    ("matches", "overlap"), [([0.8, 0.9], 0), ([0.0, 0.2], 100), ([0.0, 0.9], 50)], ids=["apart", "same", "half"]
)
def test_the_similarity_histogram_says_how_much_matches_and_others_overlap(matches, overlap):
    figure = similarity_histogram(np.array(matches), np.array([0.0, 0.2]), "mlp")
    (axes,) = figure.axes
    assert axes.get_title() == f"mlp: similarity of pairs, overlap {overlap} %"
    others, own = axes.containers
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["non-matching pairs", "matching pairs"]
    for bars, values in ((others, [0.0, 0.2]), (own, matches)):
        filled = [bar for bar in bars if bar.get_height()]
        assert sum(bar.get_height() * bar.get_width() for bar in filled) == pytest.approx(1.0)
        edges = [(bar.get_x() - 1e-9, bar.get_x() + bar.get_width() + 1e-9) for bar in filled]
        assert all(low <= value <= high for (low, high), value in zip(edges, sorted(values), strict=True))
    png(figure)


def test_similarities_that_are_all_equal_overlap_wholly():
    figure = similarity_histogram(np.ones(5), np.ones(9), "collapsed")
    assert figure.axes[0].get_title() == "collapsed: similarity of pairs, overlap 100 %"
    png(figure)


@pytest.mark.parametrize("others", [0, 1, 5])
@pytest.mark.parametrize("matches", [1, 2, 5])
@pytest.mark.parametrize("spread", [0.0, 6e-8, 2e-6, 1e-4])
@pytest.mark.parametrize("centre", [-1.0, 0.0, 0.99])
def test_similarities_of_one_image_with_nearly_equal_captions_are_drawn(matches, others, spread, centre):
    near = [np.float32(centre) + np.float32(spread) * np.linspace(0, 1, n, dtype=np.float32) for n in (matches, others)]
    figure = similarity_histogram(*near, "one image")
    for bars in figure.axes[0].containers:
        heights = np.array([bar.get_height() for bar in bars])
        assert np.isfinite(heights).all()
        assert sum(heights * [bar.get_width() for bar in bars]) == pytest.approx(1.0)
    assert len(figure.axes[0].containers) == 1 + (others > 0)


def test_the_map_joins_the_two_of_a_pair(rng):
    images, texts = rng.random((7, 2)), rng.random((7, 2))
    figure = embedding_map(images, texts, "mlp", "PCA")
    (axes,) = figure.axes
    assert scattered(axes, "image") == [tuple(point) for point in images.tolist()]
    assert scattered(axes, "text") == [tuple(point) for point in texts.tolist()]
    colors = [matplotlib.colors.to_hex(points.get_facecolor()[0]).upper() for points in axes.collections]
    assert colors == [IMAGE, TEXT]
    segments = axes.lines[0].get_xydata().reshape(7, 3, 2)
    np.testing.assert_array_equal(segments[:, 0], images)
    np.testing.assert_array_equal(segments[:, 1], texts)
    assert np.isnan(segments[:, 2]).all()
    assert axes.get_title() == "mlp: 7 pairs, PCA"
    png(figure)


@pytest.mark.parametrize(
    "kinds",
    [
        ["head", "baseline", "head"],
        ["ensemble", "baseline", "head"],
        ["head"] * 3,
        ["baseline"] * 3,
        ["head", "baseline", "control"],
    ],
)
def test_the_leaderboard_shows_values_and_intervals_best_at_the_top(kinds):
    table = pd.DataFrame(
        {
            "experiment": ["siglip", "ridge", "linear"],
            "kind": kinds,
            "RSUM": [300.0, 250.0, 200.0],
            "RSUM_low": [290.0, 245.0, 180.0],
            "RSUM_high": [320.0, 252.0, 201.0],
        }
    )
    figure = leaderboard_figure(table)
    (axes,) = figure.axes
    heights = dict(zip((label.get_text() for label in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert heights["siglip"] > heights["ridge"] > heights["linear"]
    points, intervals = {}, {}
    for container in axes.containers:
        line, _, (bars,) = container
        points |= {height: value for value, height in line.get_xydata().tolist()}
        intervals |= {bar[0][1]: (bar[0][0], bar[1][0]) for bar in bars.get_segments() if len(bar)}
    for row in table.itertuples():
        assert points[heights[row.experiment]] == row.RSUM
        assert intervals[heights[row.experiment]] == pytest.approx((row.RSUM_low, row.RSUM_high))
    png(figure)


def test_what_is_far_below_the_best_stands_at_the_edge_as_a_number():
    table = pd.DataFrame(
        {
            "experiment": ["mlp", "raw_cosine"],
            "kind": ["head", "baseline"],
            "RSUM": [400.0, 3.5],
            "RSUM_low": [390.0, 2.4],
            "RSUM_high": [410.0, 5.0],
        }
    )
    (axes,) = leaderboard_figure(table).axes
    assert axes.get_xlim()[0] == 240.0
    assert [text.get_text() for text in axes.texts] == ["◂ 3.5"]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == set(table["kind"])


def trials(*rows: tuple[str, float | None]) -> pd.DataFrame:
    return pd.DataFrame([{"number": i, "state": state, "value": value} for i, (state, value) in enumerate(rows)])


def test_the_history_of_a_study_shows_every_trial_and_the_best_so_far():
    table = trials(
        ("COMPLETE", 100.0),
        ("PRUNED", 40.0),
        ("COMPLETE", 300.0),
        ("FAIL", None),
        ("COMPLETE", 200.0),
        ("PRUNED", None),
    )
    figure = optimization_history(table, "quick")
    (axes,) = figure.axes
    assert scattered(axes, "complete") == [(0, 100.0), (2, 300.0), (4, 200.0)]
    assert scattered(axes, "pruned") == [(1, 40.0)]
    assert drawn(axes, "best so far") == [(0, 100.0), (2, 300.0), (4, 300.0)]
    assert marked(axes) == [3]
    assert axes.get_title() == "quick: 6 trials, 1 failed (dotted)"
    assert axes.get_ylabel() == "validation RSUM, %"
    assert optimization_history(table, "quick", "t2i R@1").axes[0].get_ylabel() == "validation t2i R@1, %"
    png(figure)


@pytest.mark.parametrize(
    ("state", "value", "title"),
    [("FAIL", None, "3 trials, 3 failed (dotted)"), ("PRUNED", 7.0, "3 trials"), ("PRUNED", None, "3 trials")],
)
def test_a_study_without_a_completed_trial_has_a_history_as_well(state, value, title):
    figure = optimization_history(trials(*[(state, value)] * 3), "quick")
    (axes,) = figure.axes
    assert axes.get_title() == f"quick: {title}"
    assert scattered(axes, "complete") == []
    assert "best so far" not in [line.get_label() for line in axes.lines]
    assert len(marked(axes)) == (3 if state == "FAIL" else 0)
    png(figure)


def test_importances_are_bars_with_the_largest_at_the_top():
    figure = parameter_importance({"model.dropout": 0.25, "training.learning_rate": 0.7, "loss.temperature": 0.05}, "q")
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["loss.temperature", "model.dropout", "training.learning_rate"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([5.0, 25.0, 70.0])
    assert axes.get_xlim()[1] >= 70.0
    png(figure)


def test_without_importances_the_picture_says_why_it_is_empty():
    figure = parameter_importance({}, "quick")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["Too few complete trials to tell which parameters matter."]
    assert not axes.patches
    assert png(figure).height < 50 * figure.get_figheight() + 20
    middle = axes.texts[0].get_window_extent()
    assert axes.bbox.contains(middle.x0 + middle.width / 2, middle.y0 + middle.height / 2)


def test_a_picture_that_is_up_to_date_but_cannot_be_dated_is_refused_in_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    assert draw(path, "these data", Figure)
    assert not draw(path, "these data", Figure)

    def refused(_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refused)
    with pytest.raises(UserError, match=r"cannot write .*picture\.png: the file system is read-only"):
        draw(path, "these data", Figure)
