"""The reference of every configuration key, written from the schemas and the registered classes and functions."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from frozenalign.configuration.registrations import baselines, encoders, heads, losses
from frozenalign.configuration.schemas import SCHEMAS, describe, read_schema

# The first page, written by hand.
GUIDE = SCHEMAS / "configuration.md"
FILES = {
    "config": "## A run: `config/config.yaml`, `config/coco.yaml`, any `--configfile`",
    "experiment": "## An experiment: `config/experiments/NAME.yaml`",
    "tuning": "## A study: `config/tuning/NAME.yaml`",
    "encoder": "## An encoder: `config/encoders/NAME.yaml`",
}
REGISTERED = (("model", "Heads", heads), ("loss", "Losses", losses))


def configuration_reference() -> str:
    """Return the reference as Markdown."""
    parts = [GUIDE.read_text(encoding="utf-8")]
    for name, title in FILES.items():
        parts.append("\n".join([title, "", *_table(read_schema(name))]))
        for section, types, registered in REGISTERED if name == "experiment" else ():
            parts.append(f"### {types}: `{section}.type`, and what each type takes")
            for item in registered().values():
                table = _table({"properties": item.parameters}, f"{section}.") if item.parameters else []
                parts.append("\n".join([f"**`{item.name}`** {item.description}", "", *table]))
    libraries = [f"- `{name}`: {item.description}" for name, item in encoders().items()]
    parts.append("\n".join(["### Libraries: `library` of an encoder", "", *libraries]))
    closed_forms = [f"- `{name}`: {item.description}" for name, item in baselines().items()]
    parts.append("\n".join(["## Baselines: `baselines:` of a run", "", *closed_forms]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(schema: Mapping[str, Any], prefix: str = "") -> list[str]:
    rows = [
        f"| `{key}` | {_cell(describe(value))} | {_default(value)} | {_cell(value.get('description', ''))} |"
        for key, value in _keys(schema, prefix)
    ]
    return ["| key | value | default | meaning |", "|---|---|---|---|", *rows]


def _keys(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every key below a schema with its own schema; NAME is a name that users choose, [] an entry of a list."""
    for name, value in schema.get("properties", {}).items():
        yield f"{prefix}{name}", value
        yield from _keys(value, f"{prefix}{name}.")
        if isinstance(items := value.get("items"), Mapping):
            yield from _keys(items, f"{prefix}{name}[].")
        if isinstance(others := value.get("additionalProperties"), Mapping):
            yield from _keys(others, f"{prefix}{name}.NAME.")


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return f"`{value}`" if isinstance(value, str) and value else f"`{_cell(json.dumps(value))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
