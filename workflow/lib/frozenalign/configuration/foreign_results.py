"""A step stops before it overwrites a file that is not a result of this project.

A file that is empty or cannot be read may be a damaged result, which a step may overwrite.
"""

import codecs
import json
import pickletools
import zipfile
from collections.abc import Iterable
from pathlib import Path

import yaml

from frozenalign.configuration.yaml_text import YAML_BYTES
from frozenalign.system.errors import UserError
from frozenalign.system.files import JSON_BYTES

EVALUATION = ("metrics.json", "ranks.npz", "examples.json", "worst_queries.json", "samples.npz")
# The title of a page begins with the name of a data set; a table begins with its header.
HEAD_BYTES = 64 << 10
MARKS = {
    "index.html": b": alignment of frozen encoders</title>",
    "leaderboard.csv": b"experiment,kind",
    "trials.csv": b"number,state",
}
ARRAYS = {"image_rows", "text_rows", "text_image", "t2i", "i2t", "caption_image", "non_matches"}
# It holds the history of a training; a longer one takes seconds to search.
DESCRIPTION_BYTES = 8 << 20
BARE_PICKLE = b"\x80"
WITHOUT_VALUE = {"PROTO", "BINPUT", "LONG_BINPUT"}


def refuse_foreign_results(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which a file with one of these names is clearly not a result of this project."""
    for path in (folder / name for name in names):
        if _is_foreign(path):
            raise UserError(
                f"{path} is no result of this project and would be replaced: move it away, or choose another "
                "--output-dir"
            )


def _is_foreign(path: Path) -> bool:
    look = {".json": _is_foreign_json, ".yaml": _is_foreign_yaml, ".npz": _has_other_arrays, ".pt": _is_foreign_model}
    try:
        return path.is_file() and look.get(path.suffix, _lacks_mark)(path)
    except Exception:
        # A damaged file can raise anything in a parser.
        return False


def _is_foreign_json(path: Path) -> bool:
    """Say whether the first document of a file, perhaps one per line, is anything but a mapping with a format."""
    if path.stat().st_size > JSON_BYTES:
        return True
    content, _ = json.JSONDecoder().raw_decode(path.read_text(encoding="utf-8-sig").lstrip())
    return not (isinstance(content, dict) and type(content.get("format")) is int)


def _is_foreign_yaml(path: Path) -> bool:
    if path.stat().st_size > YAML_BYTES:
        return True
    if not (text := path.read_text(encoding="utf-8-sig")).strip():
        return False
    found = _first_level(text)
    # The best configuration of a study is an experiment file, which carries no format.
    as_experiment = path.name == "best_config.yaml" and {"model", "loss"} <= set(found)
    return not (as_experiment or (found.get("format") or "").isdecimal())


def _first_level(text: str) -> dict[str | None, str | None]:
    """Return the keys and values of a YAML mapping, None for those that are no scalars; tags are ignored."""
    nodes: list[str | None] = []
    parents: list[yaml.Event] = []
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.DocumentEndEvent):
            break
        if isinstance(event, yaml.NodeEvent) and len(parents) == 1 and isinstance(parents[0], yaml.MappingStartEvent):
            nodes.append(getattr(event, "value", None))
        if isinstance(event, yaml.CollectionStartEvent):
            parents.append(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            parents.pop()
    return dict(zip(nodes[::2], nodes[1::2], strict=True))


def _has_other_arrays(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return not ARRAYS & {name.removesuffix(".npy") for name in archive.namelist()}


def _is_foreign_model(path: Path) -> bool:
    """Say whether a .pt file is of a kind that no step writes, or holds anything but a dict with a format."""
    with path.open("rb") as stream:
        if stream.read(1) == BARE_PICKLE:
            return True
    with zipfile.ZipFile(path) as archive:
        description = next((entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")), None)
        if description is None:
            return True
        return description.file_size <= DESCRIPTION_BYTES and not _is_dict_with_format(archive.read(description))


def _is_dict_with_format(pickled: bytes) -> bool:
    """Say whether a pickle, which is not loaded, holds a plain dict with a whole number as its format."""
    operations = ((kind, value) for kind, value, _ in pickletools.genops(pickled) if kind.name not in WITHOUT_VALUE)
    if next(operations)[0].name != "EMPTY_DICT":
        return False
    marks, key = 0, None
    for kind, value in operations:
        # After a second mark everything belongs to a value.
        if marks <= 1 and key == "format" and kind.name.startswith("BININT"):
            return True
        marks += (pickletools.markobject in kind.stack_after) - (pickletools.markobject in kind.stack_before)
        key = value
    return False


def _lacks_mark(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES).removeprefix(codecs.BOM_UTF8)
    mark = MARKS[path.name]
    marked = head.startswith(mark) if path.suffix == ".csv" else mark in head
    return bool(head.strip(b"\0\r\n ")) and not marked
