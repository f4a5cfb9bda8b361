"""Experiments and studies as frozen dataclasses, read from validated YAML."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workflow.lib.errors import UserError
from workflow.lib.quotation import quoted
from workflow.lib.registrations import Registration, baselines, heads, losses
from workflow.lib.validation import (
    describe,
    read_schema,
    read_yaml,
    refuse_single_values,
    refuse_unplain,
    validated,
    with_plain_values,
)
from workflow.lib.variants import Variant, changed, refuse_ambiguous, variants_of

# Folders beside those of the experiments.
RESERVED = ("split", "tuning", "report", "logs", "benchmarks")
# What trials.csv says of a trial besides its parameters.
TRIAL_COLUMNS = ("number", "state", "value", "epochs", "seconds", "reason")


@dataclass(frozen=True)
class TrainingSettings:
    """How a head is trained; experiment.schema.yaml describes each field."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    num_epochs: int
    patience: int
    warmup_steps: int
    gradient_clip: float
    monitor: str
    same_image: str
    input_dropout: float
    noise: float | str
    mixup: float
    structure: float
    weight_average: str
    average_decay: float
    control: str


@dataclass(frozen=True)
class Experiment:
    """One projection head with its loss and training; `model` and `loss` hold `type` and that type's parameters."""

    description: str
    model: dict[str, Any]
    loss: dict[str, Any]
    training: TrainingSettings

    def as_document(self) -> dict[str, Any]:
        """Return the experiment as the content of its YAML file."""
        return asdict(self)


@dataclass(frozen=True)
class SearchEntry:
    """One varied value: where it goes, what it may be, and when it applies."""

    key: str
    name: str
    type: str
    choices: tuple[Any, ...]
    low: float | None
    high: float | None
    log: bool
    step: float | None
    when: dict[str, list[Any]]


@dataclass(frozen=True)
class Study:
    """A tuning study: its budget, sampler, pruner, base experiment and search space."""

    description: str
    trials: int
    seconds: float | None
    n_jobs: int
    data: str
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    base: dict[str, Any]
    search_space: tuple[SearchEntry, ...]


def load_experiment(path: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Read and check one file of config/experiments/, then again with the dotted keys of `changes` set."""
    document = read_yaml(path)
    experiment = experiment_from(document, str(path))
    if not changes:
        return experiment
    return experiment_from(changed(document, changes), f"{path} with {', '.join(changes)}")


def experiment_from(document: Any, where: str) -> Experiment:
    """Return the checked experiment that a YAML document describes; `where` names it in messages."""
    schema = read_schema("experiment")
    filled = validated(document, schema, where)
    for section, registered in (("model", heads()), ("loss", losses())):
        part = schema["properties"][section]
        specific = typed_schema(part, registered, filled[section]["type"], f"{where}: {section}")
        filled[section] = validated(filled[section], specific, f"{where}: {section}")
    refuse_mismatch(filled["model"], filled["loss"]["type"], where)
    training = TrainingSettings(**filled["training"])
    return Experiment(filled["description"], filled["model"], filled["loss"], training)


def typed_schema(
    part: Mapping[str, Any], registered: Mapping[str, Registration], name: str, where: str
) -> dict[str, Any]:
    """Return a section's schema with the parameters of the registered type `name`; an unknown type is refused."""
    if name not in registered:
        raise UserError(f"{where}.type: found {quoted(name)}; allowed: {', '.join(sorted(registered))}")
    properties = part["properties"] | registered[name].parameters
    return {**part, "properties": properties, "additionalProperties": False}


def refuse_mismatch(model: Mapping[str, Any], loss: str, where: str) -> None:
    """Refuse a head whose momentum copies the loss would never look at, and a linear path beside a linear map."""
    head = model["type"]
    if "init" in heads()[head].parameters and model["skip"] != "none":
        raise UserError(
            f"{where}: model.skip: the head {head!r} is a linear map itself: set `init: {model['skip']}` instead"
        )
    users = sorted(name for name, item in losses().items() if "momentum" in item.parameters)
    if "momentum" in heads()[head].parameters and loss not in users:
        raise UserError(
            f"{where}: the head {head!r} keeps momentum copies, which the loss {loss!r} does not use; "
            f"take the loss {' or '.join(users)}, or the head mlp, whose towers are the same"
        )


def load_study(path: str | Path) -> Study:
    """Read and check one file of config/tuning/: its keys, its base experiment and every entry of the search space."""
    filled = validated(read_yaml(path), read_schema("tuning"), str(path))
    experiment_from(copy.deepcopy(filled["base"]), f"{path}: base")
    entries = tuple(
        _search_entry(entry, f"{path}: search_space[{i}]") for i, entry in enumerate(filled["search_space"])
    )
    names = [entry.name for entry in entries]
    if taken := [name for name in names if name in TRIAL_COLUMNS]:
        raise UserError(f"{path}: search_space: {taken[0]!r} is a column of trials.csv: give the entry another `name`")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"{path}: search_space: {quoted(sorted(repeated)[0])} stands twice; give each entry a `name` of its own"
        )
    return Study(**(filled | {"search_space": entries}))


