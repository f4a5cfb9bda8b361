"""Pictures of several encodings of one set: how alike the encoders are, and what heads make of each pair."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frozenalign.plots.style import MARK, NEUTRAL, literal, new_axes

MAP = "Blues"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B7280", "#111827")
MARKERS = "osD^vP*X"
CELL = 0.62
MARGIN = 2.4


def similarity_figure(table: pd.DataFrame) -> Figure:
    """Draw CKA and mutual neighbours of every pair of encodings as two maps, images down and texts across.

    table: one row for each pair with images, texts, cka, mutual_neighbours and chance_neighbours.
    """
    grids = {
        "debiased CKA, 0 by chance": _grid(table, "images", "texts", "cka"),
        f"mutual k-NN, {table['chance_neighbours'].iloc[0]:.2g} by chance": _grid(
            table, "images", "texts", "mutual_neighbours"
        ),
    }
    first = next(iter(grids.values()))
    width = 2 * (MARGIN + max(1.2, CELL * first.shape[1]))
    figure, both = new_axes(2, width=width, height=1.9 + CELL * len(first))
    for axes, (title, grid) in zip(both, grids.items(), strict=True):
        _draw_map(axes, grid, title, "{:.3f}")
    return figure


def matrix_figure(table: pd.DataFrame) -> Figure:
    """Draw the test RSUM of every head (across) on every pair of encodings (down); ◆ marks the best pair of a head.

    table: one row for each head and pair with pair, experiment, RSUM and chosen_of_head, in the order to be drawn.
    """
    grid = _grid(table, "pair", "experiment", "RSUM")
    chosen = _grid(table.assign(chosen=table["chosen_of_head"].astype(float)), "pair", "experiment", "chosen")
    longest = max(map(len, grid.index))
    width = 1.0 + 0.085 * longest + 0.95 * grid.shape[1]
    figure, (axes,) = new_axes(width=width, height=1.7 + 0.42 * len(grid))
    _draw_map(axes, grid, "Test RSUM by pair of encodings and head", "{:.1f}", chosen.fillna(0).to_numpy() > 0)
    return figure


def agreement_figure(table: pd.DataFrame, measures: Mapping[str, str], heads: Sequence[str]) -> Figure:
    """Draw the test RSUM of some heads over each measure of the encoders' similarity, one point for each pair.

    table: one row for each head and pair with experiment, RSUM and the measures. measures: titles by column.
    """
    figure, every = new_axes(len(measures), width=5.2 * len(measures), height=4.0)
    for axes, (measure, title) in zip(every, measures.items(), strict=True):
        for place, head in enumerate(heads):
            of_head = table[table["experiment"] == head].sort_values(measure)
            style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
            axes.plot(of_head[measure], of_head["RSUM"], linestyle="none", markersize=5, label=literal(head), **style)
        axes.set(xlabel=f"{title} of the encoders, before training", ylabel="test RSUM")
    every[-1].legend(frameon=False, fontsize=8)
    return figure


def _grid(table: pd.DataFrame, down: str, across: str, value: str) -> pd.DataFrame:
    """Return the values as a table of rows by columns, both in the order in which they first appear."""
    grid = table.pivot(index=down, columns=across, values=value)
    return grid.loc[list(dict.fromkeys(table[down])), list(dict.fromkeys(table[across]))]


def _draw_map(axes: Axes, grid: pd.DataFrame, title: str, form: str, marked: np.ndarray | None = None) -> None:
    values = grid.to_numpy(float)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    axes.imshow(values, cmap=MAP, vmin=low - 0.15 * (high - low), vmax=high + 0.25 * (high - low) + 1e-9, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = form.format(value) if np.isfinite(value) else "–"
        mark = marked is not None and marked[row, column]
        light = np.isfinite(value) and value > low + 0.75 * (high - low)
        color = "white" if light and high > low else MARK if np.isfinite(value) else NEUTRAL
        style = {"color": color, "weight": "bold" if mark else "normal", "fontsize": 9}
        axes.text(column, row, f"◆ {text}" if mark else text, ha="center", va="center", **style)
    axes.set_xticks(range(grid.shape[1]), [literal(str(name)) for name in grid.columns], rotation=35, ha="right")
    axes.set_yticks(range(grid.shape[0]), [literal(str(name)) for name in grid.index])
    axes.set_title(title, fontsize=10)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
