"""YAML read as plain values."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from frozenalign.system.errors import UserError, one_line, quoted
from frozenalign.system.files import read_text

logger = logging.getLogger(__name__)
YAML_BYTES = 1 << 20
# Aliases count as often as they are used: a few lines can stand for billions of values.
MOST_VALUES = 20_000
MOST_LEVELS = 50
LARGEST_INTEGER = 2**63 - 1


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe YAML whose plain scalars are those of JSON, and in which a key may stand only once.

    1e-4 is a number (YAML 1.1 asks for a dot); 1:30, 012, dates, `<<` and `=` are text, as they look.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                problem = f"the key {quoted(name)} is not text: write it in quotation marks"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {quoted(name)} stands twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; a missing or malformed one is a UserError that names the place."""
    return parse_yaml(read_text(path, YAML_BYTES, "check the name, or write the file"), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return what YAML text says; `where` names it in the message where it is malformed."""
    try:
        _refuse_depth_and_tags(text)
        document = _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(
            f"{where} is not valid YAML ({line}{one_line(str(error.problem))}): correct that line"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        problem = one_line(str(getattr(error, "reason", error)))
        raise UserError(f"{where} is not valid YAML ({problem}): write it as plain text") from error
    refuse_unplain(document, where)
    return document


def _refuse_depth_and_tags(text: str) -> None:
    """Refuse what only looking at the events finds in time: parsers recurse, and a tag names a type to make."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {MOST_LEVELS} levels of nesting", event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the tag {quoted(event.tag)}: write a plain value", event.start_mark
            )


def refuse_unplain(document: Any, where: str) -> None:
    """Refuse what is more than a tree of JSON's values: too deep, too many, of other types, numbers out of range."""
    waiting: list[tuple[Any, tuple]] = [(document, ())]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        value, keys = waiting.pop()
        if len(keys) > MOST_LEVELS:
            break
        if problem := _unplain(value):
            raise UserError(f"{where}: {one_line('.'.join(map(str, keys)) or 'the document')}: {problem}")
        if isinstance(value, Mapping):
            waiting += [(item, (*keys, key)) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [(item, (*keys, i)) for i, item in enumerate(value)]
    raise UserError(
        f"{where} has more than {MOST_VALUES} values or {MOST_LEVELS} levels, aliases written out: shorten it"
    )


def _unplain(value: Any) -> str | None:
    """Return what is wrong with one value, whatever it contains; None where it is one of JSON's."""
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        return f"the key {quoted(odd[0])} is not text: write it in quotation marks" if odd else None
    if isinstance(value, int | float):
        return None if abs(value) <= LARGEST_INTEGER else f"found {quoted(value)}; allowed: finite numbers up to 9.2e18"
    if value is None or isinstance(value, str | list):
        return None
    return f"found {quoted(value)}; allowed: text, numbers, true, false, null, lists and mappings"


def plain_value(value: Any, where: str) -> Any:
    """Return the number, truth value or null that text stands for in the project's files, any other value as it is."""
    if not isinstance(value, str):
        return value
    read = parse_yaml(value, where)
    return value if isinstance(read, list | dict) else read
