"""The picture of a leaderboard."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from frozenalign.plots.style import I2T, MARK, NEUTRAL, T2I, literal, new_axes

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
        of_kind, above = (table["kind"] == kind).to_numpy(), (table["RSUM"] >= edge).to_numpy()
        if not of_kind.any():
            continue
        values = table["RSUM"][of_kind & above]
        lows, highs = (table[f"RSUM_{end}"][of_kind & above] for end in ("low", "high"))
        reach = np.stack([values - lows, highs - values]).clip(0)
        style = {"fmt": marker, "color": color, "capsize": 2, "ms": 5}
        axes.errorbar(values, places[of_kind & above], xerr=reach, label=kind, **style)
        for place, value in zip(places[of_kind & ~above], table["RSUM"][of_kind & ~above], strict=True):
            axes.text(edge, place, f"◂ {value:.1f}", color=color, va="center", fontsize=9)
    axes.set_xlim(left=edge)
    axes.set_ylim(-0.7, len(table) - 0.3)
    axes.set_yticks(places, [literal(name) for name in table["experiment"]])
    axes.set(title="Test RSUM with 95 % interval", xlabel="RSUM, sum of six recalls, %")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="lower right")
    return figure
