"""The files of the evaluation sets: a user's, and those that the rule makes that encodes them."""

import json
from pathlib import Path

from frozenalign.data.benchmarks.items import ROWS_FILE
from frozenalign.data.benchmarks.registry import POSITIVE_SOURCES, positive_files
from frozenalign.data.benchmarks.positives import read_positives
from frozenalign.data.made_files import ROW_FILES

# In the folder of each model.
SETS_FILE = "evaluation_sets/sets.json"


def encoded_sets():
    """Return the names of the evaluation sets whose pictures and texts a rule encodes."""
    return [name for name, each in config["evaluation_sets"].items() if "pictures" in each]


def asked_sets(wildcards, input):
    """Return as JSON what evaluate_sets is told of each set: its kind, the folder of its embeddings, its positives."""
    # A workflow that uses this one as a module may put encoded sets elsewhere.
    encoded = {name: os.path.dirname(path) for name, path in zip(encoded_sets(), input.encoded)}
    asked = {}
    for name, each in config["evaluation_sets"].items():
        known = {"kind": each["kind"], "dir": encoded.get(name, each.get("dir")), "positives": each.get("positives")}
        asked[name] = {key: value for key, value in known.items() if value}
    return json.dumps(asked)


def set_source(wildcards):
    """Return the file that a set is encoded from, as a rule takes it."""
    return given_for_set(wildcards.set, config["evaluation_sets"][wildcards.set]["file"])


def given_for_set(name, path):
    """Return a link to a user's file of a set."""
    return given(config["dataset"], path, f"evaluation_sets/{name}/{os.path.basename(path)}")


def files_by_set():
    """Return the files that a user gives for each set, besides those to encode: embeddings and positives."""
    found = {}
    for name, each in config["evaluation_sets"].items():
        meaning = ROW_FILES[2] if each["kind"] == "retrieval" else ROWS_FILE
        found[name] = [f"{each['dir']}/{file}" for file in (*ROW_FILES[:2], meaning)] if "dir" in each else []
        if "dir" in each and os.path.isfile(f"{each['dir']}/{ENCODING}"):
            found[name].append(f"{each['dir']}/{ENCODING}")
        if "positives" in each:
            with told_by_snakemake():
                found[name] += [str(path) for path in positive_files(each["positives"])]
    return found


def users_set_files(wildcards):
    """Return the files that a user gives for all sets."""
    return [path for files in files_by_set().values() for path in files]


def set_files_given(wildcards):
    """Return the files that a user gives for all sets, as a rule takes them."""
    return [given_for_set(name, path) for name, files in files_by_set().items() for path in files]


def refuse_missing_sets():
    """Stop if a file of an evaluation set is missing."""
    with told_by_snakemake():
        for name, files in files_by_set().items():
            for path in files:
                file_size(path, f"check `evaluation_sets.{name}`, or put the file there")
            positives = config["evaluation_sets"][name].get("positives")
            if positives and positives not in POSITIVE_SOURCES:
                read_positives(Path(positives))
        for name in encoded_sets():
            each = config["evaluation_sets"][name]
            file_size(each["file"], f"check `evaluation_sets.{name}.file`, or put the file there")
            if not os.path.isdir(each["pictures"]):
                raise UserError(
                    f"{each['pictures']} is no folder: check `evaluation_sets.{name}.pictures`, or put the pictures there"
                )


def set_environment():
    """Return the conda environment that holds the libraries of both encoders of the run."""
    environments = [environment(modality) for modality in ("image", "text")]
    return next((each for each in environments if each.endswith("encode.yaml")), environments[0])


def set_encoding_code():
    """Return a parameter for each file that decides an encoded set; of the encoders only the run's count."""
    others = [set(other_encoders(encoder(modality).library)) for modality in ("image", "text")]
    return code("encode_evaluation_set", others[0] & others[1])


def set_results(dataset):
    """Return the results of every model of the run on the evaluation sets, none without sets."""
    return run_files(SETS_FILE, run_folders) if config["evaluation_sets"] else []
