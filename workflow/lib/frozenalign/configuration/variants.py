"""Variants of a run's experiments: the same file with some keys changed."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frozenalign.configuration.schemas import read_schema, validated
from frozenalign.configuration.yaml_text import parse_yaml, plain_value
from frozenalign.system.errors import UserError, quoted


@dataclass(frozen=True)
class Variant:
    """An experiment with some keys changed; `changes` holds dotted keys of the experiment file and their values."""

    base: str
    name: str
    changes: dict[str, Any]

    @property
    def experiment(self) -> str:
        """Return the name of the variant among the experiments."""
        return f"{self.base}-{self.name}"


def variants_of(run: Mapping[str, Any]) -> list[Variant]:
    """Return the variants of a run configuration, in its order.

    Values that Snakemake passes as text, such as 1e-4 in a file, are converted here.
    """
    found = []
    for base, named in run["variants"].items():
        for name, changes in named.items():
            plain = {key: plain_value(value, f"variants.{base}.{name}.{key}") for key, value in changes.items()}
            found.append(Variant(base, name, plain))
    return found


def checked_name(name: str, where: str) -> str:
    """Return the name of a result if it is valid in paths, tables and pages; `where` begins the message if not."""
    schema = {"properties": {"name": read_schema("config")["properties"]["dataset"]}}
    return validated({"name": name}, schema, where)["name"]


def changes_from(text: str) -> dict[str, Any]:
    """Return the changes in a `--set` argument: KEY=VALUE with a YAML value, or one JSON object."""
    where = f"--set {quoted(text)}"
    if text.startswith("{"):
        changes = parse_yaml(text, where)
    else:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{where}: there is no value: write KEY=VALUE, for example model.skip=none")
        changes = {key: parse_yaml(value, where)}
    schema = read_schema("config")["properties"]["variants"]["additionalProperties"]["additionalProperties"]
    return validated(changes, schema, where)


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an experiment file with dotted keys set to the values of `changes`."""
    result = copy.deepcopy(dict(document))
    for key, value in changes.items():
        section, name = key.split(".")
        result.setdefault(section, {})[name] = value
    return result


def written(value: Any) -> str:
    """Return a value as it is written in an experiment file."""
    return value if isinstance(value, str) else json.dumps(value)
