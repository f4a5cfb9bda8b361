"""Evaluation sets in the report: one section each, the best first, with chance; results of others are refused."""

import re
from pathlib import Path

import pandas as pd
import pytest

from frozenalign.reporting import page
from frozenalign.reporting.findings import Findings, ReportInput
from frozenalign.reporting.leaderboard import CORRECTED, RunResult
from frozenalign.reporting.sections.benchmarks import content
from frozenalign.system.errors import UserError
from frozenalign.system.files import write_json

CREPE = {"kind": "hard_negatives", "source": "data/crepe", "counts": {"rows": 80, "images": 40}, "warnings": []}


def run_of(folder: Path, name: str, accuracy: float, models: tuple[str, ...] = ("abc",), **changed) -> RunResult:
    """Return a run with one evaluation set, whose results lie in a folder."""
    measured = {"metrics": {"accuracy": accuracy}, "chance": {"accuracy": 50.0}}
    found = CREPE | measured | {"intervals": {"accuracy": [accuracy - 5, accuracy + 5]}} | changed
    path = folder / name / "evaluation_sets" / "sets.json"
    write_json(path, {"format": 1, "models": list(models), "sets": {"crepe": found}})
    kind = "baseline" if name == "cca" else "head"
    return RunResult(folder / name, {"experiment": name, "kind": kind, "seed": 0}, {"models": ["abc"]}, {}, {})


def findings(runs: list[RunResult], sets: list[str]) -> Findings:
    """Return the findings of runs without a board."""
    source = ReportInput("small", Path("data"), Path("data"), Path("manifest.json"), [], sets)
    return Findings(
        source, {}, runs, pd.DataFrame({"kind": [], "validation_RSUM": [], "experiment": [], CORRECTED: []})
    )


def test_a_set_has_one_section_with_the_best_run_first(tmp_path):
    runs = [run_of(tmp_path, "cca", 61.0), run_of(tmp_path, "mlp", 72.5, warnings=["what encoded it is unknown"])]
    (found,) = content(findings(runs, ["crepe"]))["sets"]
    assert (found.name, found.kind, found.source) == ("crepe", "hard negatives", "data/crepe")
    assert found.explained.startswith("Share of rows whose image is nearer to its caption")
    assert [(row["experiment"], row["metrics"]["accuracy"]) for row in found.rows] == [("mlp", 72.5), ("cca", 61.0)]
    assert found.warnings == ["what encoded it is unknown"]


def test_without_named_sets_no_file_is_looked_for(tmp_path):
    runs = [RunResult(tmp_path / "absent", {}, {}, {}, {})]
    assert content(findings(runs, [])) is None


def test_the_section_shows_numbers_intervals_chance_and_warnings_as_text(tmp_path):
    hostile = "<script>alert(1)</script>"
    runs = [run_of(tmp_path, "mlp", 72.5, warnings=[hostile], source=hostile)]
    found = findings(runs, ["crepe"])
    template = page._environment().get_template("sections/benchmarks.html.jinja")
    shown = template.render(found=found, **content(found))
    assert hostile not in shown
    assert shown.count("&lt;script&gt;") == 2
    text = " ".join(re.sub(r"<[^>]+>", " ", shown).split())
    assert "crepe: hard negatives" in text
    assert "80 rows, 40 images" in text
    assert "mlp 0 72.5 67.5 – 77.5" in text
    assert "chance – 50.0" in text


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"models": ("other",)}, "was not made from the model that run.json describes"),
        ({"counts": {"rows": 79, "images": 40}}, "crepe is another set than in"),
        ({"source": "data/other"}, "crepe is another set than in"),
        ({"metrics": {"top-1": 3.0}, "chance": {"top-1": 1.0}, "intervals": {}}, "crepe is another set than in"),
        ({"metrics": {"accuracy": "high"}}, "sets.crepe.metrics.accuracy: found 'high'"),
        ({"kind": None}, "sets.crepe.kind"),
    ],
)
def test_results_of_another_model_or_set_and_damaged_ones_are_refused(tmp_path, changed, problem):
    runs = [run_of(tmp_path, "mlp", 70.0), run_of(tmp_path, "clip", 71.0, **changed)]
    with pytest.raises(UserError, match=problem):
        content(findings(runs, ["crepe"]))


def test_a_set_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no results on eccv: evaluate the sets again"):
        content(findings([run_of(tmp_path, "mlp", 70.0)], ["eccv"]))
