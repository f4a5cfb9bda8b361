"""Tuning studies as frozen dataclasses, read from validated YAML."""

import collections
import contextlib
import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from frozenalign.configuration.experiments import experiment_from
from frozenalign.configuration.registrations import heads, losses
from frozenalign.configuration.schemas import describe, read_schema, unknown_key, validated
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted

# Before the name of a study: the name of the experiment that it has found.
TUNED = "tuned-"
AUTO = "auto"
FILE_STORAGES = ("journal", "sqlite")
# Columns of trials.csv besides the parameters of a trial.
TRIAL_COLUMNS = ("number", "state", "value", "epochs", "seconds", "reason")


@dataclass(frozen=True)
class SearchEntry:
    """One value that a study varies: its key, its range and the conditions under which it applies."""

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
    workers: int
    n_jobs: int
    storage: str
    data: str
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    base: dict[str, Any]
    search_space: tuple[SearchEntry, ...]

    @property
    def monitor(self) -> str:
        """Return the validation metric that trials are compared by: `training.monitor` of the base."""
        return experiment_from(copy.deepcopy(self.base), "base").training.monitor

    @property
    def starts_from_cca(self) -> bool:
        """Return whether a trial's head may start from the CCA of the training pairs."""
        asked = {"model.skip": "cca", "model.init": "cca", "training.noise": "auto"}
        searched = any(asked.get(entry.key) in entry.choices for entry in self.search_space)
        return searched or experiment_from(copy.deepcopy(self.base), "base").starts_from_cca

    @property
    def takes_a_start(self) -> bool:
        """Return whether a trial's head may be derived from what the job of the closed forms finds."""
        whitens = any(entry.key == "model.whitening" for entry in self.search_space)
        return whitens or self.starts_from_cca or experiment_from(copy.deepcopy(self.base), "base").takes_a_start


def load_study(path: str | Path) -> Study:
    """Read and check one file of config/tuning/: its keys, its base experiment and every entry of the search space."""
    filled = validated(read_yaml(path), read_schema("tuning"), str(path))
    _check_storage(filled["storage"], f"{path}: storage")
    if experiment_from(copy.deepcopy(filled["base"]), f"{path}: base").training.devices > 1:
        raise UserError(f"{path}: base: training.devices: a trial has one device: leave it out")
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


def _check_storage(storage: str, where: str) -> None:
    """Refuse what is neither a kind of file nor a URL, and a URL with a password, which would end up in logs."""
    if storage in (AUTO, *FILE_STORAGES):
        return
    try:
        url = urlsplit(storage)
        has_password = url.password is not None or "pass" in url.query.lower()
    except ValueError:
        raise UserError(f"{where}: this is no URL: write it as postgresql://HOST/DATABASE") from None
    if has_password:
        raise UserError(
            f"{where}: the URL has a password in it: take it out, and give it in the environment (PGPASSWORD) or in a "
            "file that the driver reads (~/.pgpass)"
        )
    if not (url.scheme and storage.startswith(f"{url.scheme}://")) or url.scheme.startswith("sqlite"):
        raise UserError(
            f"{where}: allowed: {', '.join((AUTO, *FILE_STORAGES))}, or the URL of a database server, "
            "postgresql://HOST/DATABASE"
        )


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
        _check_numbers(entry, where)
    for value in values:
        _check_varied(entry["key"], value, where)
    for key, allowed in entry.get("when", {}).items():
        for value in allowed:
            _check_value(key, value, f"{where}.when")
    fields = {"name": entry["key"], "low": None, "high": None, "step": None, "when": {}} | entry
    return SearchEntry(**(fields | {"choices": tuple(entry.get("choices", ()))}))


def _check_numbers(entry: dict[str, Any], where: str) -> None:
    """Refuse fractions in an entry of type int, and an entry of type float whose key takes whole numbers."""
    given = {name: entry[name] for name in ("low", "high", "step") if entry.get(name) is not None}
    if entry["type"] == "int" and (fractions := [name for name, value in given.items() if value % 1]):
        name = fractions[0]
        raise UserError(
            f"{where} ({entry['key']}): {name}: found {given[name]}; allowed with `type: int`: whole numbers"
        )
    kinds = {kind for schema in _experiment_keys().get(entry["key"], ()) for kind in _kinds(schema)}
    if entry["type"] == "float" and "integer" in kinds and "number" not in kinds:
        raise UserError(f"{where} ({entry['key']}): the key takes whole numbers: write `type: int`")


def _kinds(schema: dict[str, Any]) -> set[str | None]:
    """Return the types of the values that a schema takes."""
    return {schema.get("type")}.union(*map(_kinds, schema.get("anyOf", ())))


def _check_varied(key: str, value: Any, where: str) -> None:
    """Refuse a key that trials may not differ in, and a value that no head, loss or training section would take."""
    if key == "training.monitor":
        raise UserError(f"{where}: trials are compared by {key}, so that it cannot vary: set it in `base`")
    if key == "training.devices":
        raise UserError(f"{where}: a trial has one device, so that {key} cannot vary: leave it out")
    _check_value(key, value, where)


def _check_value(key: str, value: Any, where: str) -> None:
    """Refuse a value that no head, loss or training section would take under `key`."""
    schemas = _experiment_keys()
    if key not in schemas:
        raise UserError(f"{where}: {unknown_key(key, schemas)}")
    for schema in schemas[key]:
        with contextlib.suppress(UserError):
            validated(value, schema, where)
            return
    raise UserError(
        f"{where} ({key}): found {quoted(value)}; allowed: {' or '.join(dict.fromkeys(map(describe, schemas[key])))}"
    )


@functools.cache
def _experiment_keys() -> dict[str, list[dict[str, Any]]]:
    """Return the keys of an experiment that a study may name, with their schemas in all registered types."""
    found = collections.defaultdict(list)
    for section, registered in (("training", {}), ("model", heads()), ("loss", losses())):
        for item in registered.values():
            for name, schema in item.parameters.items():
                found[f"{section}.{name}"].append(schema)
        for name, schema in read_schema("experiment")["properties"][section]["properties"].items():
            found[f"{section}.{name}"].append({"enum": sorted(registered)} if name == "type" else schema)
    return found
