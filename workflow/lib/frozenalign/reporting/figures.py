"""The figures of a report as vector graphics."""

import pandas as pd

from frozenalign.plots.costs import COSTS, costs_figure
from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.plots.vector import svg
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import PLAIN, parts_of

# The title of each begins with it, by which a later report knows its own files.
MARK = "frozenalign: "


def figure_files(found: Findings) -> dict[str, bytes]:
    """Return the content of the figures that stand beside the page, by file name."""
    costs = svg(costs_figure(paid_rows(found)), f"{MARK}RSUM against seconds of training and parameters")
    return {"leaderboard.svg": board_svg(found), "costs.svg": costs}


def board_svg(found: Findings) -> bytes:
    """Return the picture of the board as SVG."""
    return svg(leaderboard_figure(found.plain), f"{MARK}RSUM with 95 % intervals")


def cost_panels(found: Findings) -> dict[str, bytes]:
    """Return RSUM against one cost as SVG, by the name of the cost on the board."""
    rows = paid_rows(found)
    return {cost: svg(costs_figure(rows, [cost]), f"{MARK}RSUM against {cost}") for cost in COSTS}


def paid_rows(found: Findings) -> pd.DataFrame:
    """Return the rows whose seconds and parameters are all that they take: none that re-rank for every query."""
    return found.plain[[parts_of(name)[1] == PLAIN for name in found.plain["experiment"]]]
