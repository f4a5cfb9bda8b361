"""Functions that the rules share; no rule stands here."""

import json
import os
import re
import shlex
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from snakemake.exceptions import WorkflowError

from frozenalign.configuration.registrations import baselines
from frozenalign.configuration.runs import checked_files, settings_file
from frozenalign.configuration.variants import variants_of
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
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_size
from frozenalign.system.fingerprints import content_rows, import_closure
from frozenalign.system.refusals import refuse_unwritable

WORKFLOW = Path(workflow.current_basedir).parent
SCRIPTS = WORKFLOW / "scripts"
LIBRARY = WORKFLOW / "lib"
# What is not in the user's own folder comes from the workflow's.
CONFIGURATIONS = [Path("config"), WORKFLOW.parent / "config"]
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # config.schema.yaml holds the names of a configuration to this
SPLITS = ["train", "train_tuning", "val", "test"]
TUNED = "tuned-"
READ = {
    "tune": ["schemas/experiment.schema.yaml", "schemas/tuning.schema.yaml"],
    "train": ["schemas/experiment.schema.yaml"],
    "evaluate": ["schemas/results.schema.yaml"],
    "ensemble": ["schemas/results.schema.yaml"],
    "curves": ["schemas/results.schema.yaml"],
    "figures": ["schemas/results.schema.yaml"],
    "report": [
        "schemas/results.schema.yaml",
        *(f"report/{name}" for name in ("report.html.jinja", "ablation.html.jinja", "report.css", "report.js")),
    ],
}
KNOWN_HASHES = Path(".snakemake/content_hashes.json")
GIVEN = Path(".snakemake/inputs")
BEST_CONFIGURATION = rf"results/{NAME}/tuning/{NAME}/best_config\.yaml"


def step(script):
    """Return the words that a shell command runs a script with; where they stand is no reason to run it again.

    Its Python is that of the conda environment, where there is one, else the one that runs Snakemake.
    """
    python = "python" if workflow.deployment_settings.deployment_method else sys.executable
    words = [python, str(SCRIPTS), script]
    # A function of the input is no part of what Snakemake remembers of a job.
    return lambda wildcards, input: words


def code(script):
    """Return a parameter for each file that decides what a script does, `name hash`: itself, its imports, what it reads."""
    found = import_closure(SCRIPTS / f"{script}.py", LIBRARY)
    return content_rows([*found, *(WORKFLOW / name for name in READ.get(script, []))], WORKFLOW)


def content(*sources):
    """Return a function that gives `name hash` of files that users put there, whatever their times.

    A source is a function of the wildcards that returns a path or a list; what rules make is left out.
    """

    def rows(wildcards):
        found = [source(wildcards) for source in sources]
        paths = [path for paths in found for path in ([paths] if isinstance(paths, str) else paths)]
        return content_rows([path for path in paths if not is_made(path)], known=KNOWN_HASHES)

    return rows


@contextmanager
def told_by_snakemake():
    """Let Snakemake show a UserError as its own, in one sentence."""
    try:
        yield
    except UserError as error:
        raise WorkflowError(str(error)) from None


def refuse_unwritable_results():
    """Stop where the results folder takes no file, in one sentence that a full disk keeps no job's log from telling."""
    with told_by_snakemake():
        refuse_unwritable("results")


def is_made(path):
    """Say whether a rule makes a file that `content` is given; any other file is a user's, wherever it lies."""
    return path in demo_files() or re.fullmatch(BEST_CONFIGURATION, path) is not None


def demo_files():
    """Return the embedding and metadata files that rule demo_data makes, or none."""
    name = config["dataset"]
    return set_files(name, "train2017") if config["datasets"][name].get("generate") else []


def refuse_missing_files():
    """Stop where a file of the data set is missing: Snakemake would take results that lie there for results of it."""
    name = config["dataset"]
    keys = dict.fromkeys(set_files(name, "train2017"), "dir")
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


def given(dataset, path, name=None):
    """Return a link to a user's file that stays the same input when its folder moves; `content` knows if it changed."""
    return local(ancient(link_to(path, GIVEN / dataset / (name or os.path.basename(path)))))


def witness(result, key, relevant):
    """Return an input that says what a user's files of a data set hold, new where `result` was made from others.

    It makes itself heard with any `--rerun-triggers`, as a user's files, which are ancient, do not.
    key: what the JSON file `result` notes the SHA-256 of its inputs under. relevant: tells its inputs by their names.
    """

    def found(wildcards):
        files = present_hashes(user_files(wildcards), KNOWN_HASHES)
        present = files | {PAIRS: pairs(wildcards)}
        read = {name: sha256 for name, sha256 in present.items() if relevant(name)}
        stale = made_from_others(result.format(**wildcards), key, read)
        # In a folder of its own: Snakemake lists one once, perhaps before this file is there.
        path = f"{GIVEN}/{wildcards.dataset}/hashes.json"
        if not any(files.values()) or not write_witness(path, present, anew=stale):
            return []
        return local(path) if stale else local(ancient(path))

    return found


