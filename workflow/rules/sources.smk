"""Embeddings in other forms than the default one, as inputs of the rule that reads them."""

import functools

from frozenalign.data.formats.given_sets import given_dir, sets_to_read
from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.reading_record import refuse_foreign as refuse_foreign_embeddings


@functools.cache
def sources_to_read(dataset):
    """Return the sources of each set that is not in the default form, by prefix; none of what a rule makes."""
    if is_asked_for(dataset):
        return {}
    with told_by_snakemake():
        return sets_to_read(config["datasets"][dataset])


def refuse_foreign_read():
    """Stop before Snakemake deletes a user's files, which it takes for outputs of rule read_embeddings."""
    folder = Path(embeddings_dir(config["dataset"]))
    with told_by_snakemake():
        refuse_foreign_embeddings(
            folder, "move it away, and name it as `images`, `texts` or `metadata`, or its folder as `dir`"
        )


@functools.cache
def present_sources(dataset):
    """Return the SHA-256 of the files that read_embeddings reads, by set, part and name."""
    read = {prefix: sources.hashes(KNOWN_HASHES) for prefix, sources in sources_to_read(dataset).items()}
    return {f"{prefix}/{name}": sha256 for prefix, files in read.items() for name, sha256 in files.items()}


def source_files(wildcards):
    """Return the files that read_embeddings reads, as a rule takes them; Snakemake would expand braces in their names."""
    return [
        given(wildcards.dataset, str(path), f"{prefix}/{part}/{number}{path.suffix}")
        for prefix, sources in sources_to_read(wildcards.dataset).items()
        for part, source in sources.parts
        for number, path in enumerate(source.files)
    ]


def source_content(wildcards):
    """Return `name hash` of each file that read_embeddings reads, and what is taken of it."""
    hashes = [f"{name} {sha256[:12]}" for name, sha256 in present_sources(wildcards.dataset).items()]
    read = sources_to_read(wildcards.dataset)
    names = [
        f"{prefix}/{part}::{source.name}" for prefix, all in read.items() for part, source in all.parts if source.name
    ]
    return hashes + names


def read_arguments(wildcards, input):
    """Return the command-line arguments that name the sources of read_embeddings."""
    options = {"train2017": "--", "val2017": "--extra-"}
    return [
        f"{options[prefix]}{part}={source.given}"
        for prefix, sources in sources_to_read(wildcards.dataset).items()
        for part, source in sources.parts
    ]


@functools.cache
def opened_sources(dataset):
    """Return what the headers say of the image and text embeddings that read_embeddings reads, or nothing."""
    read = sources_to_read(dataset).get("train2017")
    with told_by_snakemake():
        return [open_source(read.images), open_source(read.texts)] if read else []
