"""Recall against what it costs: the front, the names that have room, and files of the same bytes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from frozenalign.plots.costs import COSTS, costs_figure, front_names, pareto_front
from frozenalign.plots.vector import svg


def board(*rows: tuple[str, str, float, float, int]) -> pd.DataFrame:
    """Rows of name, kind, RSUM, seconds and parameters, with an interval of 10 on both sides."""
    table = pd.DataFrame(rows, columns=["experiment", "kind", "RSUM", "seconds", "parameters"])
    return table.assign(RSUM_low=table["RSUM"] - 10, RSUM_high=table["RSUM"] + 10)


BOARD = board(
    ("mlp", "head", 440.0, 8.0, 1_000_000),
    ("linear", "head", 435.0, 4.0, 500_000),
    ("both", "ensemble", 445.0, 12.0, 1_500_000),
    ("slow", "head", 430.0, 40.0, 3_000_000),
    ("cca", "baseline", 410.0, 1.0, 40_000),
    ("ridge", "baseline", 200.0, 0.2, 130_000),
    ("shuffled", "control", 5.0, 8.0, 1_000_000),
)


def beaten(costs: np.ndarray, scores: np.ndarray, i: int) -> bool:
    """Return whether another point is at least as good in both and better in one, or the same and before it."""
    for j in range(len(costs)):
        at_least = costs[j] <= costs[i] and scores[j] >= scores[i]
        same = costs[j] == costs[i] and scores[j] == scores[i]
        if at_least and (not same or j < i):
            return True
    return False


@pytest.mark.parametrize("distinct", [3, 100])
def test_the_front_has_the_points_that_no_other_beats(distinct, rng):
    for _ in range(50):
        costs, scores = rng.integers(distinct, size=(2, 12)).astype(float)
        assert pareto_front(costs, scores).tolist() == [not beaten(costs, scores, i) for i in range(12)]


def test_the_front_is_named_from_the_cheapest_and_controls_are_on_none():
    assert front_names(BOARD, "seconds") == ["ridge", "cca", "linear", "mlp", "both"]
    assert front_names(BOARD, "parameters") == ["cca", "linear", "mlp", "both"]


def test_every_model_stands_at_its_cost_and_what_is_far_below_at_the_edge_with_its_value():
    figure = costs_figure(BOARD)
    edge = 0.85 * 445.0
    for axes, cost in zip(figure.axes, COSTS, strict=True):
        drawn = {tuple(point) for line in axes.lines for point in line.get_xydata().tolist()}
        for row in BOARD[BOARD["kind"] != "control"].itertuples():
            assert (getattr(row, cost), max(row.RSUM, edge)) in drawn, (row.experiment, cost)
        names = [text.get_text() for text in axes.texts]
        assert {"both", "mlp", "linear", "cca", "ridge, 200.0"} <= set(names)
        assert "shuffled" not in names


def test_no_name_covers_a_name_or_leaves_the_axes():
    crowd = board(*((f"head-{i}", "head", 400.0 + i % 3, 5.0 + 0.02 * i, 1000) for i in range(40)))
    figure = costs_figure(crowd)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert 0 < len(boxes) < 40
        frame = axes.get_window_extent().padded(1)
        for i, box in enumerate(boxes):
            assert not box.count_overlaps(boxes[i + 1 :])
            assert frame.contains(*box.p0)
            assert frame.contains(*box.p1)


def test_a_name_is_nearest_to_its_own_point_or_has_a_line_to_it():
    crowd = board(
        *((f"head-{i}", "head", 430.0 + 3 * i, 5.0 + i, 1000 * 2**i) for i in range(6)),
        ("wide", "head", 185.0, 20.0, 12_800),
        ("raw_cosine", "baseline", 90.0, 0.1, 2_112),
        ("narrow", "head", 120.0, 20.0, 2_600),
    )
    figure = costs_figure(crowd)
    FigureCanvasAgg(figure).draw()
    for axes, cost in zip(figure.axes, COSTS, strict=True):
        edge = 0.85 * crowd["RSUM"].max()
        points = crowd[[cost, "RSUM"]].to_numpy(float)
        centers = axes.transData.transform(np.stack([points[:, 0], points[:, 1].clip(edge)], axis=1))
        for text in axes.texts:
            own = crowd["experiment"].tolist().index(text.get_text().partition(",")[0])
            box = Text.get_window_extent(text)
            away = np.hypot(*np.maximum(np.maximum(box.min - centers, centers - box.max), 0).T)
            assert text.arrow_patch is not None or away[own] == away.min(), (cost, text.get_text())
        named = {text.get_text().partition(",")[0] for text in axes.texts}
        assert set(front_names(crowd, cost)) <= named


def test_the_legend_names_a_kind_that_stands_at_the_edge_alone():
    figure = costs_figure(board(("cca", "baseline", 440.0, 1.0, 100), ("mlp", "head", 120.0, 8.0, 1000)))
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"head", "baseline", "Pareto front"}


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_a_single_model_has_a_figure(seconds):
    svg(costs_figure(board(("cca", "baseline", 5.0, seconds, 0))), "alone")


def test_the_same_figure_is_the_same_file_without_a_date():
    first, second = (svg(costs_figure(BOARD), "frozenalign: costs") for _ in range(2))
    assert first == second
    assert b"<title>frozenalign: costs</title>" in first
    assert b"dc:date" not in first
    assert b"<text" not in first, "letters are shapes"
