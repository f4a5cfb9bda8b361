"""Tuning studies as frozen dataclasses, read from validated YAML."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.experiments import experiment_from
from frozenalign.configuration.registrations import heads, losses
from frozenalign.configuration.schemas import describe, read_schema, validated
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted

# Columns of trials.csv besides the parameters of a trial.
TRIAL_COLUMNS = ("number", "state", "value", "epochs", "seconds", "reason")


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

    @property
    def starts_from_cca(self) -> bool:
        """Say whether a trial's head may start from the CCA of the training pairs."""
        asked = {"model.skip": "cca", "model.init": "cca", "training.noise": "auto"}
        searched = any(asked.get(entry.key) in entry.choices for entry in self.search_space)
        return searched or experiment_from(copy.deepcopy(self.base), "base").starts_from_cca


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
            f"{path}: search_space: {quoted(sorted(repeated)[0])} appears twice; give each entry a `name` of its own"
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
        raise UserError(f"{where}: unknown key {quoted(key)}; allowed: {', '.join(searchable_keys())}")
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
