"""Names beside points, as many as have room."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

# Offsets in points, with the alignments that put a name there.
PLACES = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
)
SIZE = 8.5
# A name may lie over a bar or the grid, and is still read.
GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.3}
MARKER_PIXELS = 5


def label_points(axes: Axes, points: np.ndarray, names: Sequence[str], colors: Sequence[str], around: Line2D) -> None:
    """Write names beside points (P, 2), the first ones first, where they cover no point, no name and not the line.

    Names without such a place are left out. Limits and scales of the axes must be final.
    """
    axes.figure.draw_without_rendering()
    centers = axes.transData.transform(points)
    taken = [Bbox.from_extents(*(center - MARKER_PIXELS), *(center + MARKER_PIXELS)) for center in centers]
    line = around.get_transform().transform_path(around.get_path())
    room = axes.get_window_extent()
    for point, name, color in zip(points, names, colors, strict=True):
        for right, up, horizontal, vertical in PLACES:
            style = {"ha": horizontal, "va": vertical, "color": color, "size": SIZE, "bbox": GROUND}
            text = axes.annotate(name, point, (right, up), textcoords="offset points", **style)
            box = text.get_window_extent().padded(1)
            inside = Bbox.intersection(box, room)
            free = inside is not None and np.allclose(inside.extents, box.extents)
            if free and not line.intersects_bbox(box, filled=False) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()
