"""YAML read as plain values."""

import re
from pathlib import Path
from typing import Any

import yaml

from frozenalign.system.errors import UserError, one_line, quoted
from frozenalign.system.files import read_text

YAML_BYTES = 1 << 20


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe YAML in which 1e-4 is a number (YAML 1.1 needs a dot) and a key appears only once.

    1:30, 012, dates, `<<`, `=`, infinity and NaN are text.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str) or name in seen:
                problem = "appears twice" if isinstance(name, str) else "is not text: put it in quotation marks"
                raise yaml.constructor.ConstructorError(None, None, f"the key {quoted(name)} {problem}", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    ("int", r"[-+]?(0|[1-9][\d_]*)|0x[\da-fA-F_]+", list("-+0123456789")),
    ("float", r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?", list("-+0123456789.")),
    ("float", r"[-+]?\d[\d_]*[eE][-+]?\d+", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; a missing or malformed one is a UserError with file and line."""
    return parse_yaml(read_text(path, YAML_BYTES, "check the name, or write the file"), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return the content of YAML text; `where` names it in messages."""
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise UserError(f"{where} is not valid YAML ({line}{one_line(str(problem))}): correct it") from error


def plain_value(value: Any, where: str) -> Any:
    """Return the number, truth value or null that a text stands for, any other value as it is."""
    if not isinstance(value, str):
        return value
    read = parse_yaml(value, where)
    return value if isinstance(read, list | dict) else read
