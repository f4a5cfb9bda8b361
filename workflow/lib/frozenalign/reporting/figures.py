"""The figures of a report that are drawn from its board, on the page and as files beside it."""

import pandas as pd
from matplotlib.figure import Figure

from frozenalign.plots.costs import COSTS, costs_figure
from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.plots.vector import svg
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import PLAIN, parts_of

# The title of each begins with it, by which a later report knows its own files.
MARK = "frozenalign: "


def figure_files(found: Findings) -> dict[str, bytes]:
    """Return the content of the figures that stand beside the page, by file name."""
    costs = costs_figure(paid_rows(found))
    return {
        "leaderboard.svg": svg(board_figure(found), f"{MARK}RSUM with 95 % intervals"),
        "costs.svg": svg(costs, f"{MARK}RSUM against seconds of training and parameters"),
    }


def board_figure(found: Findings) -> Figure:
    """Draw the board without its hubness-corrected rows."""
    return leaderboard_figure(found.plain)


def cost_panels(found: Findings) -> dict[str, Figure]:
    """Draw RSUM against one cost, by the name of the cost on the board."""
    return {cost: costs_figure(paid_rows(found), [cost]) for cost in COSTS}


def paid_rows(found: Findings) -> pd.DataFrame:
    """Return the rows whose seconds and parameters are all that they take: none that re-rank for every query."""
    return found.plain[[parts_of(name)[1] == PLAIN for name in found.plain["experiment"]]]