def of_the_split(name):
    """Say whether the split depends on an input of this name: captions and pictures may change without it."""
    return name == PAIRS or (name.startswith("train2017") and name.endswith(".pt"))


def of_an_evaluation(name):
    """Say whether an evaluation depends on an input of this name."""
    return name != PAIRS


def pairs(wildcards):
    """Return a hash of what a user's metadata say of the rows, none of metadata that a rule makes."""
    metadata = data_files(wildcards)[2]
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


def inputs_of(dataset, prefix):
    """Return the files of a set as a rule takes them."""
    made = demo_files()
    return [path if path in made else given(dataset, path) for path in set_files(dataset, prefix)]


def set_files(dataset, prefix):
    """Return the files of a set by its prefix."""
    folder = config["datasets"][dataset]["dir"]
    return [f"{folder}/{prefix}_{end}" for end in ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")]


def user_files(wildcards):
    """Return the files of both sets that no rule makes, whether they are there or not."""
    files = [path for prefix in ("train2017", "val2017") for path in inputs_of(wildcards.dataset, prefix)]
    return [path for path in files if path not in demo_files()]


def data_dir(wildcards, input):
    """Return the folder of the embeddings among a job's inputs."""
    return given_path(input.data[0]).parent


def split_dir(wildcards, input):
    """Return the folder of the split among a job's inputs."""
    return os.path.dirname(input.manifest)


def data_mb(wildcards):
    """Return the megabytes of a data set's embeddings that lie there."""
    return sum(os.path.getsize(path) for path in embedding_files(wildcards) if os.path.exists(path)) // 10**6


def equally_wide(dataset):
    """Say whether the images and texts of a data set are equally wide, as all generated ones are."""
    files = set_files(dataset, "train2017")
    images, texts = (matrix_width(path) for path in files[:2])
    return images == texts if images and texts else files == demo_files()


def split_settings(wildcards):
    """Return the `split` section of a data set."""
    return config["datasets"][wildcards.dataset]["split"]


def assignment_file(wildcards):
    """Return the assignment file of a data set, or none."""
    path = split_settings(wildcards).get("assignments")
    return given(wildcards.dataset, path, f"assignments{Path(path).suffix}") if path else []


def assignment_arguments(wildcards, input):
    """Return the command-line argument that names the assignment file, or none."""
    return [f"--assignments={given_path(input.assignments)}"] if input.get("assignments") else []


def division_arguments(wildcards):
    """Return the command-line arguments that say how images are divided, besides the assignment file."""
    split = split_settings(wildcards)
    if split.get("assignments"):
        how = ["--missing", split["missing"]]
    elif split.get("counts"):
        how = ["--counts", json.dumps(split["counts"])]
    else:
        how = ["--fractions", json.dumps(split["fractions"])]
    return [*how, "--seed", split["seed"], "--tuning-pairs", split["tuning_pairs"]]


def variant_of(wildcards):
    """Return the variant whose results stand under an experiment's name, or none."""
    return next((variant for variant in variants_of(config) if variant.experiment == wildcards.experiment), None)


def change_arguments(wildcards):
    """Return the command-line arguments that say what a variant changes."""
    variant = variant_of(wildcards)
    return ["--set", json.dumps(variant.changes)] if variant else []


def study_file(wildcards):
    """Return the file of a study."""
    return local(str(settings_file("tuning", wildcards.study, CONFIGURATIONS)))


def experiment_file(wildcards):
    """Return an experiment's file: of a variant its base's, of tuned-STUDY the best configuration, else its own."""
    if wildcards.experiment.startswith(TUNED):
        study = wildcards.experiment.removeprefix(TUNED)
        return f"results/{wildcards.dataset}/tuning/{study}/best_config.yaml"
    variant = variant_of(wildcards)
    return local(str(settings_file("experiments", variant.base if variant else wildcards.experiment, CONFIGURATIONS)))


def start_file(wildcards):
    """Return the CCA that an experiment or study starts from, or none."""
    name = wildcards.get("study") or wildcards.experiment.removeprefix(TUNED)
    return f"results/{wildcards.dataset}/cca/seed0/best_model.pt" if RUN.takes_a_start(name) else []


def start_arguments(wildcards, input):
    """Return the command-line argument that names the CCA to start from, or none."""
    return [f"--start={input.start}"] if input.get("start") else []


def gpus():
    """Return 1 where a job will take a GPU of this machine, so that two never share it; profiles ask for more."""
    there = shutil.which("nvidia-smi") is not None
    return int(config["device"] == "cuda" or (config["device"] == "auto" and there))
