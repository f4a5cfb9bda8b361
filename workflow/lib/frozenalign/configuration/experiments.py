"""Experiments as frozen dataclasses, read from validated YAML."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.parameters import HUB_PENALTY_DIMS
from frozenalign.configuration.registrations import heads, losses
from frozenalign.configuration.schemas import read_schema, validated
from frozenalign.configuration.variants import changed
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training; experiment.schema.yaml describes each field."""

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
    devices: int


@dataclass(frozen=True)
class Experiment:
    """One projection head with its loss and training; `model` and `loss` hold `type` and that type's parameters."""

    description: str
    model: dict[str, Any]
    loss: dict[str, Any]
    training: TrainingSettings

    @property
    def starts_from_cca(self) -> bool:
        """Return whether the head or its noise is derived from the CCA of the training pairs."""
        return "cca" in (self.model.get("skip"), self.model.get("init")) or self.training.noise == "auto"

    @property
    def takes_a_start(self) -> bool:
        """Return whether the head is derived from what the closed forms find: the CCA, or the axes that whiten rows."""
        return self.starts_from_cca or self.model["whitening"] != "none"

    def as_document(self) -> dict[str, Any]:
        """Return the experiment as the content of its YAML file."""
        return asdict(self)


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
        name = filled[section]["type"]
        if name not in registered:
            allowed = ", ".join(sorted(registered))
            raise UserError(f"{where}: {section}.type: found {quoted(name)}; allowed: {allowed}")
        own = {"properties": parameters(section, name), "additionalProperties": False}
        filled[section] = validated(filled[section], schema["properties"][section] | own, f"{where}: {section}")
    _refuse_temperature(filled["loss"], where)
    _refuse_uneven_parts(filled["model"], where)
    _refuse_mismatch(filled["model"], filled["loss"]["type"], where)
    training = TrainingSettings(**filled["training"])
    if training.devices > training.batch_size:
        raise UserError(
            f"{where}: training.devices: found {training.devices}; allowed: at most `batch_size`, {training.batch_size}"
        )
    return Experiment(filled["description"], filled["model"], filled["loss"], training)


def parameters(section: str, name: str | None) -> dict[str, dict[str, Any]]:
    """Return the schema of every key in a section of an experiment whose head or loss is `name`."""
    common = read_schema("experiment")["properties"][section]["properties"]
    registered = {"model": heads, "loss": losses}
    return common | registered[section]()[name].parameters if section in registered else common


def _refuse_temperature(loss: Mapping[str, Any], where: str) -> None:
    """Refuse a temperature that the loss would change after the first step."""
    bounds = losses()[loss["type"]].constants.get("bounds")
    temperature = loss.get("temperature")
    if bounds and temperature not in (None, "auto") and not bounds[0] <= temperature <= bounds[1]:
        raise UserError(
            f"{where}: loss.temperature: found {temperature}; allowed in the loss {quoted(loss['type'])}: {bounds[0]} "
            f"to {bounds[1]}, or auto"
        )


def _refuse_uneven_parts(model: Mapping[str, Any], where: str) -> None:
    """Refuse sizes of a head of which one is not a multiple of the product of the others, as it has to be."""
    whole, *parts = heads()[model["type"]].constants.get("divided", (None,))
    if whole and model[whole] % math.prod(model[part] for part in parts):
        names, numbers = (" × ".join(words) for words in (parts, (str(model[part]) for part in parts)))
        found = f"{where}: model.{whole}: found {model[whole]}"
        raise UserError(f"{found}; allowed: a multiple of {names}, {numbers}: change one of them")


def _refuse_mismatch(model: Mapping[str, Any], loss: str, where: str) -> None:
    """Refuse what a head asks of a loss that has no such thing, and what a linear map cannot have around it."""
    head = model["type"]
    if "init" in heads()[head].parameters and model["skip"] != "none":
        raise UserError(
            f"{where}: model.skip: the head {head!r} is a linear map itself: set `init: {model['skip']}` instead"
        )
    if model.get("init") == "cca" and model["whitening"] != "none":
        raise UserError(f"{where}: model.whitening: the CCA that `init` asks for takes raw rows: set `whitening: none`")
    if model.get("learnable_temp") is False and not losses()[loss].constants.get("learns_temperature", True):
        raise UserError(
            f"{where}: model.learnable_temp: the loss {loss!r} learns no temperature that `false` could keep fixed: "
            "leave the key out, and set `loss.temperature`"
        )
    if model["hub_prototypes"] and model["output_dim"] <= HUB_PENALTY_DIMS:
        raise UserError(
            f"{where}: model.output_dim: found {model['output_dim']}; allowed with `hub_prototypes`: more than "
            f"{HUB_PENALTY_DIMS}, which hold the penalty"
        )
    users = sorted(name for name, item in losses().items() if "momentum" in item.parameters)
    if "momentum" in heads()[head].parameters and loss not in users:
        raise UserError(
            f"{where}: the head {head!r} keeps momentum copies, which the loss {loss!r} does not use; "
            f"take the loss {' or '.join(users)}, or the head mlp, whose towers are the same"
        )
