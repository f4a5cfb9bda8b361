"""The evaluation sets of a run: which keys go together, checked before its first job."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.configuration.registrations import evaluation_sets, positive_sources
from frozenalign.system.errors import UserError, quoted

PATHS = ("dir", "pictures", "file", "positives")


def checked_sets(run: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Return the evaluation sets of a run by name, without those that are cancelled by null."""
    kept = {name: dict(each) for name, each in run["evaluation_sets"].items() if each is not None}
    for name, each in kept.items():
        key = f"{where}: evaluation_sets.{name}"
        if each["kind"] not in evaluation_sets():
            raise UserError(f"{key}.kind: found {quoted(each['kind'])}; allowed: {', '.join(evaluation_sets())}")
        _refuse_wrong_keys(each, key)
        _refuse_without_encoders(each, run, key)
        for path in PATHS:
            if path in each and each[path] not in positive_sources():
                each[path] = str(Path(each[path]))
    return kept


def _refuse_wrong_keys(each: Mapping[str, Any], key: str) -> None:
    retrieval = each["kind"] == "retrieval"
    if "dir" in each and ("pictures" in each or "file" in each):
        raise UserError(f"{key}: give `dir`, or `pictures` and `file`, not both")
    if ("pictures" in each) != ("file" in each):
        raise UserError(f"{key}: `pictures` and `file` go together: give both, or `dir`")
    if "positives" in each and not retrieval:
        raise UserError(f"{key}: `positives` is for the kind retrieval: leave it out")
    if not ("dir" in each or "pictures" in each or (retrieval and "positives" in each)):
        own = ", or `positives` to rank the run's own test split by" if retrieval else ""
        raise UserError(f"{key}: give a folder of embeddings as `dir`, or `pictures` and `file` to encode{own}")


def _refuse_without_encoders(each: Mapping[str, Any], run: Mapping[str, Any], key: str) -> None:
    if "pictures" in each and not run["datasets"][run["dataset"]].get("encode"):
        raise UserError(
            f"{key}: `pictures` are encoded by the encoders of the data set, and {run['dataset']} has no `encode`: "
            "encode them as that data set was, and give the folder as `dir`"
        )
