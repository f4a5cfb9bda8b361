"""Pictures of a tuning study."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from frozenalign.plots.style import I2T, MARK, NEUTRAL, T2I, literal, new_axes


def optimization_history(trials: pd.DataFrame, title: str, monitor: str = "RSUM") -> Figure:
    """Draw the validation metric `monitor` of every trial in order, and the best so far."""
    figure, (axes,) = new_axes()
    complete = trials[trials["state"] == "COMPLETE"]
    pruned = trials[(trials["state"] == "PRUNED") & trials["value"].notna()]
    failed = trials[trials["state"] == "FAIL"]
    axes.scatter(complete["number"], complete["value"], s=22, color=I2T, label="complete")
    axes.scatter(pruned["number"], pruned["value"], s=18, color=NEUTRAL, marker="x", label="pruned")
    if len(complete):
        best = complete["value"].cummax()
        axes.step(complete["number"], best, color=MARK, where="post", linewidth=1.2, label="best so far")
    for number in failed["number"]:
        axes.axvline(number, color=T2I, linewidth=1, linestyle=":")
    failures = f", {len(failed)} failed (dotted)" if len(failed) else ""
    axes.set(title=f"{literal(title)}: {len(trials)} trials{failures}")
    axes.set(xlabel="trial", ylabel=f"validation {literal(monitor)}, %")
    axes.legend(frameon=False)
    return figure


def parameter_importance(importances: dict[str, float], title: str) -> Figure:
    """Draw each parameter's share of the differences between trials, largest at the top."""
    names = sorted(importances, key=importances.__getitem__)
    figure, (axes,) = new_axes(height=max(2.2, 0.8 + 0.32 * len(names)))
    axes.set_title(f"{literal(title)}: what mattered")
    if not names:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "Too few complete trials to tell which parameters matter.", ha="center", va="center")
        return figure
    axes.barh([literal(name) for name in names], [100 * importances[name] for name in names], color=I2T)
    axes.grid(visible=False, axis="y")
    shown = np.ceil(10 * max(importances.values())) * 10
    axes.set(xlabel="importance, % (PED-ANOVA)", xlim=(0, max(shown, 10)))
    return figure
