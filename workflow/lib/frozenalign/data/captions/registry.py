"""The registry of forms of captions, and their common reader.

A form is a class with `form`, its name in messages; `recognises(source)`, which decides by name and beginning whether a
file has this form; `read(source)`, which returns what it lists; and `has_columns`, whether the user may name columns.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from frozenalign.configuration.registrations import caption_formats
from frozenalign.configuration.registry import Registry
from frozenalign.data.captions.checks import checked
from frozenalign.data.captions.gathering import gathered
from frozenalign.data.captions.pairs import CaptionedPictures, ListedCaptions
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.system.errors import UserError

logger = logging.getLogger(__name__)
CAPTION_FORMATS = Registry("caption format", caption_formats)
register_caption_format = CAPTION_FORMATS.register


class CaptionFormat(Protocol):
    """A form in which captions lie on disk."""

    form: str
    has_columns: bool

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether a file or folder has this form."""

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return what a file or folder of this form lists."""


def read_captions(
    files: Sequence[Path], columns: Mapping[str, str] | None = None, pictures: Path | None = None
) -> CaptionedPictures:
    """Return the pictures that files list, with their captions.

    columns: column of a table, by what it holds: image, caption, image_id, caption_id. pictures: the folder of the
    pictures; a file that is not where the captions say, but of which the folder has one of that name, is taken from
    there. Whatever is wrong is a UserError that names the file and the place.
    """
    if not files:
        raise UserError("no captions: name at least one file or folder")
    folder = None if pictures is None else Path(pictures)
    return gathered([_read(CaptionSource(Path(path), columns or {}, folder)) for path in files], folder)


def _read(source: CaptionSource) -> ListedCaptions:
    form = _form_of(source)
    if source.columns and not form.has_columns:
        raise UserError(f"{source.path} is {form.form}, which has no columns to choose: leave `columns` out")
    logger.info("reading captions from %s: %s", source.path, form.form)
    return checked(form.read(source), source.pictures)


def _form_of(source: CaptionSource) -> CaptionFormat:
    for name in CAPTION_FORMATS:
        if CAPTION_FORMATS[name].recognises(source):
            return CAPTION_FORMATS[name]
    forms = "; ".join(CAPTION_FORMATS[name].form for name in CAPTION_FORMATS)
    raise UserError(f"{source.path} has none of the forms in which captions are read: {forms}")
