"""The configuration of a run, checked with the files that it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.configuration.experiments import load_experiment
from frozenalign.configuration.registrations import baselines
from frozenalign.configuration.schemas import read_schema, refuse_single_values, validated, with_plain_values
from frozenalign.configuration.studies import load_study
from frozenalign.configuration.variants import Variant, refuse_ambiguous, variants_of
from frozenalign.configuration.yaml_text import refuse_unplain
from frozenalign.system.errors import UserError, quoted

# Folders beside those of the experiments.
RESERVED = ("split", "tuning", "report", "logs", "benchmarks")


def checked_run(document: Any, where: str) -> dict[str, Any]:
    """Return the run configuration with defaults; names of data set, baselines and ensembles are checked as well."""
    refuse_unplain(document, where)
    schema = read_schema("config")
    document = with_plain_values(document, schema)
    refuse_single_values(document, schema, where)
    run = validated(document, schema, where)
    if run["dataset"] not in run["datasets"]:
        raise UserError(f"{where}: dataset: found {run['dataset']!r}; allowed: {', '.join(sorted(run['datasets']))}")
    for name in run["baselines"]:
        if name not in baselines():
            raise UserError(f"{where}: baselines: found {quoted(name)}; allowed: {', '.join(sorted(baselines()))}")
    if not (run["experiments"] or run["baselines"] or run["tuning"]):
        raise UserError(f"{where}: experiments, baselines and tuning are all empty: name at least one")
    refuse_reserved(run, where)
    refuse_ambiguous(run, where)
    refuse_ensembles(run, where)
    split = run["datasets"][run["dataset"]]["split"]
    if split.get("counts") and split.get("assignments"):
        raise UserError(f"{where}: datasets.{run['dataset']}.split: give `counts` or `assignments`, not both")
    if sum(split["fractions"].values()) > 1 + 1e-9:
        total = sum(split["fractions"].values())
        raise UserError(f"{where}: datasets.{run['dataset']}.split.fractions: they add up to {total:g}; at most 1")
    for data_set in run["datasets"].values():
        _write_paths_plainly(data_set)
    return run


def _write_paths_plainly(data_set: dict[str, Any]) -> None:
    """Leave out the slashes of a path that say nothing: Snakemake takes `data//demo/` for a file that is not there."""
    for section, key in ((data_set, "dir"), (data_set["split"], "assignments")):
        if key in section:
            section[key] = str(Path(section[key]))


def refuse_reserved(run: Mapping[str, Any], where: str) -> None:
    """Refuse an experiment or ensemble whose results would stand in a folder that the workflow needs for others."""
    for key in ("experiments", "ensembles"):
        for name in run[key]:
            if name in RESERVED or name.startswith("tuned-"):
                raise UserError(
                    f"{where}: {key}: found {name!r}; the names {', '.join(RESERVED)} and tuned-… belong to other "
                    "results: rename it"
                )


def refuse_ensembles(run: Mapping[str, Any], where: str) -> None:
    """Refuse an ensemble that has the name of something else, and a member that the run does not train."""
    variants = [variant.experiment for variant in variants_of(run)]
    trained = [*run["experiments"], *variants, *(f"tuned-{study}" for study in run["tuning"])]
    for name, members in run["ensembles"].items():
        if name in trained or name in baselines():
            raise UserError(
                f"{where}: ensembles: {name!r} is the name of an experiment or a baseline: give the ensemble another"
            )
        for member in members:
            if member not in trained:
                raise UserError(f"{where}: ensembles.{name}: found {member!r}; allowed: {', '.join(trained)}")


def checked_files(run: Mapping[str, Any], folder: Path) -> None:
    """Check all experiments, variants and studies of a run, files below `folder`: a mistake stops it before a job."""
    for name in run["experiments"]:
        if name in baselines():
            raise UserError(f"experiments: {name!r} is the name of a baseline: rename {folder}/experiments/{name}.yaml")
        load_experiment(folder / "experiments" / f"{name}.yaml")
    for variant in variants_of(run):
        _check_variant(variant, folder / "experiments")
    for name in run["tuning"]:
        load_study(folder / "tuning" / f"{name}.yaml")


def _check_variant(variant: Variant, folder: Path) -> None:
    where, own = f"variants.{variant.base}.{variant.name}", folder / f"{variant.experiment}.yaml"
    if own.exists():
        raise UserError(f"{where}: its results would stand where those of {own} do: rename the variant or that file")
    try:
        load_experiment(folder / f"{variant.base}.yaml", variant.changes)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
