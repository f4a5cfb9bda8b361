"""What evaluating a model on an evaluation set gives, whatever the kind of the set."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from frozenalign.evaluation.uncertainty import mean_intervals


@dataclass(frozen=True)
class Measured:
    """Metrics by name, with the same metrics of a model that ranks at random, and their 95 % intervals.

    counts: of what was measured, by name. warnings: sentences to show beside the numbers.
    """

    counts: dict[str, int]
    metrics: dict[str, float]
    chance: dict[str, float]
    intervals: dict[str, list[float]]
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def percentages(values: dict[str, np.ndarray], image: np.ndarray) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the means of values between 0 and 1, each (Q,) by name, in percent, and their intervals by image (Q,)."""
    table = 100.0 * np.stack(list(values.values()), axis=1)
    means = dict(zip(values, table.mean(0).tolist(), strict=True))
    return means, dict(zip(values, mean_intervals(table, image), strict=True))
