"""What a training writes: the model with its facts, the settings, and the history of its epochs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.configuration.experiments import Experiment
from frozenalign.models.model_file import save_heads
from frozenalign.system.files import write_json, write_yaml
from frozenalign.training.fit import Fit, average_warnings, choice_warnings

MODEL = "best_model.pt"
RESULTS = (MODEL, "loss_history.json", "resolved_config.yaml", "run.json")
DIVERGED = "best_before_divergence.pt"


def description(experiment: Experiment, name: str, dataset: str, seed: int, *, is_changed: bool) -> dict[str, Any]:
    """Return who is trained, for the facts of a model file; is_changed: whether it is a variant of its file."""
    # A variant that was trained on wrong pairs is a control as well.
    is_control = experiment.training.control != "none"
    return {
        "dataset": dataset,
        "experiment": name,
        "kind": "control" if is_control else "variant" if is_changed else "head",
        "seed": seed,
        "settings": experiment.as_document(),
    }


def found_warnings(described: Mapping[str, Any], trained: Fit) -> list[str]:
    """Return what a training has to say about the choice of its weights."""
    return choice_warnings(trained.history, described["settings"]["training"]["monitor"]) + average_warnings(trained)


def write_training(output: Path, described: Mapping[str, Any], changed: Mapping[str, Any], trained: Fit) -> None:
    """Write model, settings and history of an ended training; what it cost is not among them.

    described: what `description` returns, with inputs and warnings. changed: the changed keys of a variant, as
    resolved_config.yaml names them.
    """
    settings = described["settings"]
    save_heads(output / MODEL, trained.model, _facts(described, trained))
    who = {key: described[key] for key in ("experiment", "kind", "seed")}
    write_yaml(output / "resolved_config.yaml", {"format": 1, **who, **changed, **settings})
    history = {
        "format": 1,
        "monitor": settings["training"]["monitor"],
        "best_epoch": trained.best_epoch,
        "stopped_early": trained.epoch < settings["training"]["num_epochs"],
        "epochs": trained.history,
    }
    write_json(output / "loss_history.json", history)
    (output / DIVERGED).unlink(missing_ok=True)


def write_diverged(output: Path, described: Mapping[str, Any], diverged: Fit) -> str:
    """Save the best weights of a training that diverged, under a name that no other step reads; return where."""
    path = output / DIVERGED
    diverged.model.load_state_dict(diverged.best_state)
    save_heads(path, diverged.model, _facts(described, diverged))
    return f"the weights of epoch {diverged.best_epoch}, the best before, are in {path}"


def _facts(described: Mapping[str, Any], trained: Fit) -> dict[str, Any]:
    """Return the facts of a model file: the description of the training, and the epoch of the weights."""
    best = next(record for record in trained.history if record["epoch"] == trained.best_epoch)
    chosen = {"epoch": trained.best_epoch, "selected": {"split": "val", "RSUM": best["val"]["RSUM"]}}
    return {**described, **chosen, "warnings": [*described["warnings"], *found_warnings(described, trained)]}
