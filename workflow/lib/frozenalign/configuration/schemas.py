"""Documents held to a JSON schema: defaults filled in, or one sentence that names file, key and remedy."""

import contextlib
import difflib
import functools
import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match

from frozenalign.configuration.yaml_text import _Loader, plain_value, read_yaml
from frozenalign.system.errors import UserError, one_line, quoted

logger = logging.getLogger(__name__)

SCHEMAS = Path(__file__).parents[3] / "schemas"
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    ("int", r"[-+]?(0|[1-9][\d_]*)|0x[\da-fA-F_]+", list("-+0123456789")),
    ("float", r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?", list("-+0123456789.")),
    ("float", r"[-+]?\d[\d_]*[eE][-+]?\d+", list("-+0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)


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


def with_plain_values(document: Any, schema: Mapping[str, Any]) -> Any:
    """Return a document whose text is the number, truth value or null it reads as, where the schema asks for these.

    Snakemake hands every scalar inside a list or mapping of `--config` over as text, and 1e-4 in a file as well.
    """
    if isinstance(document, list):
        return [with_plain_values(item, schema.get("items", {})) for item in document]
    if isinstance(document, Mapping):
        return {key: with_plain_values(value, _schema_of(schema, key)) for key, value in document.items()}
    # What cannot be read stays as it is: the schema's refusal names its key.
    with contextlib.suppress(UserError):
        return plain_value(document, "") if _is_misplaced_text(document, schema) else document
    return document


def _is_misplaced_text(value: Any, schema: Mapping[str, Any]) -> bool:
    """Say whether a value is text that a schema refuses although it takes a number, a truth value or null."""
    options = [schema, *schema.get("anyOf", []), *schema.get("oneOf", [])]
    takes_plain = any(option.get("type") in ("number", "integer", "boolean", "null") for option in options)
    return isinstance(value, str) and takes_plain and not _Validator(schema).is_valid(value)


def refuse_single_values(document: Any, schema: Mapping[str, Any], where: str, keys: tuple[str, ...] = ()) -> None:
    """Refuse one value where the schema of a run asks for a list; the UserError writes the list down.

    keys: those above `document`.
    """
    for key, value in document.items() if isinstance(document, Mapping) else ():
        wanted, path = _schema_of(schema, key), (*keys, key)
        refuse_single_values(value, wanted, where, path)
        if wanted.get("type") == "array" and isinstance(value, str | int | float):
            name, listed = path[0], f"[{value}]"
            for inner in reversed(path[1:]):
                listed = f"{{{inner}: {listed}}}"
            raise UserError(
                f"{where}: {one_line('.'.join(path))}: found {_found(value)}; allowed: {describe(wanted)}: "
                f"write {one_line(f'{name}: {listed}')}, or --config {one_line(shlex.quote(f'{name}={listed}'))}"
            )


def _sentence(error: ValidationError) -> str:
    key = one_line(".".join(str(part) for part in error.absolute_path))
    at = f"{key}: " if key else ""
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in allowed)
        if hint := error.schema.get("removed", {}).get(unknown):
            return f"{at}the key {unknown!r} is gone: {hint}"
        near = difflib.get_close_matches(str(unknown), allowed, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{at}unknown key {quoted(unknown)}; {hint}allowed: {', '.join(sorted(allowed))}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{at}the key {missing!r} is missing: add it ({describe(error.schema['properties'].get(missing, {}))})"
    if error.validator == "uniqueItems":
        twice = next(item for i, item in enumerate(error.instance) if item in error.instance[:i])
        return f"{at}{quoted(twice)} stands twice: leave one out"
    return f"{at or 'the document: '}found {_found(error.instance)}; allowed: {describe(error.schema)}"


def _found(value: Any) -> str:
    return f"{quoted(value)} ({_type_name(value)})"


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
