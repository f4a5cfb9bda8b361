"""The report of a run: one page that needs no network, from the files that the steps wrote."""

import base64
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from frozenalign.configuration.result_files import RUN_AGAIN, read_result
from frozenalign.configuration.studies import TRIAL_COLUMNS
from frozenalign.configuration.yaml_text import YAML_BYTES
from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.reporting.ablation import ablation
from frozenalign.reporting.belonging import refuse_other_members, refuse_other_split, refuse_other_studies
from frozenalign.reporting.controls import control_results
from frozenalign.reporting.doubts import doubts
from frozenalign.reporting.leaderboard import CORRECTED, RunResult, Verdict, chance, fold_board, leaderboard, verdict
from frozenalign.reporting.pictures import NO_ENTRY, Thumbnail, embedded_figure, embedded_plot, not_shown, thumbnail
from frozenalign.system.errors import one_line
from frozenalign.system.files import read_text
from frozenalign.tuning.trial_tables import read_trials

logger = logging.getLogger(__name__)
TEMPLATES = Path(__file__).parents[3] / "report"
TOP_TRIALS = 5
PLOTS = {
    "Recall at K": "recall_at_k",
    "Similarity": "similarity_histogram",
    "PCA": "embedding_pca",
    "t-SNE": "embedding_tsne",
}


@dataclass(frozen=True)
class ReportInput:
    """What a report is about besides its runs: data set, its folder and that of its pictures, manifest, studies."""

    dataset: str
    data_dir: Path
    pictures: Path
    manifest: Path
    studies: list[Path]


def render(source: ReportInput, runs: list[RunResult]) -> str:
    """Return the page, HTML with every picture, style and script inside."""
    manifest = read_result(source.manifest, "manifest.json")
    refuse_other_split(runs, manifest, source.manifest)
    refuse_other_members(runs)
    refuse_other_studies(source.studies, manifest, source.manifest)
    ablations = _by_base(ablation(runs))
    board_runs = [run for run in runs if not run.is_variant]
    table = leaderboard(board_runs)
    board, corrected = table[~table[CORRECTED]], table[table[CORRECTED]]
    found = verdict(table)
    folds = fold_board(board_runs)
    shown = _run_of(board_runs, found.head if found else table["experiment"][0])
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    protocol = runs[0].metrics["protocol"]
    by_chance = chance(runs[0].hits[runs[0].experiment].captions)
    return _template().render(
        dataset=source.dataset,
        manifest=manifest,
        doubts=doubts(board_runs),
        protocol=protocol,
        verdict=found,
        versus=_versus(found, rows=len(board)),
        rows=board.to_dict("records"),
        corrected=corrected.to_dict("records"),
        folds=None if folds is None else folds.to_dict("records"),
        chance=by_chance,
        controls=control_results(table, by_chance["RSUM"]),
        extra=_extra_sets(board_runs),
        ablations=ablations,
        board_picture=embedded_figure(leaderboard_figure(board)),
        examples=_examples(shown, source),
        diagnostics=[_diagnostics(run) for run in _in_order(_one_a_name(board_runs), table)],
        failures=_failures(shown),
        heads=[_training(run) for run in runs if run.is_head],
        studies=[_study(folder) for folder in source.studies],
        models=[_pictures(run) for run in _one_a_name(board_runs)],
        **_circumstances(runs),
        style=style,
        style_hash=_content_hash(style),
        script=script,
        script_hash=_content_hash(script),
    )


def _versus(found: Verdict | None, rows: int) -> list[tuple[str, str]]:
    """Return title and name of each comparison that the board shows: with the best baseline, with the next row."""
    baseline = [(f"against {found.baseline}", "baseline")] if found and found.baseline else []
    return [*baseline, ("against the next", "next")] if rows > 1 else []


