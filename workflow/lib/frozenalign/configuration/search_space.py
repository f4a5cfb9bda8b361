"""Search spaces: from the entries of a study's YAML file to the experiment of one trial."""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from frozenalign.configuration.experiments import Experiment, applies, experiment_from
from frozenalign.configuration.registrations import heads, losses
from frozenalign.configuration.schemas import read_schema
from frozenalign.configuration.studies import SearchEntry, Study


class Trial(Protocol):
    """The part of an Optuna trial that a search space needs."""

    def suggest_categorical(self, name: str, choices: Iterable[Any]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...


def propose(trial: Trial, study: Study, where: str) -> Experiment:
    """Return the experiment of a trial: the base with every entry that applies to its head and loss drawn."""
    document = copy.deepcopy(study.base)
    document.setdefault("training", {})
    types_first = sorted(
        study.search_space, key=lambda entry: (not entry.key.endswith(".type"), entry.key == "loss.type")
    )
    for entry in types_first:
        if applies(entry.key, document) and _holds(entry.when, document):
            section, name = entry.key.split(".")
            document[section][name] = _drawn(trial, entry)
            if name == "type":
                _drop_foreign_parameters(document, section)
    return experiment_from(document, where)


def _holds(conditions: Mapping[str, list[Any]], document: Mapping[str, Any]) -> bool:
    """Say whether every other key of `when` has one of its values."""
    return all(_value(document, key) in values for key, values in conditions.items())


def _value(document: Mapping[str, Any], key: str) -> Any:
    """Return the value of `section.name` in an experiment, or the default of its head, loss or schema."""
    section, name = key.split(".")
    properties = read_schema("experiment")["properties"][section]["properties"]
    if section != "training":
        registered = heads() if section == "model" else losses()
        properties = properties | registered[document[section]["type"]].parameters
    return document[section].get(name, properties.get(name, {}).get("default"))


def _drawn(trial: Trial, entry: SearchEntry) -> Any:
    if entry.type == "categorical":
        return trial.suggest_categorical(entry.name, entry.choices)
    if entry.type == "int":
        return trial.suggest_int(entry.name, int(entry.low), int(entry.high), step=int(entry.step or 1), log=entry.log)
    return trial.suggest_float(entry.name, entry.low, entry.high, step=entry.step, log=entry.log)


def _drop_foreign_parameters(document: dict[str, Any], section: str) -> None:
    """Remove the base's parameters that the drawn head or loss does not take."""
    registered = heads() if section == "model" else losses()
    common = read_schema("experiment")["properties"][section]["properties"]
    own = set(common) | set(registered[document[section]["type"]].parameters)
    document[section] = {name: value for name, value in document[section].items() if name in own}


def space_text(study: Study) -> str:
    """Return the search space and its base as text, the same for equal spaces."""
    entries = {entry.name: asdict(entry) for entry in study.search_space}
    return json.dumps({"base": study.base, "search_space": entries}, sort_keys=True)


def space_difference(old: str, new: str) -> str:
    """Return in words what differs between two results of `space_text`."""
    before, after = json.loads(old), json.loads(new)
    changes = []
    if before["base"] != after["base"]:
        changes.append(f"base was {_short(before['base'])} and is {_short(after['base'])}")
    first, second = before["search_space"], after["search_space"]
    changes += [f"{name} was removed" for name in first if name not in second]
    changes += [f"{name} is new" for name in second if name not in first]
    for name in first:
        if name in second and first[name] != second[name]:
            fields = [field for field in first[name] if first[name][field] != second[name][field]]
            was = ", ".join(f"{field} {_short(first[name][field])}" for field in fields)
            now = ", ".join(f"{field} {_short(second[name][field])}" for field in fields)
            changes.append(f"{name} had {was} and has {now}")
    return "; ".join(changes)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
