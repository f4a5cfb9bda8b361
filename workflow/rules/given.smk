"""The files of a data set: those that a user puts there, and those that a rule makes."""

import functools

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
    asked = {key for key, value in config["datasets"][name].items() if value}
    return set_files(name, "train2017") if asked & MADE_FOR else []


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
    keys = dict.fromkeys(set_files(name, "train2017"), "dir")
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


def witness(result, key, relevant):
    """Return an input that holds the hashes of a user's files, new if `result` was made from other files.

    It triggers a rerun with any `--rerun-triggers`; a user's files, which are ancient, do not.
    key: where the JSON file `result` notes the hashes of its inputs. relevant: selects its inputs by name.
    """

    def found(wildcards):
        present = present_files(wildcards.dataset)
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
    found = set_files(wildcards.dataset, "val2017")
    return inputs_of(wildcards.dataset, "val2017") if os.path.exists(found[0]) else []


@functools.cache
def inputs_of(dataset, prefix):
    """Return the files of a set as a rule takes them."""
    made = made_files()
    return [path if path in made else given(dataset, path) for path in set_files(dataset, prefix)]


def set_files(dataset, prefix):
    """Return the files of a set by its prefix."""
    folder = config["datasets"][dataset]["dir"]
    return [f"{folder}/{prefix}_{end}" for end in ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")]


def data_dir(wildcards, input):
    """Return the folder of the embeddings among a job's inputs."""
    return given_path(input.data[0]).parent


def data_mb(wildcards):
    """Return the size of a data set's embeddings in MB, zero before they are made."""
    return sum(os.path.getsize(path) for path in embedding_files(wildcards) if os.path.exists(path)) // 10**6


def held_mb(wildcards):
    """Return the most memory that the training rows of a job take, in MB."""
    limit = config["memory"]
    return data_mb(wildcards) if limit == "auto" else min(data_mb(wildcards), int(1000 * limit))


@functools.cache
def embedding_widths(dataset):
    """Return the widths of the images and the texts of a data set; zeros before they are made by no encoder."""
    found = [matrix_width(path) or 0 for path in set_files(dataset, "train2017")[:2]]
    return found if all(found) or not encoding() else [encoder("image").width, encoder("text").width]


def equally_wide(dataset):
    """Return whether the images and texts of a data set are equally wide."""
    images, texts = embedding_widths(dataset)
    return images == texts and images > 0
