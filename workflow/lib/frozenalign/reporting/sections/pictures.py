"""The figures of every model."""

from typing import Any

from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.reporting.pictures import embedded_plot

PLOTS = {
    "Recall at K": "recall_at_k",
    "Similarity": "similarity_histogram",
    "PCA": "embedding_pca",
    "t-SNE": "embedding_tsne",
}


def content(found: Findings) -> dict[str, Any]:
    """Return the figures of the first seed of every experiment on the board."""
    return {"models": [_pictures(run) for run in found.first_seeds]}


def _pictures(run: RunResult) -> dict[str, Any]:
    folder = run.folder / "evaluation_results"
    plots = {title: embedded_plot(folder / f"{name}.png") for title, name in PLOTS.items()}
    return {"name": run.experiment, "kind": run.metrics["kind"], "seed": run.seed, "plots": plots}
