"""Captioned pictures of another data set, for retrieval: the pairs of any form of captions, in the default form."""

from pathlib import Path

from frozenalign.data.benchmarks.items import BenchmarkItems
from frozenalign.data.benchmarks.registry import register_benchmark_file
from frozenalign.data.captions.registry import read_captions
from frozenalign.data.made_files import ROW_FILES


@register_benchmark_file("retrieval")
def captioned_pictures(path: Path, pictures: Path) -> BenchmarkItems:
    """Read captions in any form of docs/captions.md."""
    captioned = read_captions([path], None, pictures)
    meaning = {
        "image_ids": captioned.image_ids,
        "unique_image_ids": list(captioned.image_files),
        "captions": captioned.captions,
        "caption_ids": captioned.caption_ids,
        "image_files": captioned.image_files,
    }
    return BenchmarkItems(captioned.image_files, captioned.captions, ROW_FILES[2], meaning)
