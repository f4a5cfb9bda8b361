"""The files of a data set: those that a user puts there, and those that a rule makes."""

import functools

from frozenalign.data.formats.given_sets import given_dir, sets_to_read
from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.reading_record import refuse_foreign as refuse_foreign_embeddings
from frozenalign.data.given_files import (
    PAIRS,
    given_path,
    link_to,
    made_from_others,
    pairs_hash,
    present_hashes,
    write_witness,
)
from frozenalign.data.tensor_header import matrix_width
from frozenalign.demo.made_files import refuse_foreign
from frozenalign.system.files import file_size

GIVEN = Path(".snakemake/inputs")
# Keys of a data set for which a rule makes its embeddings and metadata.
MADE_FOR = {"generate"}
BEST_CONFIGURATION = rf"results/{NAME}/tuning/{NAME}/best_config\.yaml"


def is_made(path):
    """Return whether a rule makes a file; any other is a user's, wherever it lies."""
    return path in made_files() or re.fullmatch(BEST_CONFIGURATION, path) is not None


def made_files():
    """Return the embedding and metadata files of the run's data set that a rule makes, or none."""
    name = config["dataset"]
    if read := sources_to_read(name):
        return [path for prefix in read for path in set_files(name, prefix)]
    return set_files(name, "train2017") if is_asked_for(name) else []


def is_asked_for(dataset):
    """Return whether a key of a data set asks a rule to make its embeddings."""
    return any(config["datasets"][dataset].get(key) for key in MADE_FOR)


@functools.cache
def sources_to_read(dataset):
    """Return the sources of each set that is not in the default form, by prefix; none of what a rule makes."""
    if is_asked_for(dataset):
        return {}
    with told_by_snakemake():
        return sets_to_read(config["datasets"][dataset])


def generated():
    """Return whether the pictures of the run's data set are generated ones."""
    return bool(config["datasets"][config["dataset"]].get("generate"))


def refuse_missing_files():
    """Stop if a file of the data set is missing: Snakemake would take old results for results of it."""
    name = config["dataset"]
    keys = {path: "dir" for path in set_files(name, "train2017") if path not in made_files()}
    if assignments := config["datasets"][name]["split"].get("assignments"):
        keys[assignments] = "split.assignments"
    with told_by_snakemake():
        for path, key in keys.items():
            file_size(path, f"check `datasets.{name}.{key}`, or put the file there")


def refuse_foreign_demo_data():
    """Stop before Snakemake deletes a user's files, which it takes for outputs of rule demo_data."""
    remedy = (
        f"give the data set another name than {config['dataset']}, or set `generate: null` for it; where they are demo "
        "data of an earlier version, delete the folder"
    )
    with told_by_snakemake():
        refuse_foreign(config["datasets"][config["dataset"]]["dir"], remedy, KNOWN_HASHES)


def refuse_foreign_read():
    """Stop before Snakemake deletes a user's files, which it takes for outputs of rule read_embeddings."""
    folder = Path(embeddings_dir(config["dataset"]))
    with told_by_snakemake():
        refuse_foreign_embeddings(
            folder, "move it away, and name it as `images`, `texts` or `metadata`, or its folder as `dir`"
        )


def given(dataset, path, name=None):
    """Return a link to a user's file, which stays the same input when the folder of the file moves.

    It is ancient: its content decides, not its time. It is local: no prefix and no storage.
    """
    return local(ancient(link_to(path, GIVEN / dataset / (name or os.path.basename(path)))))


def witness(result, key, relevant, present_of=None):
    """Return an input that holds the hashes of a user's files, new if `result` was made from other files.

    It triggers a rerun with any `--rerun-triggers`; a user's files, which are ancient, do not.
    key: where the JSON file `result` notes the hashes of its inputs. relevant: selects its inputs by name. present_of:
    gives the hashes of the files by name, `present_files` if none is given.
    """

    def found(wildcards):
        present = (present_of or present_files)(wildcards.dataset)
        read = {name: sha256 for name, sha256 in present.items() if relevant(name)}
        stale = made_from_others(result.format(**wildcards), key, read)
        # In a folder of its own: Snakemake lists a folder once, perhaps before this file is written.
        path = f"{GIVEN}/{wildcards.dataset}/hashes.json"
        if not any(present.values()) or not write_witness(path, present, anew=stale):
            return []
        return local(path) if stale else local(ancient(path))

    return found


