"""Figures as vector graphics."""

import io

import matplotlib
from matplotlib.figure import Figure


def svg(figure: Figure, title: str) -> bytes:
    """Return a figure as SVG, the same bytes for the same figure; its letters are shapes, so that it needs no font."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": "frozenalign", "Title": title})
    return content.getvalue()
