"""What a run's controls say: a head that was trained on wrong pairs must score chance."""

from dataclasses import dataclass

import pandas as pd

MARGIN = 2.0


@dataclass(frozen=True)
class ControlResult:
    """The test RSUM of a control, its 95 % interval, and whether it is no more than chance explains."""

    experiment: str
    rsum: float
    low: float
    high: float
    at_chance: bool


def control_results(table: pd.DataFrame, chance_rsum: float) -> list[ControlResult]:
    """Return the controls of a leaderboard, each held against the RSUM of a random order.

    A control leaks when its whole interval lies above chance and its RSUM above twice chance. The second condition is
    there because validation, on true pairs, chooses the luckiest epoch and regulariser, and because two random maps of
    correlated embeddings agree a little more than chance on some draws; what was learned is many times chance. Below
    chance counts as chance: ties rank against a head that has collapsed.
    """
    return [
        ControlResult(
            row["experiment"],
            row["RSUM"],
            row["RSUM_low"],
            row["RSUM_high"],
            at_chance=row["RSUM_low"] <= chance_rsum or row["RSUM"] <= MARGIN * chance_rsum,
        )
        for row in table[table["kind"] == "control"].to_dict("records")
    ]
