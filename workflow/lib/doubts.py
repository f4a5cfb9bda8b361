"""What stands beside the numbers of a report: the warnings of the split, of trainings and of evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.lib.errors import UserError
from workflow.lib.leaderboard import RunResult, warnings_of


@dataclass(frozen=True)
class Doubts:
    """Sentences about all rows of a board, and sentences about single rows by their name."""

    of_all: list[str]
    of_rows: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.of_all) + sum(map(len, self.of_rows.values()))


def doubts(runs: Sequence[RunResult]) -> Doubts:
    """Return the warnings of all runs, those that every run shares once."""
    of_rows = {name: warnings_of(runs, name) for name in dict.fromkeys(run.experiment for run in runs)}
    shared = [text for text in next(iter(of_rows.values())) if all(text in own for own in of_rows.values())]
    single = {name: [text for text in own if text not in shared] for name, own in of_rows.items()}
    return Doubts(shared, {name: own for name, own in single.items() if own})


def refuse_other_split(runs: Sequence[RunResult], manifest: Mapping[str, Any], path: object) -> None:
    """Refuse runs that were evaluated on other rows or other files than those of the split that a report describes."""
    # Captions and pictures, the rest of the metadata, may have changed since the split.
    made_from = {name: value for name, value in manifest["hashes"].items() if not name.endswith("metadata.json")}
    for run in runs:
        protocol = run.metrics["protocol"]
        rows = manifest["rows"].get(protocol["split"])
        if protocol["rows"] != rows or not made_from.items() <= run.metrics["inputs"].items():
            raise UserError(
                f"{run.folder} was not evaluated on the split of {path}: evaluate it again, or give the manifest of "
                "its own split"
            )
