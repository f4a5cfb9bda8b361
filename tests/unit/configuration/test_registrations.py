"""Registrations: what is read from the source is what importing it registers."""

import inspect
import types
import typing

import pytest
from jsonschema import Draft202012Validator

from frozenalign.closed_forms.registry import BASELINES
from frozenalign.configuration.registrations import (
    baselines,
    caption_formats,
    fitting_baselines,
    heads,
    losses,
    read_registrations,
)
from frozenalign.data.captions.registry import CAPTION_FORMATS
from frozenalign.losses.registry import LOSSES
from frozenalign.models.registry import HEADS

REGISTRIES = [(heads, HEADS), (losses, LOSSES), (baselines, BASELINES), (caption_formats, CAPTION_FORMATS)]
REGISTERED = [
    pytest.param(read()[name], registry[name], id=f"{read.__name__}-{name}")
    for read, registry in REGISTRIES
    for name in registry
]
JSON_TYPES = {int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def keyword_only(registered) -> dict[str, inspect.Parameter]:
    signature = inspect.signature(registered)
    return {name: item for name, item in signature.parameters.items() if item.kind is item.KEYWORD_ONLY}


def alternatives(annotation) -> tuple:
    joined = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if joined else (annotation,)


def accepted_types(schema: dict) -> list:
    """Return the JSON types, or the listed values, that a schema takes."""
    if "anyOf" in schema:
        return [found for part in schema["anyOf"] for found in accepted_types(part)]
    return [tuple(schema["enum"])] if "enum" in schema else [schema["type"]]


@pytest.mark.parametrize(("read", "registry"), REGISTRIES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_same_names(read, registry):
    assert set(read()) == set(registry)
    assert all(name == registration.name for name, registration in read().items())


@pytest.mark.parametrize(("registration", "registered"), REGISTERED)
def test_the_same_parameters_with_the_same_defaults(registration, registered):
    signature = keyword_only(registered)
    assert list(registration.parameters) == list(signature)
    for name, schema in registration.parameters.items():
        default = signature[name].default
        assert schema["default"] == default
        assert type(schema["default"]) is type(default)
        Draft202012Validator(schema).validate(default)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_whether_it_learns_a_temperature(name):
    learned = {key for key, _ in LOSSES[name]().named_parameters()} & {"temperature", "logit_scale"}
    assert losses()[name].constants.get("learns_temperature", True) is LOSSES[name].learns_temperature is bool(learned)


def test_only_a_baseline_of_raw_embeddings_needs_them_equally_wide():
    assert fitting_baselines(["ridge", "raw_cosine", "cca"], 4, 4) == ["ridge", "raw_cosine", "cca"]
    assert fitting_baselines(["ridge", "raw_cosine", "cca"], 4, 5) == ["ridge", "cca"]
    assert fitting_baselines(["raw_cosine"], 0, 0) == []


@pytest.mark.parametrize(("registration", "registered"), REGISTERED)
def test_a_schema_takes_the_types_of_the_annotation(registration, registered):
    for name, item in keyword_only(registered).items():
        expected = [
            typing.get_args(part) if typing.get_origin(part) is typing.Literal else JSON_TYPES[part]
            for part in alternatives(item.annotation)
        ]
        assert accepted_types(registration.parameters[name]) == expected


@pytest.mark.parametrize(("registration", "registered"), REGISTERED)
def test_the_description_is_the_first_line_of_the_docstring(registration, registered):
    assert registration.description == inspect.getdoc(registered).splitlines()[0]


SOURCE = '''
from elsewhere import register_thing, register_other

@register_thing("wide")
class Wide:
    """A wide thing.

    width: how wide,
        in metres.
    mode: fast or slow.
    """

    def __init__(self, dim, *, width: PositiveInt | None = None, mode: Literal["fast", "slow"] = "fast") -> None:
        pass


@register_thing("plain")
class Plain:
    """A thing without parameters."""


@register_thing("computed")
def computed(moments, *, share: Probability = 0.5):
    """A function.

    share: a share.
    """


@register_other("foreign")
class Foreign:
    pass


class Unregistered:
    pass
'''


def test_a_source_file_is_read_without_being_run(tmp_path):
    path = tmp_path / "things.py"
    path.write_text(SOURCE)
    found = read_registrations(path, "register_thing", "house.things")
    assert {name: registration.description for name, registration in found.items()} == {
        "wide": "A wide thing.",
        "plain": "A thing without parameters.",
        "computed": "A function.",
    }
    assert found["wide"].parameters == {
        "width": {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
            "default": None,
            "description": "how wide, in metres.",
        },
        "mode": {"enum": ["fast", "slow"], "default": "fast", "description": "fast or slow."},
    }
    assert found["plain"].parameters == {}
    assert found["computed"].parameters == {
        "share": {
            "type": "number",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "default": 0.5,
            "description": "a share.",
        }
    }
