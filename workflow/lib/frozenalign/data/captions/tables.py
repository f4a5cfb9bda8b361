"""Tables of captions: CSV and TSV with a header, and Flickr30k's with `|` between the columns."""

import csv
from collections.abc import Iterator, Sequence

from frozenalign.data.captions.checks import ADDRESS, DOWNLOAD
from frozenalign.data.captions.columns import NEEDED, chosen, refuse_missing
from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.rows import listed_rows
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.system.errors import UserError, one_line

SUFFIXES = (".csv", ".tsv")
SEPARATORS = (",", "\t", "|", ";")
# In these, captions may be quoted; in others a quotation mark is mostly part of the caption.
QUOTING = (",", ";")
# What pandas writes for a missing caption, if asked to.
MISSING = ("nan", "NaN")


@register_caption_format("table")
class TableCaptions:
    """CSV or TSV with a header that names the columns of picture and caption."""

    form = "CSV or TSV whose header names the columns of image and caption (see `columns`)"
    has_columns = True

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether the file is called a table, or begins with a line that names the columns needed."""
        if source.is_folder:
            return False
        return source.path.suffix.lower() in SUFFIXES or _separator(source) is not None

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return the rows of the table."""
        separator = _separator(source) or ("\t" if "\t" in source.first_line else ",")
        records = _records(source, separator)
        _, header = next(records, (1, []))
        if "image" not in chosen(header, source.columns) and any(map(_is_address, header)):
            raise UserError(f"{source.path} lists addresses, not pictures on this disk: {DOWNLOAD}")
        refuse_missing(header, source.columns, f"{source.path} has the columns")
        places = {kind: header.index(name) for kind, name in chosen(header, source.columns).items()}
        lines: list[int] = []
        values: dict[str, list[str]] = {kind: [] for kind in places}
        for line, fields in records:
            if len(fields) != len(header):
                raise UserError(f"{source.path}: line {line} {_other_count(fields, header, separator)}")
            lines.append(line)
            for kind, place in places.items():
                values[kind].append(fields[place].strip())
        captions = ["" if caption in MISSING else caption for caption in values["caption"]]
        ids = values.get("image_id"), values.get("caption_id")
        return listed_rows(source.path, values["image"], captions, lambda i: f"line {lines[i]}", *ids)


def _separator(source: CaptionSource) -> str | None:
    """Return what divides the first line into names among which are the columns needed, None if nothing does."""
    for separator in SEPARATORS:
        header = next(csv.reader([source.first_line], delimiter=separator), [])
        if chosen(header, source.columns).keys() >= set(NEEDED):
            return separator
    return None


def _records(source: CaptionSource, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and the fields of each record; empty lines are left out."""
    records = _quoted_records(source, separator) if separator in QUOTING else _plain_records(source, separator)
    return ((line, fields) for line, fields in records if any(field.strip() for field in fields))


def _quoted_records(source: CaptionSource, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in source.lines()), delimiter=separator, strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        remedy = 'put a caption with commas or quotation marks into quotation marks, "" for one inside'
        raise UserError(f"{source.path}: line {line} is no CSV ({error}): {remedy}") from error


def _plain_records(source: CaptionSource, separator: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in source.lines():
        yield number, [_unquoted(field) for field in line.rstrip("\r\n").split(separator)]


def _unquoted(field: str) -> str:
    """Return a field without quotation marks, if it is quoted as a whole with those inside doubled."""
    inside = field[1:-1]
    is_quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if is_quoted else field


def _is_address(name: str) -> bool:
    """Return whether a field of the first line is an address (CC3M has no header), or names a column of them."""
    return ADDRESS.match(name) is not None or name.strip().lower() == "url"


def _other_count(fields: Sequence[str], header: Sequence[str], separator: str) -> str:
    """Return what is wrong with a line of other fields than the header, and the remedy."""
    shown = one_line(" ".join(fields), 60)
    remedy = "put captions that hold the separator into quotes" if separator in QUOTING else "correct that line"
    return f"({shown}) has {len(fields)} fields where the header has {len(header)}: {remedy}, or leave it out"
