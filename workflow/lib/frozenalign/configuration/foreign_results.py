"""Steps do not overwrite files that are clearly not results of this project."""

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
COUNTS_FILE = "counts.npz"
SETS_FILE = "sets.json"
# The title of a page ends with its mark, that of a figure and a table start with it.
HEAD_BYTES = 64 << 10
MARKS = {
    "index.html": b": alignment of frozen encoders</title>",
    "leaderboard.csv": b"experiment,kind",
    "leaderboard.svg": b"<title>frozenalign: ",
    "costs.svg": b"<title>frozenalign: ",
    "encodings.csv": b"experiment,kind",
    "encoder_similarity.csv": b"images,texts",
    "trials.csv": b"number,state",
}
ARRAYS = {"image_rows", "text_rows", "text_image", "t2i", "i2t", "caption_image", "non_matches", "facts_of_counts"}
# The description of a model includes its training history; searching a longer one would take seconds.
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
        # A parser can raise anything on a damaged file, which may be a result that a step may overwrite.
        return False


def _is_foreign_json(path: Path) -> bool:
    """Return whether the first document of a file is anything but a mapping with a format number."""
    if path.stat().st_size > JSON_BYTES:
        return True
    content, _ = json.JSONDecoder().raw_decode(path.read_text(encoding="utf-8-sig").lstrip())
    return not (isinstance(content, dict) and type(content.get("format")) is int)


def _is_foreign_yaml(path: Path) -> bool:
    if path.stat().st_size > YAML_BYTES:
        return True
    if not (text := path.read_text(encoding="utf-8-sig")).strip():
        return False
    # Nodes: a file of somebody else may have tags, which are not resolved.
    root = next(yaml.compose_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), None)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    found = {key.value: value.value for key, value in pairs if isinstance(key, yaml.ScalarNode)}
    # The best configuration of a study is an experiment file, which has no format number.
    as_experiment = path.name == "best_config.yaml" and {"model", "loss"} <= set(found)
    return not (as_experiment or str(found.get("format")).isdecimal())


def _has_other_arrays(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return not ARRAYS & {name.removesuffix(".npy") for name in archive.namelist()}


def _is_foreign_model(path: Path) -> bool:
    """Return whether a .pt file is of a kind that no step writes, or anything but a dict with a format number."""
    with path.open("rb") as stream:
        if stream.read(1) == BARE_PICKLE:
            return True
    with zipfile.ZipFile(path) as archive:
        description = next((entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")), None)
        if description is None:
            return True
        return description.file_size <= DESCRIPTION_BYTES and not _is_dict_with_format(archive.read(description))


def _is_dict_with_format(pickled: bytes) -> bool:
    """Return whether a pickle, which is not loaded, is a plain dict with a whole number as its format."""
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
