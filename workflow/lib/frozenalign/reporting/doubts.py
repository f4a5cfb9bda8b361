"""What stands beside the numbers of a report, the warnings of its steps, and results that do not belong together."""

from collections.abc import Sequence
from dataclasses import dataclass

from frozenalign.reporting.leaderboard import RunResult, warnings_of


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
