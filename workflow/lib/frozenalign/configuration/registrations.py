"""What is registered (heads, losses, encoders, file formats), with parameters and descriptions, read from the sources.

Importing the sources would import torch: seconds, where the check of a configuration takes milliseconds.
"""

import ast
import contextlib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.parameters import SCHEMAS

LIBRARY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Registration:
    """A registered class or function: its name, its module, its docstring's first line, each parameter's schema.

    constants: the plain values that the decorator is given by name, and those of the attributes of the class's body.
    """

    name: str
    module: str
    description: str
    parameters: dict[str, dict[str, Any]]
    constants: dict[str, Any]


def heads() -> dict[str, Registration]:
    """Return the registered heads by name."""
    return _of_wing("models", "register_head")


def losses() -> dict[str, Registration]:
    """Return the registered losses by name."""
    return _of_wing("losses", "register_loss")


def baselines() -> dict[str, Registration]:
    """Return the registered baselines by name."""
    return _of_wing("closed_forms", "register_baseline")


def fitting_baselines(names: Iterable[str], image_dim: int, text_dim: int) -> list[str]:
    """Return the baselines that can be fitted to embeddings of these widths; 0 stands for one that is not known."""
    equal = image_dim == text_dim > 0
    return [name for name in names if equal or not baselines()[name].constants.get("needs_equal_widths")]


def encoders() -> dict[str, Registration]:
    """Return the registered encoders by the name of their library."""
    return _of_wing("encoders", "register_encoder")


def caption_formats() -> dict[str, Registration]:
    """Return the registered forms of captions by name."""
    return _of_wing("data.captions", "register_caption_format")


def row_formats() -> dict[str, Registration]:
    """Return the registered formats of embedding files by suffix."""
    return _of_wing("data.formats", "register_row_format")


def table_formats() -> dict[str, Registration]:
    """Return the registered formats of metadata by suffix."""
    return _of_wing("data.formats", "register_table_format")


def evaluation_sets() -> dict[str, Registration]:
    """Return the registered kinds of evaluation sets by name."""
    return _of_wing("evaluation.benchmarks", "register_evaluation_set")


def benchmark_files() -> dict[str, Registration]:
    """Return the registered readers of what an evaluation set is encoded from, by the kind of the set."""
    return _of_wing("data.benchmarks", "register_benchmark_file")


def positive_sources() -> dict[str, Registration]:
    """Return the registered sources of positives by name."""
    return _of_wing("data.benchmarks", "register_positives")


@functools.cache
def _of_wing(wing: str, decorator: str) -> dict[str, Registration]:
    found = {}
    for path in sorted(LIBRARY.joinpath(*wing.split(".")).glob("*.py")):
        found |= read_registrations(path, decorator, f"{LIBRARY.name}.{wing}.{path.stem}")
    return found


def read_registrations(path: Path, decorator: str, module: str) -> dict[str, Registration]:
    """Return the classes and functions decorated with `@decorator("name")` in the source of a module, by name."""
    found = {}
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text, filename=str(path)).body if f"@{decorator}(" in text else ():
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == decorator:
                name = ast.literal_eval(call.args[0])
                given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                found[name] = _registration(name, module, node, given)
    return found


def _registration(
    name: str, module: str, node: ast.ClassDef | ast.FunctionDef, constants: dict[str, Any]
) -> Registration:
    docstring = ast.get_docstring(node) or ""
    parameters = {}
    for function in [node] if isinstance(node, ast.FunctionDef) else node.body:
        if isinstance(function, ast.FunctionDef) and function.name in (node.name, "__init__"):
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
                parameters[argument.arg] = _schema(argument.annotation)
                if default is not None:
                    parameters[argument.arg]["default"] = ast.literal_eval(default)
                parameters[argument.arg]["description"] = _described(argument.arg, docstring)
    return Registration(name, module, docstring.partition("\n")[0], parameters, constants | _constants(node))


def _constants(node: ast.ClassDef | ast.FunctionDef) -> dict[str, Any]:
    """Return the attributes that a class's own body sets to plain values."""
    found = {}
    for each in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(each, ast.Assign):
            with contextlib.suppress(ValueError):
                value = ast.literal_eval(each.value)
                found |= {target.id: value for target in each.targets if isinstance(target, ast.Name)}
    return found


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
