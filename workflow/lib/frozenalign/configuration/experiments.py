"""Experiments as frozen dataclasses, read from validated YAML."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.registrations import Registration, heads, losses
from frozenalign.configuration.schemas import read_schema, validated
from frozenalign.configuration.variants import changed
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted


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

    @property
    def starts_from_cca(self) -> bool:
        """Say whether the head starts from the CCA of the training pairs, or its noise follows that CCA's ridges."""
        return "cca" in (self.model.get("skip"), self.model.get("init")) or self.training.noise == "auto"

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
    """Refuse a head whose momentum copies the loss does not use, and a linear path beside a linear map."""
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


def applies(key: str, experiment: Mapping[str, Any]) -> bool:
    """Say whether the head or loss of `experiment` takes the parameter `key`."""
    section, name = key.split(".")
    if section == "training" or name in read_schema("experiment")["properties"][section]["properties"]:
        return True
    registered = heads() if section == "model" else losses()
    return name in registered[experiment[section]["type"]].parameters
