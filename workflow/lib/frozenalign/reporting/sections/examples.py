"""Retrieval examples: random queries with what the chosen head finds for them."""

import logging
from typing import Any

from frozenalign.configuration.result_files import read_result
from frozenalign.reporting.findings import Findings, ReportInput
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.reporting.pictures import NO_ENTRY, Thumbnail, not_shown, thumbnail
from frozenalign.system.errors import one_line

logger = logging.getLogger(__name__)


def content(found: Findings) -> dict[str, Any]:
    """Return the examples of the shown run."""
    return {"examples": pictured_examples(found.shown, found.source)}


def pictured_examples(run: RunResult, source: ReportInput) -> dict[str, Any]:
    """Return a run's retrieval examples with their pictures, and a sentence about those that are not shown."""
    examples = read_result(run.folder / "evaluation_results" / "examples.json")
    items = [item for example in examples["t2i"] for item in example["candidates"]]
    items += [example["query"] for example in examples["i2t"]]
    named = examples["image_files"]
    # Without any `image_files` in the metadata, pictures are not missing.
    files = {item["image_id"]: item["image_file"] for item in items} if named["keys"] else {}
    hint = ""
    if named["keys"] and not named["images"]:
        hint = f"; no key there is an image id, the first is {one_line(named['first'])}"
    thumbnails = {
        image_id: Thumbnail(None, NO_ENTRY, f"image id {one_line(image_id)}{hint}")
        if name is None
        else thumbnail(source.pictures, name, source.data_dir)
        for image_id, name in files.items()
    }
    for item in items:
        item["picture"] = thumbnails[item["image_id"]].uri if thumbnails else None
    if missing := not_shown(list(thumbnails.values())):
        logger.warning(missing)
    return examples | {"experiment": run.experiment, "seed": run.seed, "not_shown": missing}