def _by_base(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of an ablation table by the base that they belong to."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        found.setdefault(row["base"], []).append(row)
    return found


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["missing"] = pd.isna
    return environment.get_template("report.html.jinja")


def _content_hash(text: str) -> str:
    """Return the hash by which a Content-Security-Policy admits an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _run_of(runs: list[RunResult], experiment: str) -> RunResult:
    """Return the first run of an experiment, which the leaderboard may call re-ranked."""
    return next(run for run in runs if experiment in run.hits)


def _one_a_name(runs: list[RunResult]) -> list[RunResult]:
    """Return each experiment's first run: the pictures of further seeds look the same."""
    return list({run.experiment: run for run in reversed(runs)}.values())[::-1]


def _in_order(runs: list[RunResult], table: pd.DataFrame) -> list[RunResult]:
    """Return the runs in the order in which the leaderboard names them."""
    return sorted(runs, key=lambda run: table["experiment"].tolist().index(run.experiment))


def _diagnostics(run: RunResult) -> dict[str, Any]:
    return run.metrics["diagnostics"] | {"experiment": run.experiment, "kind": run.metrics["kind"]}


def _failures(run: RunResult) -> dict[str, Any]:
    """Return where a run's text-to-image retrieval fails: recall by caption length, and the worst queries."""
    return {
        "experiment": run.experiment,
        "seed": run.seed,
        "images": run.metrics["protocol"]["images"],
        "lengths": run.metrics["diagnostics"]["recall_by_caption_length"],
        "queries": read_result(run.folder / "evaluation_results" / "worst_queries.json")["queries"],
    }


def _circumstances(runs: list[RunResult]) -> dict[str, Any]:
    """Return the seeds, devices, number formats and versions of all runs."""
    heads = [run for run in runs if run.is_head]
    return {
        "seeds": sorted({run.seed for run in heads}),
        "devices": sorted({f"{run.facts['device']} ({run.facts['device_name']})" for run in runs}),
        "precisions": sorted({run.facts["precision"] for run in heads}),
        "versions": runs[0].facts["versions"],
    }


def _extra_sets(runs: list[RunResult]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of the extra evaluation sets by name, best first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for name, metrics in (run.metrics["extra"] or {}).items():
            found.setdefault(name, []).append(metrics | {"experiment": run.experiment, "seed": run.seed})
    return {name: sorted(results, key=lambda result: -result["full"]["RSUM"]) for name, results in found.items()}


def _training(run: RunResult) -> dict[str, Any]:
    history = read_result(run.folder / "loss_history.json")
    described = ("format", "description", "experiment", "kind", "seed")
    settings = {key: value for key, value in run.settings.items() if key not in described}
    return {
        "name": run.experiment,
        "seed": run.seed,
        "description": run.settings.get("description", ""),
        "best_epoch": history["best_epoch"],
        "epochs": history["epochs"][-1]["epoch"],
        "seconds": run.facts["seconds"],
        "curves": embedded_plot(run.folder / "training_curves.png"),
        "settings": yaml.safe_dump(settings, sort_keys=False),
    }


def _study(folder: Path) -> dict[str, Any]:
    trials = read_trials(folder / "trials.csv")
    complete = trials[trials["state"] == "COMPLETE"]
    return {
        "name": folder.name,
        "trials": len(trials),
        "seconds": float(trials["seconds"].sum()),
        "states": trials["state"].value_counts().to_dict(),
        "reasons": sorted(set(trials["reason"].dropna())),
        "parameters": [name for name in trials.columns if name not in TRIAL_COLUMNS],
        "top": complete.nlargest(TOP_TRIALS, "value").to_dict("records"),
        "history": embedded_plot(folder / "optimization_history.png"),
        "importance": embedded_plot(folder / "parameter_importance.png"),
        "best": read_text(folder / "best_config.yaml", YAML_BYTES, RUN_AGAIN),
    }


def _pictures(run: RunResult) -> dict[str, Any]:
    folder = run.folder / "evaluation_results"
    plots = {title: embedded_plot(folder / f"{name}.png") for title, name in PLOTS.items()}
    return {"name": run.experiment, "kind": run.metrics["kind"], "seed": run.seed, "plots": plots}


def _examples(run: RunResult, source: ReportInput) -> dict[str, Any]:
    """Return a run's retrieval examples with their pictures, and what is said of those that are not shown."""
    examples = read_result(run.folder / "evaluation_results" / "examples.json")
    items = [item for example in examples["t2i"] for item in example["candidates"]]
    items += [example["query"] for example in examples["i2t"]]
    thumbnails = _thumbnails({item["image_id"]: item["image_file"] for item in items}, source, examples["image_files"])
    for item in items:
        item["picture"] = thumbnails[item["image_id"]].uri if thumbnails else None
    if missing := not_shown(list(thumbnails.values())):
        logger.warning(missing)
    return examples | {"experiment": run.experiment, "seed": run.seed, "not_shown": missing}


def _thumbnails(
    files: Mapping[str, str | None], source: ReportInput, image_files: Mapping[str, Any]
) -> dict[str, Thumbnail]:
    """Return the thumbnail of every image id from its file; none at all where the metadata names no files.

    image_files: what an evaluation says of the key of that name in the metadata.
    """
    if not image_files["keys"]:
        return {}
    hint = ""
    if not image_files["images"]:
        hint = f"; no key there is an image id, the first is {one_line(image_files['first'])}"
    return {
        image_id: Thumbnail(None, NO_ENTRY, f"image id {one_line(image_id)}{hint}")
        if name is None
        else thumbnail(source.pictures, name, source.data_dir)
        for image_id, name in files.items()
    }
