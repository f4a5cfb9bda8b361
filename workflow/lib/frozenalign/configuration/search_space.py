"""Search spaces: from the entries of a study's YAML file to the experiment of one trial."""

import contextlib
import copy
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from frozenalign.configuration.experiments import Experiment, experiment_from, parameters
from frozenalign.configuration.studies import SearchEntry, Study
from frozenalign.system.errors import UserError, one_line

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


def propose(trial: "BaseTrial", study: Study, where: str) -> Experiment:
    """Return the experiment of a trial: the base with every entry that applies to its head and loss drawn."""
    document = copy.deepcopy(study.base)
    document.setdefault("training", {})
    types_first = sorted(
        study.search_space, key=lambda entry: (not entry.key.endswith(".type"), entry.key == "loss.type")
    )
    for entry in types_first:
        section, name = entry.key.split(".")
        allowed = parameters(section, document[section].get("type"))
        if name in allowed and all(_value(document, key) in values for key, values in entry.when.items()):
            document[section][name] = _drawn(trial, entry)
            if name == "type":
                # The base's parameters that the drawn head or loss does not take.
                allowed = parameters(section, document[section]["type"])
                document[section] = {key: value for key, value in document[section].items() if key in allowed}
    return experiment_from(document, where)


def _value(document: dict[str, Any], key: str) -> Any:
    """Return the value of `section.name` in an experiment, or the default of its head, loss or schema."""
    section, name = key.split(".")
    default = parameters(section, document[section].get("type")).get(name, {}).get("default")
    return document[section].get(name, default)


def _drawn(trial: "BaseTrial", entry: SearchEntry) -> Any:
    if entry.type == "categorical":
        return trial.suggest_categorical(entry.name, entry.choices)
    if entry.type == "int":
        return trial.suggest_int(entry.name, int(entry.low), int(entry.high), step=int(entry.step or 1), log=entry.log)
    return trial.suggest_float(entry.name, entry.low, entry.high, step=entry.step, log=entry.log)


def largest_experiments(study: Study) -> list[Experiment]:
    """Return the base and the experiments among which is the largest of a search space, whatever others depend on.

    Others depend on heads, losses and what `when` names: they take every value. Of all else, numbers are the largest
    that can be drawn, and each whole number of the head once the smallest: fewer tokens, for example, are wider.
    Other choices are the first that is not `none`. What no trial can be is left out.
    """
    named = {key for entry in study.search_space for key in entry.when}
    decisive = [entry for entry in study.search_space if entry.key.endswith(".type") or entry.key in named]
    sizes = [entry.name for entry in study.search_space if entry.key.startswith("model.") and _is_whole(entry)]
    found = {}
    for smallest, *drawn in itertools.product([None, *sizes], *(_decisive_values(entry, study) for entry in decisive)):
        trial = _LargestTrial({entry.name: value for entry, value in zip(decisive, drawn, strict=True)}, smallest)
        with contextlib.suppress(UserError):
            largest = propose(trial, study, "the largest trial")
            found[json.dumps(largest.as_document(), sort_keys=True)] = largest
    return [experiment_from(copy.deepcopy(study.base), "base"), *found.values()]


def _is_whole(entry: SearchEntry) -> bool:
    return entry.type == "int" or any(type(choice) is int for choice in entry.choices)


def _decisive_values(entry: SearchEntry, study: Study) -> list[Any]:
    """Return what an entry may draw: its choices, or of a range both ends and the numbers in it that `when` names."""
    if entry.type == "categorical":
        return list(entry.choices)
    named = (value for other in study.search_space for value in other.when.get(entry.key, ()))
    numbers = (value for value in named if type(value) in (int, float))
    return [entry.high, entry.low, *(value for value in numbers if entry.low < value < entry.high)]


@dataclass(frozen=True)
class _LargestTrial:
    """Draws the largest values, the smallest for the entry `smallest`; decided: what is drawn for others, by name."""

    decided: dict[str, Any]
    smallest: str | None

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name in self.decided:
            return self.decided[name]
        if numbers := [choice for choice in choices if type(choice) in (int, float)]:
            return min(numbers) if name == self.smallest else max(numbers)
        return next((choice for choice in choices if choice not in (False, "none")), choices[0])

    def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:
        return int(self.decided.get(name, low if name == self.smallest else high))

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        return self.decided.get(name, high)


def space_text(study: Study) -> str:
    """Return the search space and its base as text, the same for equal spaces."""
    entries = {entry.name: asdict(entry) for entry in study.search_space}
    return json.dumps({"base": study.base, "search_space": entries}, sort_keys=True)


def space_difference(old: str, new: str) -> str:
    """Return in words what differs between two results of `space_text`."""
    before, after = json.loads(old), json.loads(new)
    changes = []
    was, now = (_leaves(of["base"], "base") for of in (before, after))
    for key in dict.fromkeys([*was, *now]):
        if was.get(key) != now.get(key):
            changes.append(f"{key} was {_short(was.get(key))} and is {_short(now.get(key))}")
    first, second = before["search_space"], after["search_space"]
    changes += [f"{name} was removed" for name in first if name not in second]
    changes += [f"{name} is new" for name in second if name not in first]
    for name in first:
        if name in second and first[name] != second[name]:
            fields = [field for field in first[name] if first[name][field] != second[name][field]]
            was, now = (", ".join(f"{field} {_short(of[name][field])}" for field in fields) for of in (first, second))
            changes.append(f"{name} had {was} and has {now}")
    return "; ".join(changes)


def _leaves(value: Any, key: str) -> dict[str, Any]:
    """Return the plain values of nested mappings by dotted key."""
    if not isinstance(value, dict):
        return {key: value}
    return {name: leaf for part, inner in value.items() for name, leaf in _leaves(inner, f"{key}.{part}").items()}


def _short(value: Any) -> str:
    return one_line(json.dumps(value), 120)
