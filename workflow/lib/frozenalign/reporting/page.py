"""The report of a run: one page, readable offline, made from the files that the steps wrote."""

import base64
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from frozenalign.configuration.result_files import RUN_AGAIN, read_result
from frozenalign.configuration.studies import TRIAL_COLUMNS
from frozenalign.configuration.yaml_text import YAML_BYTES
from frozenalign.data.inputs import Manifest
from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.reporting.ablation import ablation
from frozenalign.reporting.belonging import refuse_other_members, refuse_other_split, refuse_other_studies
from frozenalign.reporting.benchmarks import benchmark_sections
from frozenalign.reporting.controls import control_results
from frozenalign.reporting.leaderboard import CORRECTED, RunResult, chance, doubts, fold_board, leaderboard, verdict
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
    """The inputs of a report besides its runs: name and folder of the data set, and files and folders beside it."""

    dataset: str
    data_dir: Path
    pictures: Path
    manifest: Path
    studies: list[Path]
    evaluation_sets: Sequence[str] = ()


def render(source: ReportInput, runs: list[RunResult]) -> str:
    """Return the page: HTML that contains all its pictures, styles and scripts."""
    manifest = read_result(source.manifest, "manifest.json")
    refuse_other_split(runs, manifest, source.manifest)
    refuse_other_members(runs)
    refuse_other_studies(source.studies, manifest, source.manifest)
    ablations: dict[str, list[dict[str, Any]]] = {}
    for row in ablation(runs).to_dict("records"):
        ablations.setdefault(row["base"], []).append(row)
    heads = [run for run in runs if run.is_head]
    board_runs = [run for run in runs if run.metrics["kind"] != "variant"]
    # Further seeds of an experiment have similar pictures and diagnostics.
    first_seeds = list({run.experiment: run for run in reversed(board_runs)}.values())[::-1]
    table = leaderboard(board_runs)
    order = table["experiment"].tolist()
    board, corrected = table[~table[CORRECTED]], table[table[CORRECTED]]
    found = verdict(table)
    folds = fold_board(board_runs)
    # Title and column prefix of each comparison on the board.
    versus = [(f"against {found.baseline}", "baseline")] if found and found.baseline else []
    versus += [("against the next", "next")] if len(board) > 1 else []
    best = found.head if found else order[0]
    shown = next(run for run in board_runs if best in run.hits)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    protocol = runs[0].metrics["protocol"]
    by_chance = chance(runs[0].hits[runs[0].experiment].captions)
    return _template().render(
        dataset=source.dataset,
        manifest=manifest,
        sets=Manifest.of(manifest).sets,
        doubts=doubts(board_runs),
        protocol=protocol,
        verdict=found,
        versus=versus,
        rows=board.to_dict("records"),
        corrected=corrected.to_dict("records"),
        folds=None if folds is None else folds.to_dict("records"),
        chance=by_chance,
        controls=control_results(table, by_chance["RSUM"]),
        extra=_extra_sets(board_runs),
        benchmarks=benchmark_sections(board_runs, source.evaluation_sets),
        ablations=ablations,
        board_picture=embedded_figure(leaderboard_figure(board)),
        examples=_examples(shown, source),
        diagnostics=[
            run.metrics["diagnostics"] | {"experiment": run.experiment, "kind": run.metrics["kind"]}
            for run in sorted(first_seeds, key=lambda run: order.index(run.experiment))
        ],
        failures=_failures(shown),
        heads=[_training(run) for run in heads],
        studies=[_study(folder) for folder in source.studies],
        models=[_pictures(run) for run in first_seeds],
        seeds=sorted({run.seed for run in heads}),
        devices=sorted({f"{run.facts['device']} ({run.facts['device_name']})" for run in runs}),
        precisions=sorted({run.facts["precision"] for run in heads}),
        versions=runs[0].facts["versions"],
        style=style,
        style_hash=_content_hash(style),
        script=script,
        script_hash=_content_hash(script),
    )


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
    """Return the hash with which a Content-Security-Policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _failures(run: RunResult) -> dict[str, Any]:
    """Return where text-to-image retrieval fails: recall by caption length, and the worst queries."""
    return {
        "experiment": run.experiment,
        "seed": run.seed,
        "images": run.metrics["protocol"]["images"],
        "lengths": run.metrics["diagnostics"]["recall_by_caption_length"],
        "queries": read_result(run.folder / "evaluation_results" / "worst_queries.json")["queries"],
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
        "monitor": read_result(folder / "study.json")["monitor"],
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
