"""Queries from outside the gallery: a text or a picture, encoded as the data of the model were."""

from pathlib import Path

from torch import Tensor

from frozenalign.serving.query_encoder import QueryEncoder
from frozenalign.serving.searcher import Query, Searcher
from frozenalign.system.errors import UserError, quoted

LONGEST_TEXT = 2000


def text_query(searcher: Searcher, encoder: QueryEncoder, text: str) -> Query:
    """Return a text as a query."""
    text = text.strip()
    if not text:
        raise UserError("the text to search for is empty: write a caption")
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the text to search for has {len(text)} characters: write at most {LONGEST_TEXT}")
    return searcher.query_of_rows("text", _encoded(encoder, text), {"text": text})


def picture_query(searcher: Searcher, encoder: QueryEncoder, path: Path) -> Query:
    """Return a picture as a query."""
    return searcher.query_of_rows("image", encoder.encode([path]), {"image_file": str(path)})


def _encoded(encoder: QueryEncoder, text: str) -> Tensor:
    """Return the row of a text, (1, D); a text of which the encoder knows nothing, a row of zeros, is a UserError."""
    try:
        return encoder.encode([text])
    except UserError as error:
        if encoder.opened.encoder.encode([text]).any():
            raise
        name = encoder.opened.settings.encoder
        raise UserError(f"the encoder {name} knows no word of {quoted(text)}: write others") from error
