"""Pictures of a training and of an evaluation; each function returns a matplotlib figure."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from frozenalign.plots.style import I2T, IMAGE, MARK, NEUTRAL, T2I, TEXT, literal, new_axes

RECALL_STYLES = {"R@1": "-", "R@5": "--", "R@10": ":"}
# The least range of similarities that a histogram shows.
NARROWEST = 1e-3


def training_curves(history: dict[str, Any], title: str) -> Figure:
    """Draw loss, validation recalls, learning rate and learned loss terms by epoch; the chosen epoch is marked."""
    records = history["epochs"]
    terms = sorted({name for record in records for name in record["loss_terms"]})
    figure, (loss, recall, rate) = new_axes(3, width=13.0)
    best = history["best_epoch"]
    figure.suptitle(f"{literal(title)}: training, epoch {best} chosen by validation {history['monitor']}")
    trained = [record for record in records if "loss" in record]
    steps = [record["epoch"] for record in trained]
    loss.plot(steps, [record["loss"] for record in trained], color=NEUTRAL, marker="o", markersize=3)
    loss.set(title="Training loss", xlabel="epoch", ylabel="loss")
    epochs = [record["epoch"] for record in records]
    for direction, color in (("i2t", I2T), ("t2i", T2I)):
        for name, style in RECALL_STYLES.items():
            values = [record["val"][direction][name] for record in records]
            recall.plot(epochs, values, style, color=color, label=f"{direction} {name}")
    recall.set(title="Validation recall", xlabel="epoch", ylabel="recall, %", ylim=(0, None))
    recall.legend(fontsize=8, ncols=2, frameon=False)
    rate.plot(steps, [record["learning_rate"] for record in trained], color=NEUTRAL, marker="o", markersize=3)
    rate.set(title="Learning rate", xlabel="epoch", ylabel="learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    if terms:
        learned = rate.twinx()
        learned.spines[["top"]].set_visible(False)
        for name, color in zip(terms, ("#009E73", "#CC79A7", "#56B4E9"), strict=False):
            values = [record["loss_terms"].get(name, np.nan) for record in records]
            learned.plot(epochs, values, color=color, label=name)
        learned.set_ylabel(" and ".join(terms))
        learned.legend(fontsize=8, frameon=False)
        rate.set_title(f"Learning rate, {' and '.join(terms)}")
    for each in (loss, recall, rate):
        each.axvline(best, color=MARK, linewidth=1, linestyle=(0, (1, 2)))
        each.xaxis.get_major_locator().set_params(integer=True)
    return figure


def recall_at_k(i2t_ranks: np.ndarray, t2i_ranks: np.ndarray, title: str) -> Figure:
    """Draw the share of queries whose match is among the first K, for K = 1 … 100, from 0-based ranks (Q,)."""
    figure, (axes,) = new_axes()
    k = np.arange(1, 101)
    for label, ranks, color in (("image to text", i2t_ranks, I2T), ("text to image", t2i_ranks, T2I)):
        axes.plot(k, [100 * (ranks < each).mean() for each in k], color=color, label=label)
    chance = 100 * np.minimum(1, k / len(i2t_ranks))
    axes.plot(k, chance, color=NEUTRAL, linestyle=":", label=f"chance, text to {len(i2t_ranks)} images")
    axes.set(title=f"{literal(title)}: recall at K", xlabel="K", ylabel="recall at K, %")
    axes.set(xscale="log", ylim=(0, 102), xlim=(1, 100))
    axes.set_xticks([1, 5, 10, 50, 100], ["1", "5", "10", "50", "100"])
    axes.legend(frameon=False, loc="best")
    return figure


def similarity_histogram(matches: np.ndarray, non_matches: np.ndarray, title: str) -> Figure:
    """Draw the densities of the cosine similarities of matching (M,) and non-matching pairs (R,), and their overlap.

    R is zero for a single image.
    """
    figure, (axes,) = new_axes()
    # In float32, edges between similarities that are nearly equal would coincide.
    every = np.concatenate([matches, non_matches]).astype(np.float64)
    low, high = every.min(), every.max()
    room = max(0.0, (NARROWEST - (high - low)) / 2)
    edges = np.linspace(low - room, high + room, 80)
    densities = []
    for values, color, label in ((non_matches, NEUTRAL, "non-matching"), (matches, T2I, "matching")):
        if len(values):
            density, *_ = axes.hist(values, edges, density=True, color=color, alpha=0.55, label=f"{label} pairs")
            densities.append(density)
    overlap = f", overlap {100 * float(np.minimum(*densities) @ np.diff(edges)):.0f} %" if len(densities) == 2 else ""
    axes.set(title=f"{literal(title)}: similarity of pairs{overlap}", xlabel="cosine similarity", ylabel="density")
    axes.legend(frameon=False)
    return figure


def embedding_map(image_xy: np.ndarray, text_xy: np.ndarray, title: str, method: str) -> Figure:
    """Draw images (n, 2) and their texts (n, 2) in the plane, with a line between image and text of each pair."""
    figure, (axes,) = new_axes(width=6.0, height=5.2)
    lines = np.stack([image_xy, text_xy, np.full_like(image_xy, np.nan)], axis=1).reshape(-1, 2)
    axes.plot(lines[:, 0], lines[:, 1], color="#9CA3AF", linewidth=0.6, zorder=1)
    for points, color, marker, label in ((image_xy, IMAGE, "o", "image"), (text_xy, TEXT, "^", "text")):
        axes.scatter(points[:, 0], points[:, 1], s=16, color=color, marker=marker, label=label, zorder=2, linewidths=0)
    axes.set(title=f"{literal(title)}: {len(image_xy)} pairs, {method}")
    axes.set(xlabel=f"{method} dimension 1", ylabel=f"{method} dimension 2")
    axes.legend(frameon=False)
    return figure
