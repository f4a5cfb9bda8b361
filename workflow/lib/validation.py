"""Configuration files: YAML in, checked values with defaults out, or one sentence that names file, key and remedy."""

import difflib
import functools
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match

from workflow.lib.errors import UserError

logger = logging.getLogger(__name__)

SCHEMAS = Path(__file__).parents[1] / "schemas"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe YAML in which 1e-4 is a number (YAML 1.1 asks for a dot) and a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {key: list(pairs) for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; a missing or malformed one is a UserError that names the place."""
    try:
        text = Path(path).read_text()
    except FileNotFoundError as error:
        raise UserError(f"{path} not found: check the name, or write the file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return what YAML text says; `where` names it in the message where it is malformed."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = shown(error.problem)[1:-1]
        raise UserError(f"{where} is not valid YAML ({line}{problem}): correct that line") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = shown(str(error).partition("\n")[0])[1:-1]
        raise UserError(f"{where} is not valid YAML ({problem}): write plain values") from error


def plain_value(value: Any, where: str) -> Any:
    """Return the number, truth value or null that text stands for in the project's files, any other value as it is."""
    if not isinstance(value, str):
        return value
    read = parse_yaml(value, where)
    return value if isinstance(read, list | dict) else read


def _whole_text_matches(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Hold text to a pattern up to its very end: `$` would let a newline follow, and a key that is no text pass."""
    if not isinstance(instance, str) or not re.fullmatch(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = validators.extend(Draft202012Validator, {"pattern": _whole_text_matches})


@functools.cache
def read_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema `workflow/schemas/NAME.schema.yaml`."""
    return read_yaml(SCHEMAS / f"{name}.schema.yaml")


def validated(document: Any, schema: Mapping[str, Any], where: str) -> Any:
    """Return a copy of `document` with the schema's defaults filled in.

    `where` names the file in messages. The first violation is a UserError: key, what was found, what is allowed. A key
    that the schema's `renamed` maps to its present name is taken, with a warning.
    """
    document = _with_present_names(document, schema, where)
    error = best_match(_Validator(schema).iter_errors(document), key=lambda error: -len(error.path))
    if error:
        raise UserError(f"{where}: {_sentence(error)}")
    return _with_defaults(document, schema)


def _with_present_names(document: Any, schema: Mapping[str, Any], where: str) -> Any:
    """Return the document with every key under the name that it has now; both names at once are refused."""
    if isinstance(document, list):
        return [_with_present_names(item, schema.get("items", {}), where) for item in document]
    if not isinstance(document, Mapping):
        return document
    named = {}
    for key, value in document.items():
        name = schema.get("renamed", {}).get(key, key)
        if name != key:
            if name in document:
                raise UserError(f"{where}: {key!r} is the old name of {name!r}, and both are given: leave out {key!r}")
            logger.warning("%s: the key %r is now called %r: rename it, the old name will go", where, key, name)
        named[name] = _with_present_names(value, _schema_of(schema, name), where)
    return named


def _schema_of(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the schema of a key's value, empty where the schema says nothing of it."""
    others = schema.get("additionalProperties")
    return schema.get("properties", {}).get(key) or (others if isinstance(others, Mapping) else {})


def _with_defaults(document: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(document, list):
        return [_with_defaults(item, schema.get("items", {})) for item in document]
    if isinstance(document, float) and schema.get("type") == "integer":
        return int(document)
    if not isinstance(document, Mapping):
        return document
    filled = {key: _with_defaults(value, _schema_of(schema, key)) for key, value in document.items()}
    for key, value in schema.get("properties", {}).items():
        if key not in filled and "default" in value:
            filled[key] = _with_defaults(value["default"], value)
    return filled


def _sentence(error: ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path)
    at = f"{key}: " if key else ""
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in allowed)
        if hint := error.schema.get("removed", {}).get(unknown):
            return f"{at}the key {unknown!r} is gone: {hint}"
        near = difflib.get_close_matches(str(unknown), allowed, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{at}unknown key {unknown!r}; {hint}allowed: {', '.join(sorted(allowed))}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{at}the key {missing!r} is missing: add it ({describe(error.schema['properties'].get(missing, {}))})"
    return f"{at or 'the document: '}found {_found(error.instance)}; allowed: {describe(error.schema)}"


def shown(value: Any) -> str:
    """Return a value as a message quotes it: on one line, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _found(value: Any) -> str:
    return f"{shown(value)} ({_type_name(value)})"


def _type_name(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return (
        "nothing" if value is None else names.get(type(value), "a mapping" if isinstance(value, Mapping) else "a value")
    )


_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "nothing (null)",
    "array": "a list",
    "object": "a mapping",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def describe(schema: Mapping[str, Any]) -> str:
    """Say in words which values a schema allows."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(describe(option) for option in schema[several])
    text = _TYPES.get(schema.get("type", ""), "any value")
    bounds = [f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
    if "pattern" in schema:
        bounds.append(f"matching {schema['pattern']}")
    if "maxLength" in schema:
        bounds.append(f"of at most {schema['maxLength']} characters")
    if schema.get("minItems"):
        bounds.append(f"with at least {schema['minItems']} entries")
    if schema.get("minProperties"):
        bounds.append(f"with at least {schema['minProperties']} keys")
    if "properties" in schema:
        bounds.append(f"with the keys {', '.join(schema['properties'])}")
    return " ".join([text, *bounds])
