"""The registered heads, losses and baselines with their parameters and descriptions, read from the source files.

Importing the sources would import torch: seconds, where the check of a configuration takes milliseconds.
"""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.parameters import SCHEMAS

LIBRARY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Registration:
    """A registered class or function: its name, its module, its docstring's first line, each parameter's schema."""

    name: str
    module: str
    description: str
    parameters: dict[str, dict[str, Any]]


@functools.cache
def heads() -> dict[str, Registration]:
    """Return the registered heads by name."""
    return _of_wing("models", "register_head")


@functools.cache
def losses() -> dict[str, Registration]:
    """Return the registered losses by name."""
    return _of_wing("losses", "register_loss")


@functools.cache
def baselines() -> dict[str, Registration]:
    """Return the registered baselines by name."""
    return _of_wing("closed_forms", "register_baseline")


def _of_wing(wing: str, decorator: str) -> dict[str, Registration]:
    """Return the registrations in all files of a wing, by name."""
    found = {}
    for path in sorted((LIBRARY / wing).glob("*.py")):
        found |= read_registrations(path, decorator, f"{LIBRARY.name}.{wing}.{path.stem}")
    return found


def read_registrations(path: Path, decorator: str, module: str) -> dict[str, Registration]:
    """Return the classes and functions decorated with `@decorator("name")` in the source of a module, by name."""
    found = {}
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text, filename=str(path)).body if f"@{decorator}(" in text else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (name := _registered_name(node, decorator)):
            found[name] = _registration(name, module, node)
    return found


def _registered_name(node: ast.ClassDef | ast.FunctionDef, decorator: str) -> str | None:
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
            return ast.literal_eval(call.args[0])
    return None


def _registration(name: str, module: str, node: ast.ClassDef | ast.FunctionDef) -> Registration:
    docstring = ast.get_docstring(node) or ""
    constructor = next(
        (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None
    )
    arguments = (constructor or node).args if isinstance(node, ast.FunctionDef) or constructor else None
    parameters = {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if arguments else ():
        schema = _schema(argument.annotation)
        if default is not None:
            schema["default"] = ast.literal_eval(default)
        parameters[argument.arg] = schema | {"description": _described(argument.arg, docstring)}
    return Registration(name, module, docstring.partition("\n")[0], parameters)


def _schema(annotation: ast.expr) -> dict[str, Any]:
    """Return the JSON schema of an annotation: a name of `parameters`, a Literal, or alternatives joined by `|`."""
    if isinstance(annotation, ast.BinOp):
        return {"anyOf": [_schema(annotation.left), _schema(annotation.right)]}
    if isinstance(annotation, ast.Subscript):
        choices = ast.literal_eval(annotation.slice)
        return {"enum": list(choices) if isinstance(choices, tuple) else [choices]}
    return dict(SCHEMAS[ast.unparse(annotation)])


def _described(parameter: str, docstring: str) -> str:
    """Return the text after `parameter:` at the start of a docstring line, continuation lines joined."""
    match = re.search(rf"^{parameter}: (.*(?:\n +.*)*)", docstring, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""
