"""Sources in any form brought into the default form: two files of one tensor each, and metadata."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frozenalign.data.embeddings import METADATA_BYTES, METADATA_BYTES_A_ROW, EmbeddingFiles
from frozenalign.data.formats.given_sets import SetSources
from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.pairing import pairs_metadata, read_columns
from frozenalign.data.formats.row_writer import write_tensor
from frozenalign.data.formats.sources import Source
from frozenalign.data.formats.stored_rows import StoredRows
from frozenalign.data.rows import open_rows
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json, write_bytes, write_json
from frozenalign.system.refusals import refusals_explained

logger = logging.getLogger(__name__)
# Below the folder that is written; the name of a file decides bytes in it, so that its temporary path is no other name.
WORKPLACE = ".unfinished"


def write_default_form(sources: SetSources, files: EmbeddingFiles) -> str:
    """Write the three files of a set in the default form; return what was found.

    A file that already has that form is not copied: a link leads to it.
    """
    images, texts = open_source(sources.images), open_source(sources.texts)
    for rows in (images, texts):
        for note in rows.notes:
            logger.info("%s", note)
    limit = METADATA_BYTES + METADATA_BYTES_A_ROW * texts.rows
    where = sources.metadata.files[0] if sources.metadata else None
    columns = read_columns(sources.metadata, limit) if sources.metadata else None
    metadata = pairs_metadata(images, texts, columns, where)
    _write_metadata(metadata, where, limit, files.metadata)
    for rows, source, path in ((images, sources.images, files.images), (texts, sources.texts, files.texts)):
        _write_rows(rows, source, path)
    return f"{images.rows} image rows of {images.width}, {texts.rows} text rows of {texts.width}"


def _write_rows(rows: StoredRows, source: Source, path: Path) -> None:
    if _is_default(source):
        logger.info("%s has the default form: a link leads to it", source.files[0])
        with _workplace(path, 0) as temporary:
            temporary.symlink_to(source.files[0].absolute())
        return
    logger.info("reading %s: %d rows of %d numbers in %s", source.given, rows.rows, rows.width, rows.number)
    with _workplace(path, rows.bytes) as temporary:
        write_tensor(temporary, (rows.rows, rows.width), rows.number, rows.chunks())


def _is_default(source: Source) -> bool:
    """Return whether a source is one file that every later step reads as it is."""
    if len(source.files) > 1 or source.name or source.files[0].suffix != ".pt":
        return False
    try:
        open_rows(source.files[0])
    except UserError:
        return False
    return True


def _write_metadata(metadata: Mapping[str, Any], where: Path | None, limit: int, path: Path) -> None:
    if where is not None and where.suffix == ".json" and _says(read_json(where, limit), metadata):
        write_bytes(path, where.read_bytes())
    else:
        write_json(path, metadata)


def _says(content: Any, metadata: Mapping[str, Any]) -> bool:
    """Return whether a JSON file holds metadata under the names of the default form, ids as numbers or text."""
    if not isinstance(content, dict) or not metadata.keys() <= content.keys():
        return False
    ids = {name for name in metadata if name.endswith("_ids")}
    return all(list(map(str, content[name])) == metadata[name] for name in ids) and all(
        content[name] == metadata[name] for name in metadata.keys() - ids
    )


@contextmanager
def _workplace(path: Path, needed: int) -> Iterator[Path]:
    """Yield a path of the same file name, from which the file is moved to its place once the block has ended."""
    folder = path.parent / WORKPLACE
    with refusals_explained(path, needed):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder / path.name
            (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
