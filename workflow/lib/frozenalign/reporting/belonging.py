"""Checks that the results of one report belong together."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from frozenalign.configuration.result_files import read_result
from frozenalign.data.inputs import Inputs, Manifest
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.system.errors import UserError, quoted


def refuse_other_split(runs: Sequence[RunResult], manifest: Mapping[str, Any], path: object) -> None:
    """Refuse runs that were evaluated on other rows or files than those of the reported split."""
    # Captions and picture names in the metadata may have changed since the split.
    made_from = {name: value for name, value in manifest["hashes"].items() if not name.endswith("metadata.json")}
    for run in runs:
        protocol = run.metrics["protocol"]
        rows = manifest["rows"].get(protocol["split"])
        if protocol["rows"] != rows or not made_from.items() <= run.metrics["inputs"].items():
            raise UserError(
                f"{run.folder} was not evaluated on the split of {path}: evaluate it again, or give the manifest of "
                "its own split"
            )


def refuse_other_members(runs: Sequence[RunResult]) -> None:
    """Refuse an ensemble whose members in the report are other models than those it was made from."""
    beside = {(run.experiment, run.seed): run for run in runs}
    for run in runs:
        members = run.settings["ensemble"]["members"] if run.settings["kind"] == "ensemble" else []
        for member in (beside.get((each["experiment"], each["seed"])) for each in members):
            if member and set(member.facts["models"]).isdisjoint(run.facts["models"]):
                raise UserError(
                    f"{run.folder} was put together from another model of {quoted(member.experiment)}, seed "
                    f"{member.seed}, than {member.folder}: run the ensemble step again"
                )


def refuse_other_studies(folders: Iterable[Path], manifest: Mapping[str, Any], path: object) -> None:
    """Refuse studies of other embeddings or rows than those of the reported split."""
    described = Manifest.of(manifest)
    known = [described.inputs(train) for train in ("train", "train_tuning")]
    for folder in folders:
        if Inputs(**read_result(folder / "study.json")["inputs"]) not in known:
            raise UserError(
                f"{folder} is a study of other embeddings or of another split than {path} describes: give the studies "
                "of this data set, or run the study again"
            )
