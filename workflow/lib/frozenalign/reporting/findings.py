"""What all sections of a report share: the runs, their board and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from frozenalign.configuration.result_files import read_result
from frozenalign.reporting.belonging import refuse_other_members, refuse_other_split, refuse_other_studies
from frozenalign.reporting.leaderboard import (
    CORRECTED,
    Doubts,
    RunResult,
    Verdict,
    chance,
    doubts,
    leaderboard,
    verdict,
)


@dataclass(frozen=True)
class ReportInput:
    """The inputs of a report besides its runs: name and folder of the data set, and files and folders beside it.

    evaluation_sets: names of those that every run was evaluated on. encodings: the path from the page to the one that
    compares several encodings of the set.
    """

    dataset: str
    data_dir: Path
    pictures: Path
    manifest: Path
    studies: list[Path]
    evaluation_sets: Sequence[str] = ()
    encodings: str | None = None


@dataclass(frozen=True)
class Findings:
    """The runs of a report, which belong to one split, with that split's manifest.

    runs: all of them; table: the leaderboard of all but the variants.
    """

    source: ReportInput
    manifest: dict[str, Any]
    runs: list[RunResult]
    table: pd.DataFrame

    @property
    def protocol(self) -> dict[str, Any]:
        """Return what every run was evaluated on."""
        return self.runs[0].metrics["protocol"]

    @property
    def board_runs(self) -> list[RunResult]:
        """Return the runs of the board: all but the variants."""
        return _board_runs(self.runs)

    @property
    def heads(self) -> list[RunResult]:
        """Return the trained heads, variants and controls among them."""
        return [run for run in self.runs if run.is_head]

    @property
    def first_seeds(self) -> list[RunResult]:
        """Return the first seed of every experiment on the board; the others have similar pictures and diagnostics."""
        return list({run.experiment: run for run in reversed(self.board_runs)}.values())[::-1]

    @property
    def plain(self) -> pd.DataFrame:
        """Return the board without the hubness-corrected rows."""
        return self.table[~self.table[CORRECTED]]

    @cached_property
    def verdict(self) -> Verdict | None:
        """Return the head that validation chose, and its comparison; None without heads."""
        return verdict(self.table)

    @cached_property
    def doubts(self) -> Doubts:
        """Return the warnings of the runs of the board."""
        return doubts(self.board_runs)

    @cached_property
    def chance(self) -> dict[str, float]:
        """Return the recalls and the RSUM of a random order."""
        return chance(self.runs[0].hits[self.runs[0].experiment].captions)

    @property
    def shown(self) -> RunResult:
        """Return the run whose examples and failures are shown: the chosen head, or the best row without heads."""
        best = self.verdict.head if self.verdict else self.table["experiment"][0]
        return next(run for run in self.board_runs if best in run.hits)


def gathered(source: ReportInput, runs: list[RunResult]) -> Findings:
    """Return what the sections are made of, or refuse runs, members and studies that do not belong together."""
    manifest = read_result(source.manifest, "manifest.json")
    refuse_other_split(runs, manifest, source.manifest)
    refuse_other_members(runs)
    refuse_other_studies(source.studies, manifest, source.manifest)
    return Findings(source, manifest, runs, leaderboard(_board_runs(runs)))


def _board_runs(runs: list[RunResult]) -> list[RunResult]:
    return [run for run in runs if run.metrics["kind"] != "variant"]
