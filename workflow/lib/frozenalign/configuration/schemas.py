"""Documents checked against a JSON schema: filled with defaults, or refused with file, key and remedy."""

import contextlib
import difflib
import functools
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from frozenalign.configuration.yaml_text import plain_value, read_yaml
from frozenalign.system.errors import UserError, one_line, quoted

# A link to workflow/schemas, so that an installed library has them.
SCHEMAS = Path(__file__).parents[1] / "schemas"
_PLAIN = {"number", "integer", "boolean", "null"}


@functools.cache
def read_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema `workflow/schemas/NAME.schema.yaml`."""
    return read_yaml(SCHEMAS / f"{name}.schema.yaml")


def validated(document: Any, schema: Mapping[str, Any], where: str) -> Any:
    """Return a copy of `document` with the schema's defaults filled in.

    `where` names the file in messages. The first violation is a UserError: key, what was found, what is allowed.
    """
    error = best_match(Draft202012Validator(schema).iter_errors(document), key=lambda error: -len(error.path))
    if error:
        raise UserError(f"{where}: {_sentence(error)}")
    return _with_defaults(document, schema)


def _schema_of(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the schema of a key's value, empty if the schema has none."""
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


def with_plain_values(document: Any, schema: Mapping[str, Any]) -> Any:
    """Return a document with text converted to a number, truth value or null where the schema allows no text.

    Snakemake passes every scalar inside a list or mapping of `--config` as text, and 1e-4 in a file as well.
    """
    if isinstance(document, list):
        return [with_plain_values(item, schema.get("items", {})) for item in document]
    if isinstance(document, Mapping):
        return {key: with_plain_values(value, _schema_of(schema, key)) for key, value in document.items()}
    takes_plain = any(option.get("type") in _PLAIN for option in [schema, *schema.get("anyOf", [])])
    if isinstance(document, str) and takes_plain and not Draft202012Validator(schema).is_valid(document):
        # Malformed text stays as it is: the check against the schema reports it with its key.
        with contextlib.suppress(UserError):
            return plain_value(document, "")
    return document


def refuse_single_values(document: Any, schema: Mapping[str, Any], where: str, keys: tuple[str, ...] = ()) -> None:
    """Refuse a single value where a run needs a list; the message shows the value as a list.

    keys: the path to `document`.
    """
    for key, value in document.items() if isinstance(document, Mapping) else ():
        wanted, path = _schema_of(schema, key), (*keys, str(key))
        refuse_single_values(value, wanted, where, path)
        if wanted.get("type") == "array" and isinstance(value, str | int | float):
            name, listed = path[0], f"[{value}]"
            for inner in reversed(path[1:]):
                listed = f"{{{inner}: {listed}}}"
            raise UserError(
                f"{where}: {'.'.join(path)}: found {_found(value)}; allowed: {describe(wanted)}: "
                f"write {name}: {listed}, or --config {shlex.quote(f'{name}={listed}')}"
            )


def _sentence(error: ValidationError) -> str:
    key = one_line(".".join(str(part) for part in error.absolute_path))
    at = f"{key}: " if key else ""
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in allowed)
        return f"{at}{unknown_key(unknown, allowed)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{at}the key {missing!r} is missing: add it ({describe(error.schema['properties'].get(missing, {}))})"
    if error.validator == "uniqueItems":
        twice = next(item for i, item in enumerate(error.instance) if item in error.instance[:i])
        return f"{at}{quoted(twice)} appears twice: remove one"
    return f"{at or 'the document: '}found {_found(error.instance)}; allowed: {describe(error.schema)}"


def unknown_key(found: Any, allowed: Iterable[str]) -> str:
    """Return in words that a key is unknown, with the one that was probably meant and all that are allowed."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(found), names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown key {quoted(found)}; {hint}allowed: {', '.join(names)}"


_TYPES = {
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "null": "nothing (null)",
    "array": "a list",
    "object": "a mapping",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _found(value: Any) -> str:
    if value is None:
        return _TYPES["null"]
    is_type = Draft202012Validator.TYPE_CHECKER.is_type
    return f"{quoted(value)} ({next((words for name, words in _TYPES.items() if is_type(value, name)), 'a value')})"


def describe(schema: Mapping[str, Any]) -> str:
    """Return in words which values a schema allows; a pattern is described by the `title` beside it."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(_TYPES["null"] if value is None else str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(describe(option) for option in schema["anyOf"])
    text = schema["title"] if "pattern" in schema else _TYPES.get(schema.get("type", ""), "any value")
    text += "".join(f" {sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema)
    if schema.get("minItems") or schema.get("minProperties"):
        text += " that is not empty"
    if "properties" in schema:
        text += f" with the keys {', '.join(schema['properties'])}"
    return f"{text}; at most {schema['maxLength']} characters" if "maxLength" in schema else text
