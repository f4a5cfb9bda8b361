"""A text file beside each picture: `a.jpg` and `a.txt`, one caption a line."""

from collections.abc import Iterable
from pathlib import Path

from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.data.captions.tars import has_tars
from frozenalign.data.picture_files import SUFFIXES, UnreadablePicture, file_inside
from frozenalign.data.picture_names import files_below
from frozenalign.system.errors import UserError, one_line, quoted
from frozenalign.system.files import read_text

TEXT = ".txt"
TEXT_BYTES = 1 << 20


@register_caption_format("text-files")
class TextFiles:
    """A folder with a text file for each picture, one caption a line; the id of an image is its path without ending."""

    form = "a folder with a text file for each picture (`a.txt` of `a.jpg`)"
    has_columns = False

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether it is a folder without tars."""
        return source.is_folder and not has_tars(source.path)

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return the lines of all text files of the folder; the pictures may lie in another one, if it is known."""
        folder = source.pictures or source.path
        texts = sorted(name for name in files_below(source.path) if name.endswith(TEXT))
        if not texts:
            raise UserError(f"{source.path} has neither text files nor tars: name a file or folder with captions")
        pictures = _by_stem(files_below(folder), folder)
        _refuse_without_picture(texts, pictures, source, folder)
        rows = [
            (name.removesuffix(TEXT), f"{one_line(name)}, line {number}", caption)
            for name in texts
            for number, caption in _captions(source.path, name)
        ]
        names = list(pictures)
        return ListedCaptions(
            source.path,
            list(pictures.items()),
            [stem for stem, _, _ in rows],
            None,
            [caption for _, _, caption in rows],
            lambda i: rows[i][1],
            lambda i: one_line(pictures[names[i]]),
        )


def _by_stem(files: Iterable[str], folder: Path) -> dict[str, str]:
    """Return pictures by their paths without ending."""
    found: dict[str, str] = {}
    for file in sorted(files):
        stem, _, suffix = file.rpartition(".")
        if suffix.lower() in SUFFIXES and found.setdefault(stem, file) != file:
            raise UserError(f"{folder} has {quoted(found[stem])} and {quoted(file)}: leave one picture a text file")
    return found


def _refuse_without_picture(
    texts: Iterable[str], pictures: dict[str, str], source: CaptionSource, folder: Path
) -> None:
    lacking = [name for name in texts if name.removesuffix(TEXT) not in pictures]
    if lacking:
        raise UserError(
            f"{source.path}: {len(lacking)} text files have no picture of their name in {folder} (first: "
            f"{quoted(lacking[0])}): add the pictures, or move the text files away"
        )


def _captions(folder: Path, name: str) -> list[tuple[int, str]]:
    """Return line number and caption of each line that is not blank, one empty caption if all are."""
    try:
        path = file_inside(folder, name)
    except UnreadablePicture as error:
        raise UserError(f"{folder}: {one_line(name)} is {error}: replace it by a text file") from error
    text = read_text(path, TEXT_BYTES, "write the captions of the picture there, one a line")
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return lines or [(1, "")]
