"""Tars of img2dataset and WebDataset: `key.jpg` with `key.txt` and `key.json`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.data.ids import natural_order
from frozenalign.data.picture_files import SUFFIXES
from frozenalign.data.tar_members import TAR, members, read_members
from frozenalign.system.errors import UserError, one_line, quoted
from frozenalign.system.strict_json import decoded

MEMBER_BYTES = 1 << 20
# What a member is, by the ending of its name.
KINDS = {"txt": "text", "json": "document", **dict.fromkeys(SUFFIXES, "picture")}


class _Sample(NamedTuple):
    """The names of the members of one key: its picture, its text, its JSON; empty for one that it lacks."""

    picture: str = ""
    text: str = ""
    document: str = ""


@register_caption_format("tars")
class TarCaptions:
    """Tars with `key.jpg` and `caption` of `key.json`, or `key.txt`, one caption a line; the key is the image id."""

    form = "a tar, or a folder of tars, of img2dataset or WebDataset"
    has_columns = False

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether it is called a tar, or is a folder with one."""
        return has_tars(source.path) if source.is_folder else source.path.suffix == TAR

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return the captions of one tar, or of those in a folder in natural order: 10 after 9."""
        paths = [source.path]
        if source.is_folder:
            paths = sorted(filter(_is_tar, source.path.iterdir()), key=lambda path: natural_order(path.name))
        images: list[tuple[str, str]] = []
        rows: list[tuple[str, str, Any]] = []
        for path in paths:
            samples = _samples(path)
            archive = _name_below(path, source)
            images += [(key, f"{archive}/{sample.picture}") for key, sample in samples.items() if sample.picture]
            rows += [(path.name, key, caption) for key, caption in _captions(path, samples)]
        return ListedCaptions(
            source.path,
            images,
            [key for _, key, _ in rows],
            None,
            [caption for _, _, caption in rows],
            lambda i: f"{rows[i][0]}, key {one_line(rows[i][1])}",
            lambda i: one_line(images[i][1]),
        )


def has_tars(folder: Path) -> bool:
    """Return whether a folder has a tar."""
    return any(map(_is_tar, folder.iterdir()))


def _is_tar(path: Path) -> bool:
    return path.suffix == TAR


def _name_below(path: Path, source: CaptionSource) -> str:
    """Return the path of a tar from the folder of pictures, if it lies there, else from the folder of tars."""
    folder = path.parent if source.pictures is None else source.pictures
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _samples(path: Path) -> dict[str, _Sample]:
    """Return the members of each key: the name up to the first dot after the last slash."""
    samples: dict[str, _Sample] = {}
    for name in members(path):
        folder, slash, file = name.rpartition("/")
        stem, _, ending = file.partition(".")
        key, kind = f"{folder}{slash}{stem}", KINDS.get(ending.lower())
        if kind is None:
            continue
        sample = samples.get(key, _Sample())
        if other := getattr(sample, kind):
            raise UserError(f"{path} has {quoted(other)} and {quoted(name)}: leave one of them for a key")
        samples[key] = sample._replace(**{kind: name})
    return samples


def _captions(path: Path, samples: Mapping[str, _Sample]) -> Iterator[tuple[str, Any]]:
    """Yield (key, caption): `caption` of the JSON, which is one text, or else each line of the text file."""
    found = dict(_described(path, {key: sample.document for key, sample in samples.items() if sample.document}))
    texts = {key: sample.text for key, sample in samples.items() if key not in found and sample.text}
    read = dict(zip(texts, map(_lines, read_members(path, texts.values(), MEMBER_BYTES)), strict=True))
    for key in samples:
        if key in found:
            yield key, found[key]
        else:
            yield from ((key, caption) for caption in read.get(key, ()))


def _described(path: Path, documents: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield key and caption of each JSON that has one."""
    contents = read_members(path, documents.values(), MEMBER_BYTES)
    for (key, name), content in zip(documents.items(), contents, strict=True):
        try:
            document = decoded(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: {one_line(name)} is not valid JSON ({error}): write the tar again") from error
        if isinstance(document, dict) and "caption" in document:
            yield key, document["caption"]


def _lines(content: bytes) -> list[str]:
    """Return the lines that are not blank, one empty caption if all are.

    Bytes that are not UTF-8 become half characters, which the check of captions refuses.
    """
    lines = [line.strip() for line in content.decode("utf-8-sig", errors="surrogateescape").split("\n")]
    return [line for line in lines if line] or [""]
