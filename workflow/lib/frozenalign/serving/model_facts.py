"""What is known of a trained model beside its weights: its training, encoders, split and metrics."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.configuration.result_files import checked_facts, read_result
from frozenalign.data.encoding import read_record
from frozenalign.data.inputs import EXTRA_SET, TRAINING_SET, Inputs, Manifest
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash

logger = logging.getLogger(__name__)
FROM_MODEL = ("dataset", "experiment", "kind", "seed", "inputs", "warnings", "selected")
FROM_METRICS = ("protocol", "full", "1k", "intervals", "reranked", "hubness_corrected", "warnings")
METRICS = Path("evaluation_results", "metrics.json")


def facts_of_run(
    path: Path, facts: Mapping[str, Any], data_dir: Path | None = None, split_dir: Path | None = None
) -> dict[str, Any]:
    """Return the facts of a model file together with what the files around it say.

    path: best_model.pt, beside which its metrics may lie. facts: those inside it. data_dir: folder of the embeddings.
    split_dir: folder of the split that it was trained on.
    """
    checked = checked_facts(facts, path)
    inputs = Inputs(**checked["inputs"])
    record = read_record(data_dir, _files(inputs)) if data_dir else None
    return {
        **{name: checked[name] for name in FROM_MODEL},
        "epoch": checked.get("epoch"),
        "model_sha256": file_hash(path),
        "encoders": record and {name: record[name] for name in ("images", "texts")},
        "split": _split(split_dir, inputs, path) if split_dir else None,
        "metrics": _metrics(path),
    }


def _files(inputs: Inputs) -> dict[str, str]:
    """Return the SHA-256 of the embeddings of a set by name."""
    return {
        f"{TRAINING_SET}_image_embeddings.pt": inputs.images,
        f"{TRAINING_SET}_text_embeddings.pt": inputs.texts,
    }


def _split(split_dir: Path, inputs: Inputs, path: Path) -> dict[str, Any]:
    """Return the numbers of images and pairs by split; a split that the model was not trained on is a UserError."""
    content = read_result(split_dir / "manifest.json")
    manifest = Manifest.of(content)
    if inputs not in [manifest.inputs(name) for name in ("train", "train_tuning")]:
        raise UserError(
            f"{path} was not trained on the split in {split_dir}: give the split that it was trained on, or train it "
            "on this one"
        )
    return {
        "counts": content["splits"],
        "seed": content.get("seed"),
        "sets": [name for name in (TRAINING_SET, EXTRA_SET) if name in manifest.sets],
        "warnings": manifest.warnings,
    }


def _metrics(path: Path) -> dict[str, Any] | None:
    """Return the metrics beside a model; None if it was not evaluated and, with a warning, if they are another's."""
    metrics = path.parent / METRICS
    if not metrics.exists():
        return None
    content = read_result(metrics)
    if content["models"] != [file_hash(path)]:
        logger.warning("warning: %s is of another model than %s: run the evaluation step again", metrics, path)
        return None
    return {name: content.get(name) for name in FROM_METRICS}