def _search_entry(entry: dict[str, Any], where: str) -> SearchEntry:
    if entry["type"] == "categorical":
        if not entry.get("choices"):
            raise UserError(f"{where} ({entry['key']}): a categorical entry needs `choices`: add a list of values")
        values = entry["choices"]
    else:
        if entry.get("low") is None or entry.get("high") is None or entry["low"] > entry["high"]:
            raise UserError(f"{where} ({entry['key']}): an entry of type {entry['type']} needs `low` ≤ `high`")
        if entry["log"] and (entry["low"] <= 0 or entry.get("step")):
            raise UserError(f"{where} ({entry['key']}): `log` needs `low` above 0 and no `step`")
        values = [entry["low"], entry["high"]]
    for value in values:
        _check_value(entry["key"], value, where)
    fields = {"name": entry["key"], "low": None, "high": None, "step": None, "when": {}} | entry
    return SearchEntry(**(fields | {"choices": tuple(entry.get("choices", ()))}))


def _check_value(key: str, value: Any, where: str) -> None:
    """Refuse a value that no head, loss or training section would take under `key`."""
    schemas = parameter_schemas(key)
    if not schemas:
        raise UserError(f"{where}: nothing takes the key {quoted(key)}; allowed: {', '.join(searchable_keys())}")
    for schema in schemas:
        try:
            validated(value, schema, where)
            return
        except UserError:
            continue
    raise UserError(
        f"{where} ({key}): found {quoted(value)}; allowed: {' or '.join(describe(item) for item in schemas)}"
    )


def parameter_schemas(key: str) -> list[dict[str, Any]]:
    """Return the schemas that the parameter `section.name` has over all registered types."""
    section, name = key.split(".")
    if section == "training":
        properties = read_schema("experiment")["properties"]["training"]["properties"]
        return [properties[name]] if name in properties else []
    registered = heads() if section == "model" else losses()
    if name == "type":
        return [{"enum": sorted(registered)}]
    common = read_schema("experiment")["properties"][section]["properties"]
    own = [item.parameters[name] for item in registered.values() if name in item.parameters]
    return own + ([common[name]] if name in common else [])


def searchable_keys() -> list[str]:
    """Return every key that a search space may vary."""
    sections = read_schema("experiment")["properties"]
    keys = {f"training.{name}" for name in sections["training"]["properties"]}
    for section, registered in (("model", heads()), ("loss", losses())):
        keys |= {f"{section}.{name}" for name in sections[section]["properties"]}
        keys |= {f"{section}.{name}" for item in registered.values() for name in item.parameters}
    return sorted(keys)


def applies(key: str, experiment: Mapping[str, Any]) -> bool:
    """Say whether the head or loss that `experiment` has chosen takes the parameter `key`."""
    section, name = key.split(".")
    if section == "training" or name in read_schema("experiment")["properties"][section]["properties"]:
        return True
    registered = heads() if section == "model" else losses()
    return name in registered[experiment[section]["type"]].parameters


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
