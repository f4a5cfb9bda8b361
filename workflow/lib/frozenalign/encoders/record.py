"""encoding.json: what encoded the rows of a set, and what of it the split and the report keep."""

import json
from collections.abc import Mapping
from typing import Any

from frozenalign.encoders.merging import Encoded
from frozenalign.encoders.shards import texts_hash

FORMAT = 1


def encoding_record(
    images: Encoded, texts: Encoded, captions: list[str], pairs: int, files: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of encoding.json.

    captions: all that were encoded. pairs: those of pictures that could be read. files: SHA-256 of each file by name.
    """
    return {
        "format": FORMAT,
        "images": _described(images),
        "texts": _described(texts),
        "captions_sha256": texts_hash(captions),
        "pairs": pairs,
        "dropped_pairs": len(captions) - pairs,
        "refused_pictures": images.refused,
        "files": dict(files),
    }


def _described(encoded: Encoded) -> dict[str, Any]:
    seconds = encoded.seconds
    return {
        **encoded.about["settings"],
        "facts": encoded.about["facts"],
        "device": encoded.about["device"],
        "device_name": encoded.about["device_name"],
        "rows": encoded.rows,
        "refused": len(encoded.refused),
        "truncated": encoded.truncated,
        "seconds": seconds,
        "rows_per_second": encoded.rows / seconds if seconds else None,
    }


def json_text(content: Any) -> str:
    """Return a document as it stands in the files of an encoded set."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
