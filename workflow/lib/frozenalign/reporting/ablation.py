"""The ablation table: every variant against its base on the same test images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from frozenalign.configuration.variants import written
from frozenalign.evaluation.uncertainty import ImageHits, compared, resampled_recalls
from frozenalign.reporting.leaderboard import RunResult, refuse_mixed_protocols
from frozenalign.system.errors import UserError


def ablation(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Return one row for each variant, means over its seeds, in the order of the runs; empty without variants.

    difference, low, high and outcome compare its test RSUM with its base's by the paired bootstrap of uncertainty.py,
    validation_difference its validation RSUM. Re-ranked results are left out.
    """
    refuse_mixed_protocols(runs)
    runs_of = {run.experiment: [each for each in runs if each.experiment == run.experiment] for run in runs}
    rows = []
    for name, variant in runs_of.items():
        if variant[0].metrics["kind"] == "variant":
            base = variant[0].settings["base"]
            if base not in runs_of:
                raise UserError(
                    f"{variant[0].folder} is a variant of {base!r}, of which there is no run: add its folders to --runs"
                )
            rows.append({"base": base, "experiment": name, **_compared(variant, runs_of[base])})
    return pd.DataFrame(rows)


def _compared(variant: Sequence[RunResult], base: Sequence[RunResult]) -> dict[str, object]:
    scores, base_scores = (np.array([run.metrics["full"]["RSUM"] for run in runs]) for runs in (variant, base))
    chosen, base_chosen = (np.mean([run.metrics["selected"]["RSUM"] for run in runs]) for runs in (variant, base))
    hits = [ImageHits.mean([run.hits[run.experiment] for run in runs]) for runs in (variant, base)]
    found = compared(float(scores.mean() - base_scores.mean()), *resampled_recalls(hits).sum((2, 3)).T)
    return {
        "changes": _changes(variant[0], base[0]),
        "seeds": len(variant),
        "RSUM": scores.mean(),
        "RSUM_std": scores.std(ddof=1) if len(scores) > 1 else np.nan,
        "validation_RSUM": chosen,
        **vars(found),
        "outcome": found.outcome,
        "validation_difference": chosen - base_chosen,
    }


def _changes(variant: RunResult, base: RunResult) -> str:
    """Return each changed key with the base's value, if its section has the key, and the variant's value."""
    parts = []
    for key, value in variant.settings["changes"].items():
        section, name = key.split(".")
        before = base.settings[section]
        parts.append(f"{key}: {f'{written(before[name])} → ' if name in before else ''}{written(value)}")
    return ", ".join(parts)
