"""Records of captions in JSON: JSON Lines, or a list of objects."""

import json
from collections.abc import Iterator
from typing import Any

from frozenalign.data.captions.columns import chosen, refuse_missing
from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.rows import listed_rows
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.system.errors import UserError
from frozenalign.system.strict_json import decoded


@register_caption_format("records")
class RecordedCaptions:
    """JSON Lines or a JSON list of objects with `image` and `caption`, one text or a list of them."""

    form = "JSON Lines, or a JSON list, of objects with `image` and `caption`"
    has_columns = True

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether the file has JSON Lines or a list."""
        return not source.is_folder and (source.has_json_lines or isinstance(source.document, list))

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return a row for each caption."""
        places: list[str] = []
        values: dict[str, list[Any]] = {}
        keys: dict[str, str] = {}
        for place, record in _records(source):
            if not isinstance(record, dict):
                raise UserError(f"{source.path}: {place} is no object: write one with `image` and `caption`")
            if not keys:
                refuse_missing(list(record), source.columns, f"{source.path}: {place} has the keys")
                keys = chosen(list(record), source.columns)
                values = {kind: [] for kind in keys}
            if lacking := [key for key in keys.values() if key not in record]:
                raise UserError(f"{source.path}: {place} lacks the key `{lacking[0]}`, which others have: add it")
            several = record[keys["caption"]]
            for caption in several if isinstance(several, list) else [several]:
                places.append(place)
                for kind, key in keys.items():
                    values[kind].append(caption if kind == "caption" else record[key])
        if not places:
            raise UserError(f"{source.path} lists no caption: name another file or folder as `captions`")
        ids = values.get("image_id"), values.get("caption_id")
        return listed_rows(source.path, values["image"], values["caption"], places.__getitem__, *ids)


def _records(source: CaptionSource) -> Iterator[tuple[str, Any]]:
    """Yield place and content of each record."""
    if not source.has_json_lines:
        yield from ((f"[{i}]", record) for i, record in enumerate(source.document))
        return
    for number, line in source.lines():
        if line.strip():
            yield f"line {number}", _decoded_line(source, number, line)


def _decoded_line(source: CaptionSource, number: int, line: str) -> Any:
    try:
        return decoded(line.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        problem = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise UserError(f"{source.path}: line {number} is not valid JSON ({problem}): write it again") from error
    except RecursionError as error:
        raise UserError(f"{source.path}: line {number} nests too deeply: write plain values") from error
    except ValueError as error:
        raise UserError(f"{source.path}: line {number} is not valid JSON {error}") from error
