"""The picture of what recall costs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

from frozenalign.plots.labels import label_points
from frozenalign.plots.leaderboard import KINDS
from frozenalign.plots.style import MARK, NEUTRAL, literal, new_axes

COSTS = {
    "seconds": ("training, seconds", FuncFormatter(lambda value, _: f"{value:g}")),
    "parameters": ("parameters", EngFormatter(sep="")),
}
# A closed form may take less than the clock shows.
LEAST = {"seconds": 1e-3, "parameters": 1.0}
COMPARED = ("head", "ensemble", "baseline")
SHOWN_SHARE = 0.85


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return which of P points are on the front, (P,): every other point costs more or scores lower.

    Of points that cost and score the same, the first is on it.
    """
    order = np.lexsort((-scores, costs))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(scores[order])[:-1]])
    front = np.zeros(len(scores), bool)
    front[order] = scores[order] > before
    return front


def front_names(table: pd.DataFrame, cost: str) -> list[str]:
    """Return the experiments on the Pareto front of a leaderboard, the cheapest first."""
    table = table[table["kind"].isin(COMPARED)].sort_values([cost, "RSUM"], ascending=[True, False])
    front = pareto_front(table[cost].to_numpy(float).clip(LEAST[cost]), table["RSUM"].to_numpy())
    return table["experiment"][front].tolist()


def costs_figure(table: pd.DataFrame, costs: Sequence[str] = tuple(COSTS), width: float = 3.9) -> Figure:
    """Draw RSUM with its 95 % interval against each of the costs, columns of a leaderboard; a line is the Pareto front.

    The axis begins at 85 % of the best; what is below stands at its edge with its value. width: of a panel, in inches.
    """
    table = table[table["kind"].isin(COMPARED)].reset_index(drop=True)
    figure, every = new_axes(len(costs), width=width * len(costs), height=0.93 * width)
    for axes, cost in zip(every, costs, strict=True):
        _draw_panel(axes, table, cost)
    every[0].set_ylabel("RSUM, %")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=len(labels), fontsize=8)
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, cost: str) -> None:
    scores = table["RSUM"].to_numpy()
    edge = SHOWN_SHARE * scores.max()
    paid, shown = table[cost].to_numpy(float).clip(LEAST[cost]), np.maximum(scores, edge)
    front = pareto_front(paid, scores)
    _draw_points(axes, table, np.stack([paid, shown], axis=1), edge)
    line = np.flatnonzero(front)[np.argsort(paid[front])]
    (steps,) = axes.plot(
        paid[line], shown[line], color=MARK, linewidth=1.2, drawstyle="steps-post", label="Pareto front", zorder=1.5
    )
    _set_axes(axes, cost, paid, edge, max(scores.max(), table["RSUM_high"].max()))
    names = [
        literal(name) + (f", {score:.1f}" if score < edge else "")
        for name, score in zip(table["experiment"], scores, strict=True)
    ]
    # Names on the front have the first choice of places, from the best down.
    order = np.lexsort((-scores, ~front))
    label_points(
        axes,
        np.stack([paid, shown], axis=1)[order],
        [names[place] for place in order],
        [MARK if front[place] else NEUTRAL for place in order],
        around=steps,
        led=int(front.sum()),
    )


def _draw_points(axes: Axes, table: pd.DataFrame, points: np.ndarray, edge: float) -> None:
    """Draw the points (P, 2) of each kind in its colour, with intervals; triangles at the edge for those below it."""
    for kind, color, marker in KINDS:
        of_kind, above = (table["kind"] == kind).to_numpy(), (table["RSUM"] >= edge).to_numpy()
        these = of_kind & above
        if these.any():
            values = points[these, 1]
            ends = np.stack([values - table["RSUM_low"][these], table["RSUM_high"][these] - values]).clip(0)
            style = {"fmt": marker, "color": color, "ecolor": (color, 0.35), "ms": 5, "label": kind}
            axes.errorbar(points[these, 0], values, yerr=ends, **style)
        below = points[of_kind & ~above]
        name = "" if these.any() or not len(below) else kind
        axes.plot(below[:, 0], below[:, 1], linestyle="", marker="v", color=color, ms=5, label=name)


def _set_axes(axes: Axes, cost: str, paid: np.ndarray, edge: float, top: float) -> None:
    title, formatter = COSTS[cost]
    axes.set(xscale="log", xlabel=title)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_locator(NullLocator())
    decades = np.log10(paid.max() / paid.min()) or 1.0
    axes.set_xlim(paid.min() * 10 ** (-0.15 * decades), paid.max() * 10 ** (0.15 * decades))
    room = 0.06 * ((top - edge) or 1.0)
    axes.set_ylim(edge - room, top + room)
