"""The one style of all pictures: colours, axes, and names as they are."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

IMAGE, TEXT = "#0072B2", "#D55E00"
I2T, T2I = "#0072B2", "#D55E00"
NEUTRAL, MARK = "#6B7280", "#111827"


def new_axes(columns: int = 1, width: float = 6.0, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes side by side, with a light grid and no frame at the top and right."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, columns)))
    for each in axes:
        each.grid(color="#E5E7EB", linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def literal(text: str) -> str:
    """Return a name for matplotlib, which would read text between dollar signs as mathematics."""
    return text.replace("$", r"\$")
