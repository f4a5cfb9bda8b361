"""The picture of a leaderboard."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from frozenalign.plots.figures import I2T, MARK, NEUTRAL, T2I, literal, new_axes

SHOWN_SHARE = 0.6
KINDS = (("head", I2T, "o"), ("ensemble", T2I, "D"), ("baseline", NEUTRAL, "s"), ("control", MARK, "x"))


def leaderboard_figure(table: pd.DataFrame) -> Figure:
    """Draw the RSUM of every experiment with its 95 % interval, best at the top, one colour for each kind.

    The axis begins at 60 % of the best, so that differences are visible; lower values are written at its edge.
    """
    figure, (axes,) = new_axes(width=7.5, height=1.2 + 0.3 * len(table))
    places = np.arange(len(table))[::-1]
    edge = SHOWN_SHARE * table["RSUM"].max()
    for kind, color, marker in KINDS:
        these = (table["kind"] == kind).to_numpy() & (table["RSUM"] >= edge).to_numpy()
        if these.any():
            values = table["RSUM"][these]
            reach = np.stack([values - table["RSUM_low"][these], table["RSUM_high"][these] - values]).clip(0)
            axes.errorbar(values, places[these], xerr=reach, fmt=marker, color=color, label=kind, capsize=2, ms=5)
    for place, value in zip(places, table["RSUM"], strict=True):
        if value < edge:
            axes.text(edge, place, f"◂ {value:.1f}", color=NEUTRAL, va="center", fontsize=9)
    axes.set_xlim(left=edge)
    axes.set_ylim(-0.7, len(table) - 0.3)
    axes.set_yticks(places, [literal(name) for name in table["experiment"]])
    axes.set(title="Test RSUM with 95 % interval", xlabel="RSUM, sum of six recalls, %")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="lower right")
    return figure
