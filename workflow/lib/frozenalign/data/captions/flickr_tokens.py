"""Flickr's token files: `file#n`, a tab, and the caption."""

import re
from dataclasses import replace

from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.rows import listed_rows
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.system.errors import UserError, one_line

LINE = re.compile(r"([^\t]+)(#\d+)\t(.*)")


@register_caption_format("flickr-tokens")
class FlickrTokens:
    """Flickr's token file: lines of `file#n`, a tab and the caption; the id of an image is the name of its file."""

    form = "Flickr's token file (lines of `file#n`, a tab and the caption)"
    has_columns = False

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether the first line is of this form."""
        return not source.is_folder and LINE.match(source.first_line) is not None

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return the lines of the file."""
        lines, files, ids, captions = [], [], [], []
        for number, line in source.lines():
            if not line.strip():
                continue
            match = LINE.match(line)
            if match is None:
                raise UserError(
                    f"{source.path}: line {number} ({one_line(line.strip(), 60)}) is not `file#n`, a tab and a caption"
                    ": correct it, or leave it out"
                )
            file, count, caption = match.groups()
            lines.append(number)
            files.append(file)
            ids.append(f"{file}{count}")
            captions.append(caption.strip())
        return replace(listed_rows(source.path, files, captions, lambda i: f"line {lines[i]}"), caption_ids=ids)
