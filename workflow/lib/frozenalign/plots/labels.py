"""Names beside points, as many as have room."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
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
# Further away, for a name that has no room beside its point: a thin line leads to it.
LED_PLACES = tuple(
    (right, up, "left" if right > 0 else "right", "bottom" if up > 0 else "top")
    for distance in (16, 28, 44)
    for aside in (4, distance)
    for right, up in ((aside, -distance), (-aside, distance), (aside, distance), (-aside, -distance))
)
SIZE = 8.5
# A name may lie over a bar or the grid, and is still read.
GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.3}
MARKER_PIXELS = 5


def label_points(
    axes: Axes, points: np.ndarray, names: Sequence[str], colors: Sequence[str], around: Line2D, led: int = 0
) -> None:
    """Write names beside points (P, 2), the first ones first, where they cover no point, no name and not the line.

    No name stands nearer to another point than to its own, unless a line leads to it, as to those of the first `led`
    points that have no other place. Further names without a place are left out. Limits and scales of the axes must be
    final.
    """
    axes.figure.draw_without_rendering()
    centers = axes.transData.transform(points)
    taken = [Bbox.from_extents(*(center - MARKER_PIXELS), *(center + MARKER_PIXELS)) for center in centers]
    line = around.get_transform().transform_path(around.get_path())
    room = axes.get_window_extent()

    def is_free(box: Bbox) -> bool:
        inside = Bbox.intersection(box, room)
        within = inside is not None and np.allclose(inside.extents, box.extents)
        return within and not line.intersects_bbox(box, filled=False) and not box.count_overlaps(taken)

    for number, (point, name, color) in enumerate(zip(points, names, colors, strict=True)):
        leader = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        for place in (*PLACES, *(LED_PLACES if number < led else ())):
            right, up, horizontal, vertical = place
            style = {"ha": horizontal, "va": vertical, "color": color, "size": SIZE, "bbox": GROUND}
            lines = {"arrowprops": leader} if place in LED_PLACES else {}
            text = axes.annotate(name, point, (right, up), textcoords="offset points", **style, **lines)
            # This puts the words in their place; the extent that it returns has the line in it.
            text.get_window_extent()
            words = Text.get_window_extent(text)
            if is_free(words.padded(1)) and (lines or _nearest(words, centers) == number):
                taken.append(words.padded(1))
                break
            text.remove()


def _nearest(box: Bbox, centers: np.ndarray) -> int:
    """Return which of the points (P, 2) is nearest to a box, the first of equally near ones."""
    beyond = np.maximum(np.maximum(box.min - centers, centers - box.max), 0)
    return int(np.hypot(*beyond.T).argmin())
