"""The files that a configuration names for images, texts or metadata: a file, its shards, a pattern or a folder."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from frozenalign.data.formats.registry import ROW_FORMATS, TABLE_FORMATS
from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import file_size

# Where clip-retrieval puts each part below its folder.
FOLDERS = {"images": "img_emb", "texts": "text_emb", "metadata": "metadata"}
SEPARATOR = "::"
_SHARD = re.compile(r"(.*?)-(\d+)-of-(\d+)((?:\.\w+)*)")
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")


@dataclass(frozen=True)
class Source:
    """Files whose rows follow each other, and the array, column or data set to take of each.

    given: the words of the configuration.
    """

    given: str
    files: tuple[Path, ...]
    name: str | None = None


def find_source(given: str, part: str) -> Source:
    """Return the files that a configuration names for a part: images, texts or metadata.

    given: PATH or PATH::NAME. A path is a file, the first of its shards (`…-00000-of-00012.npy`), a pattern with `*` in
    the name of the file, or a folder. Shards are in the order of their numbers, 10 after 9; a missing one is refused.
    """
    path, _, name = given.partition(SEPARATOR)
    return Source(given, tuple(_files(Path(path), part)), name or None)


def formats_of(part: str) -> Collection[str]:
    """Return the suffixes of the files that hold a part."""
    return (TABLE_FORMATS if part == "metadata" else ROW_FORMATS).find().keys()


def _files(path: Path, part: str) -> list[Path]:
    key = f"check `{part}` of the data set"
    if path.is_dir():
        inner = path / FOLDERS[part]
        return _of_folder(inner if inner.is_dir() else path, part)
    if not path.exists() and any(character in path.name for character in "*?["):
        found = list(path.parent.glob(path.name))
        if not found:
            raise UserError(f"{path}: no file has such a name: {key}")
        return _known(in_order(found), part)
    if shard := _SHARD.fullmatch(path.name):
        return _known(_shards(path, shard), part)
    file_size(path, key)
    return _known([path], part)


def _of_folder(folder: Path, part: str) -> list[Path]:
    """Return the files of a folder that hold a part; tables beside arrays are their metadata."""
    suffixes = set(formats_of(part))
    found = [path for path in folder.iterdir() if path.suffix in suffixes and not path.name.startswith(".")]
    kinds = {path.suffix for path in found}
    if len(kinds) > 1 and ".parquet" in kinds:
        kinds = {".parquet"} if part == "metadata" else kinds - {".parquet"}
    if len(kinds) != 1:
        said = f"files of several forms ({', '.join(sorted(kinds))})" if kinds else "no file of a known form"
        raise UserError(f"{folder} holds {said}: name one form of the {part} with a pattern, as in `{folder}/*.npy`")
    found = [path for path in found if path.suffix in kinds]
    matches = [_SHARD.fullmatch(path.name) for path in found]
    if not all(matches):
        return in_order(found)
    if len({match.group(1, 3, 4) for match in matches}) > 1:
        raise UserError(f"{folder} holds shards of several sets: name the first shard of one of them in `{part}`")
    return _shards(found[0], matches[0])


def _shards(path: Path, shard: re.Match[str]) -> list[Path]:
    """Return all shards of the set that one belongs to; a missing one is refused by its number."""
    stem, number, total, suffix = shard.groups()
    paths = [path.with_name(f"{stem}-{each:0{len(number)}d}-of-{total}{suffix}") for each in range(int(total))]
    if missing := [each for each, shard_path in enumerate(paths) if not shard_path.exists()]:
        raise UserError(
            f"{path.parent}: of the {int(total)} shards {one_line(stem)}-…-of-{total}{suffix}, {len(missing)} are "
            f"missing (first: number {missing[0]}): copy or write them again"
        )
    return paths


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return files in the order of the number that their names differ in, 10 after 9; a gap is refused.

    Names that do not differ in one number alone are in the order of their text.
    """
    matches = [_NUMBERED.fullmatch(path.stem) for path in paths]
    if not all(matches) or len({match.group(1, 3) for match in matches}) > 1:
        return sorted(paths, key=lambda path: path.name)
    ordered = sorted(zip((int(match[2]) for match in matches), paths, strict=True))
    # Numbers start at 0 or at 1.
    expected = min(ordered[0][0], 1)
    for number, path in ordered:
        if number != expected:
            problem = f"number {expected} is missing" if number > expected else f"number {number} stands twice"
            raise UserError(
                f"{path.parent}: among {len(paths)} files like {one_line(path.name)}, {problem}: complete them"
            )
        expected += 1
    return [path for _, path in ordered]


def _known(paths: list[Path], part: str) -> list[Path]:
    """Return paths, if the suffix of the first is that of a format."""
    known = formats_of(part)
    if paths[0].suffix not in known:
        raise UserError(f"{paths[0]} is of no form that is read as {part}: allowed are {', '.join(sorted(set(known)))}")
    return paths
