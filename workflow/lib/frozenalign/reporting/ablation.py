"""What the parts of an experiment are worth: every variant against its base on the same test images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from frozenalign.configuration.variants import written
from frozenalign.evaluation.uncertainty import ImageHits, compared, resampled_recalls
from frozenalign.reporting.leaderboard import RunResult, refuse_mixed_protocols
from frozenalign.system.errors import UserError


def ablation(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Return one row for each variant, means over its seeds, in the order of the runs; empty where there is none.

    difference, low, high and outcome compare its test RSUM with its base's by the paired bootstrap of uncertainty.py,
    validation_difference its validation RSUM. A pair scorer's second ranking takes no part.
    """
    refuse_mixed_protocols(runs)
    runs_of = {run.experiment: [each for each in runs if each.experiment == run.experiment] for run in runs}
    variants = [own for own in runs_of.values() if own[0].is_variant]
    return pd.DataFrame([_row(own, _base_runs(own[0], runs_of)) for own in variants])


def _base_runs(variant: RunResult, runs_of: dict[str, list[RunResult]]) -> list[RunResult]:
    base = variant.settings["base"]
    if base not in runs_of:
        raise UserError(
            f"{variant.folder} is a variant of {base!r}, of which there is no run: add its folders to --runs"
        )
    return runs_of[base]


def _row(variant: Sequence[RunResult], base: Sequence[RunResult]) -> dict[str, object]:
    scores, own_base = _test_rsums(variant), _test_rsums(base)
    chosen = _validation_rsum(variant)
    first, second = resampled_recalls([_mean_hits(variant), _mean_hits(base)]).sum((2, 3)).T
    found = compared(float(scores.mean() - own_base.mean()), first, second)
    return {
        "base": base[0].experiment,
        "experiment": variant[0].experiment,
        "changes": _changes(variant[0], base[0]),
        "seeds": len(variant),
        "RSUM": scores.mean(),
        "RSUM_std": scores.std(ddof=1) if len(scores) > 1 else np.nan,
        "validation_RSUM": chosen,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "outcome": found.outcome,
        "validation_difference": chosen - _validation_rsum(base),
    }


def _test_rsums(runs: Sequence[RunResult]) -> np.ndarray:
    return np.array([run.metrics["full"]["RSUM"] for run in runs])


def _validation_rsum(runs: Sequence[RunResult]) -> float:
    return float(np.mean([run.metrics["selected"]["RSUM"] for run in runs]))


def _mean_hits(runs: Sequence[RunResult]) -> ImageHits:
    return ImageHits.mean([run.hits[run.experiment] for run in runs])


def _changes(variant: RunResult, base: RunResult) -> str:
    """Return each changed key with the base's value, where its head or loss has the key, and the variant's."""
    parts = []
    for key, value in variant.settings["changes"].items():
        section, name = key.split(".")
        before = base.settings[section]
        parts.append(f"{key}: {f'{written(before[name])} → ' if name in before else ''}{written(value)}")
    return ", ".join(parts)
