"""The files of a data set: those that a user puts there, and those that a rule makes."""

import functools

from frozenalign.data.given_files import (
    EXTRA_PAIRS,
    PAIRS,
    given_path,
    link_to,
    made_from_others,
    pairs_hash,
    present_hashes,
    split_as_one,
    write_witness,
)
from frozenalign.data.tensor_header import matrix_width
from frozenalign.system.files import file_size

GIVEN = Path(".snakemake/inputs")
# Keys of a data set for which a rule makes its embeddings and metadata.
MADE_FOR = {"encode", "generate"}
BEST_CONFIGURATION = rf"results/{NAME}/tuning/{NAME}/best_config\.yaml"


def is_made(path):
    """Return whether a rule makes a file; any other is a user's, wherever it lies."""
    return path in [*made_files(), *drawn_files()] or re.fullmatch(BEST_CONFIGURATION, path) is not None


def made_files():
    """Return the embedding and metadata files of the run's data set that a rule makes, or none."""
    name = config["dataset"]
    if read := sources_to_read(name):
        return [path for prefix in read for path in set_files(name, prefix)]
    return set_files(name, "train2017") if is_asked_for(name) else []


def is_asked_for(dataset):
    """Return whether a key of a data set asks a rule to make its embeddings."""
    return any(config["datasets"][dataset].get(key) for key in MADE_FOR)


def drawn_files():
    """Return the captions and the folder of the pictures that demo_data makes for the run's data set, or none."""
    section = config["datasets"][config["dataset"]]
    return [*section["encode"]["captions"], section["encode"]["images"]] if generated() else []


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


def given(dataset, path, name=None):
    """Return a link to a user's file, which stays the same input when the folder of the file moves.

    It is ancient: its content decides, not its time. It is local: no prefix and no storage.
    """
    return local(ancient(link_to(path, GIVEN / dataset / (name or os.path.basename(path)))))


def witness(result, key, relevant, present_of=None):
    """Return an input that holds the hashes of a user's files, new if `result` was made from other files.

    It triggers a rerun with any `--rerun-triggers`; a user's files, which are ancient, do not.
    key: where the JSON file `result` notes the hashes of its inputs. relevant: selects those of a data set by name.
    present_of: gives the hashes of the files by name, `present_files` if none is given.
    """

    def found(wildcards):
        present = (present_of or present_files)(wildcards.dataset)
        read = {name: sha256 for name, sha256 in present.items() if relevant(wildcards.dataset, name)}
        stale = made_from_others(result.format(**wildcards), key, read)
        # In a folder of its own: Snakemake lists a folder once, perhaps before this file is written.
        path = f"{GIVEN}/{wildcards.dataset}/hashes.json"
        if not any(present.values()) or not write_witness(path, present, anew=stale):
            return []
        return local(path) if stale else local(ancient(path))

    return found


def of_the_split(dataset, name):
    """Return whether the split of a data set depends on an input of this name; it does not on captions and pictures."""
    return name in (PAIRS, EXTRA_PAIRS) or (name.startswith(tuple(split_sets(dataset))) and name.endswith(".pt"))


def of_an_evaluation(dataset, name):
    """Return whether an evaluation depends on an input of this name."""
    return name not in (PAIRS, EXTRA_PAIRS)


@functools.cache
def split_sets(dataset):
    """Return the sets that are split as one: train2017, and val2017 where the assignments name images of both."""
    sets = ["train2017", "val2017"]
    files = [set_files(dataset, name)[2] for name in sets]
    assignments = config["datasets"][dataset]["split"].get("assignments")
    there = assignments and all(map(os.path.exists, files))
    return sets if there and split_as_one(assignments, *files, KNOWN_HASHES) else sets[:1]


@functools.cache
def present_files(dataset):
    """Return the SHA-256 of a user's files by name, and of the image ids that are split; None for what is missing."""
    files = [path for prefix in ("train2017", "val2017") for path in inputs_of(dataset, prefix)]
    users = [path for path in files if path not in made_files()]
    return present_hashes(users, KNOWN_HASHES) | pairs_of(dataset)


def pairs(wildcards):
    """Return a hash of the image ids in each user's metadata, None for those that are not split."""
    return pairs_of(wildcards.dataset)


def pairs_of(dataset):
    """Return a hash of the image ids in each user's metadata by its name, None for those that are not split."""
    found = {}
    for key, prefix in ((PAIRS, "train2017"), (EXTRA_PAIRS, "val2017")):
        metadata = inputs_of(dataset, prefix)[2]
        if not is_made(metadata):
            found[key] = pairs_hash(metadata, KNOWN_HASHES) if prefix in split_sets(dataset) else None
    return found


def embedding_files(wildcards):
    """Return the embedding files of a data set."""
    return [path for path in data_files(wildcards) if path.endswith(".pt")]


def data_files(wildcards):
    """Return the embedding and metadata files of a data set, those of train2017 first."""
    return [path for prefix in split_sets(wildcards.dataset) for path in inputs_of(wildcards.dataset, prefix)]


def extra_files(wildcards):
    """Return the files of the extra evaluation set, or none."""
    if "val2017" in split_sets(wildcards.dataset):
        return []
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
    read = config["pair"] or sources_to_read(dataset)
    return f"results/{dataset}/embeddings" if read else config["datasets"][dataset]["dir"]


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
def embedding_widths(dataset):
    """Return the widths of the images and the texts of a data set; zeros before they are made by no encoder."""
    if read := opened_sources(dataset):
        return [rows.width for rows in read]
    found = [matrix_width(path) or 0 for path in set_files(dataset, "train2017")[:2]]
    return found if all(found) or not encoding() else [encoder("image").width, encoder("text").width]