def of_the_split(name):
    """Return whether the split depends on an input of this name; it does not on captions and pictures."""
    return name == PAIRS or (name.startswith("train2017") and name.endswith(".pt"))


def of_an_evaluation(name):
    """Return whether an evaluation depends on an input of this name."""
    return name != PAIRS


@functools.cache
def present_files(dataset):
    """Return the SHA-256 of a user's files by name, and of the image ids under PAIRS; None for what is missing."""
    files = [path for prefix in ("train2017", "val2017") for path in inputs_of(dataset, prefix)]
    users = [path for path in files if path not in made_files()]
    return present_hashes(users, KNOWN_HASHES) | {PAIRS: pairs_of(dataset)}


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


def source_arguments(wildcards, input):
    """Return the command-line arguments that name the sources of read_embeddings."""
    options = {"train2017": "--", "val2017": "--extra-"}
    return [
        f"{options[prefix]}{part}={source.given}"
        for prefix, sources in sources_to_read(wildcards.dataset).items()
        for part, source in sources.parts
    ]


def pairs(wildcards):
    """Return a hash of the image ids in a user's metadata, None for metadata that a rule makes."""
    return pairs_of(wildcards.dataset)


def pairs_of(dataset):
    """Return a hash of the image ids in a user's metadata, None for metadata that a rule makes."""
    metadata = inputs_of(dataset, "train2017")[2]
    return None if is_made(metadata) else pairs_hash(metadata, KNOWN_HASHES)


def embedding_files(wildcards):
    """Return the embedding files of a data set."""
    return data_files(wildcards)[:2]


def data_files(wildcards):
    """Return the embedding and metadata files of a data set."""
    return inputs_of(wildcards.dataset, "train2017")


def extra_files(wildcards):
    """Return the files of the extra evaluation set, or none."""
    found = set_files(wildcards.dataset, "val2017")[0]
    return inputs_of(wildcards.dataset, "val2017") if found in made_files() or os.path.exists(found) else []


@functools.cache
def inputs_of(dataset, prefix):
    """Return the files of a set as a rule takes them."""
    made = made_files()
    return [path if path in made else given(dataset, path) for path in set_files(dataset, prefix)]


def set_files(dataset, prefix):
    """Return the files of a set by its prefix."""
    folder = embeddings_dir(dataset)
    return [f"{folder}/{prefix}_{end}" for end in ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")]


def embeddings_dir(dataset):
    """Return the folder of a data set's embeddings in the default form."""
    return f"results/{dataset}/embeddings" if sources_to_read(dataset) else config["datasets"][dataset]["dir"]


def data_dir(wildcards, input):
    """Return the folder of the embeddings among a job's inputs."""
    return given_path(input.data[0]).parent


def data_mb(wildcards):
    """Return the size of a data set's embeddings in MB, zero before they are made."""
    if read := opened_sources(wildcards.dataset):
        return sum(rows.bytes for rows in read) // 10**6
    return sum(os.path.getsize(path) for path in embedding_files(wildcards) if os.path.exists(path)) // 10**6


def held_mb(wildcards):
    """Return the most memory that the training rows of a job take, in MB."""
    limit = config["memory"]
    return data_mb(wildcards) if limit == "auto" else min(data_mb(wildcards), int(1000 * limit))


@functools.cache
def opened_sources(dataset):
    """Return what the headers say of the image and text embeddings that read_embeddings reads, or nothing."""
    read = sources_to_read(dataset).get("train2017")
    with told_by_snakemake():
        return [open_source(read.images), open_source(read.texts)] if read else []


@functools.cache
def embedding_widths(dataset):
    """Return the widths of the images and the texts of a data set, zeros before they are made."""
    if read := opened_sources(dataset):
        return [rows.width for rows in read]
    return [matrix_width(path) or 0 for path in set_files(dataset, "train2017")[:2]]


def equally_wide(dataset):
    """Return whether the images and texts of a data set are equally wide, as generated ones are."""
    images, texts = embedding_widths(dataset)
    return images == texts if images and texts else set_files(dataset, "train2017") == made_files()
