"""Bring embeddings and metadata of any registered form into the default one, which the other steps read."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.data.embeddings import EmbeddingFiles
from frozenalign.data.formats.default_form import write_default_form
from frozenalign.data.formats.given_sets import SetSources
from frozenalign.data.formats.reading_record import RECORD, refuse_foreign, write_record
from frozenalign.data.inputs import EXTRA_SET, TRAINING_SET
from frozenalign.data.manifests import KNOWN_HASHES
from frozenalign.system.errors import run
from frozenalign.system.fingerprints import code_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.locks import only_writer

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the three train2017_* files, those of val2017_* if an extra set is given, and a record of their sources."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    refuse_foreign(arguments.output_dir, "choose another --output-dir, or move it away")
    sets = {TRAINING_SET: SetSources.find(arguments.images, arguments.texts, arguments.metadata)}
    if arguments.extra_images:
        extra = SetSources.find(arguments.extra_images, arguments.extra_texts, arguments.extra_metadata)
        sets[EXTRA_SET] = extra
    with only_writer(arguments.output_dir):
        _read(sets, arguments.output_dir)


def _read(sets: dict[str, SetSources], folder: Path) -> None:
    hashes = {prefix: sources.hashes(folder / KNOWN_HASHES) for prefix, sources in sets.items()}
    files = {prefix: EmbeddingFiles.of(folder, prefix) for prefix in sets}
    names = [*(path.name for paths in files.values() for path in paths), RECORD]
    taken = [(part, source.name) for sources in sets.values() for part, source in sources.parts]
    finished = Finished(folder, tuple(names), fingerprint(hashes, taken, code_hash(Path(__file__))))
    found = finished.again()
    if found is None:
        write_record(folder, hashes)
        found = "; ".join(write_default_form(sources, files[prefix]) for prefix, sources in sets.items())
        finished.keep(found)
    logger.info("found: %s", found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.read_embeddings", description=__doc__)
    parser.add_argument(
        "--images", required=True, help="file, first shard, pattern or folder; PATH::NAME for one array"
    )
    parser.add_argument("--texts", required=True, help="the same for the texts")
    parser.add_argument("--metadata", help="image ids and captions; optional where another file has the ids")
    parser.add_argument("--extra-images", help="images of an extra evaluation set (none)")
    parser.add_argument("--extra-texts", help="texts of the extra set")
    parser.add_argument("--extra-metadata", help="metadata of the extra set")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the default form")
    return parser


if __name__ == "__main__":
    run(main)
