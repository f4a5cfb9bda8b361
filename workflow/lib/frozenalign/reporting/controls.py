"""Controls of a run: a head that was trained on wrong pairs must score at chance."""

from typing import Any

import pandas as pd

MARGIN = 2.0


def control_results(table: pd.DataFrame, chance_rsum: float) -> list[Any]:
    """Return experiment, rsum, low, high and at_chance of the controls of a leaderboard, one named tuple each.

    A control leaks if its whole 95 % interval lies above the RSUM of a random order and its RSUM above twice that. The
    second condition allows for validation, on true pairs, choosing the luckiest epoch and regulariser, and for two
    random maps of correlated embeddings, which agree slightly more than chance on some draws; learning from a leak
    scores many times chance. Below chance counts as chance: ties rank against a head that has collapsed.
    """
    columns = {"experiment": "experiment", "RSUM": "rsum", "RSUM_low": "low", "RSUM_high": "high"}
    controls = table[table["kind"] == "control"][[*columns]].rename(columns=columns)
    at_chance = (controls["low"] <= chance_rsum) | (controls["rsum"] <= MARGIN * chance_rsum)
    return list(controls.assign(at_chance=at_chance).itertuples(index=False, name="Control"))
