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

from frozenalign.system.fingerprints import content_hash
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_size
from frozenalign.data.given_files import PAIRS, made_from_others, pairs_hash, present_hashes, write_witness
from frozenalign.demo.made_files import refuse_foreign
from frozenalign.system.refusals import refuse_unwritable
from frozenalign.configuration.registrations import baselines
from frozenalign.system.fingerprints import import_closure
from frozenalign.data.tensor_header import matrix_width
from frozenalign.configuration.variants import variants_of

WORKFLOW = Path(workflow.current_basedir).parent
SCRIPTS = WORKFLOW / "scripts"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # config.schema.yaml holds the names of a configuration to this
SPLITS = ["train", "train_tuning", "val", "test"]
TUNED = "tuned-"
READ = {
    "tune": ["schemas/experiment.schema.yaml", "schemas/tuning.schema.yaml"],
    "train": ["schemas/experiment.schema.yaml"],
    "evaluate": ["schemas/results.schema.yaml"],
    "ensemble": ["schemas/results.schema.yaml"],
    "report": [
        "schemas/results.schema.yaml",
        *(f"report/{name}" for name in ("report.html.jinja", "ablation.html.jinja", "report.css", "report.js")),
    ],
}
KNOWN_HASHES = Path(".snakemake/content_hashes.json")
WITNESSES = ".snakemake/inputs"
BEST_CONFIGURATION = rf"results/{NAME}/tuning/{NAME}/best_config\.yaml"


def step(script):
    """Return the beginning of the command that runs a script, for a shell directive.

    Its Python is that of the conda environment, where there is one, else the one that runs Snakemake.
    """
    python = "python" if workflow.deployment_settings.deployment_method else sys.executable
    return " ".join(shlex.quote(str(word)).replace("{", "{{").replace("}", "}}") for word in (python, SCRIPTS, script))


def code(script):
    """Return the files whose change reruns a script: itself, all it imports, and what else of workflow/ it reads."""
    found = import_closure(SCRIPTS / f"{script}.py", WORKFLOW / "lib")
    return [os.path.relpath(path) for path in [*found, *(WORKFLOW / name for name in READ.get(script, []))]]


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


def data_dir(wildcards):
    """Return the folder of a data set."""
    return config["datasets"][wildcards.dataset]["dir"]


def content(script, *sources):
    """Return a parameter that changes when a script's code or a file given to it does, whatever the clocks say.

    A source is a function of the wildcards that returns a path or a list; what rules make is left out.
    """
    modules = code(script)

    def hashed(wildcards):
        found = [source(wildcards) for source in sources]
        paths = [path for paths in found for path in ([paths] if isinstance(paths, str) else paths)]
        return content_hash([*modules, *(path for path in paths if not is_made(path))], KNOWN_HASHES)

    return hashed


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


def given(paths):
    """Mark the files that a user has put there; `content` says whether they changed, not their time."""
    made = demo_files()
    return [path if path in made else ancient(path) for path in paths]


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
        path = f"{WITNESSES}/{wildcards.dataset}/hashes.json"
        if not any(files.values()) or not write_witness(path, present, anew=stale):
            return []
        return path if stale else ancient(path)

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
    return given(set_files(wildcards.dataset, "train2017"))


def extra_files(wildcards):
    """Return the files of the extra evaluation set, or none."""
    found = set_files(wildcards.dataset, "val2017")
    return given(found) if os.path.exists(found[0]) else []


def set_files(dataset, prefix):
    """Return the files of a set by its prefix."""
    folder = config["datasets"][dataset]["dir"]
    return [f"{folder}/{prefix}_{end}" for end in ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")]


def user_files(wildcards):
    """Return the files of both sets that no rule makes, whether they are there or not."""
    files = [path for prefix in ("train2017", "val2017") for path in set_files(wildcards.dataset, prefix)]
    return [path for path in files if path not in demo_files()]


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
    return split_settings(wildcards).get("assignments", [])


def split_dir(wildcards):
    """Return the folder of a data set's split."""
    return f"results/{wildcards.dataset}/split"


def run_dir(wildcards):
    """Return the folder of an experiment or baseline and a seed."""
    return f"results/{wildcards.dataset}/{wildcards.experiment}/seed{wildcards.seed}"


def study_dir(wildcards):
    """Return the folder of a study."""
    return f"results/{wildcards.dataset}/tuning/{wildcards.study}"


def division_arguments(wildcards):
    """Return the command-line arguments that say how images are divided."""
    split = split_settings(wildcards)
    if split.get("assignments"):
        how = [f"--assignments={split['assignments']}", "--missing", split["missing"]]
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
    return f"config/tuning/{wildcards.study}.yaml"


def experiment_file(wildcards):
    """Return an experiment's file: of a variant its base's, of tuned-STUDY the best configuration, else its own."""
    if variant := variant_of(wildcards):
        return f"config/experiments/{variant.base}.yaml"
    if wildcards.experiment.startswith(TUNED):
        study = wildcards.experiment.removeprefix(TUNED)
        return f"results/{wildcards.dataset}/tuning/{study}/best_config.yaml"
    return f"config/experiments/{wildcards.experiment}.yaml"


def gpus():
    """Return 1 where a job will take a GPU of this machine, so that two never share it; profiles ask for more."""
    there = shutil.which("nvidia-smi") is not None
    return int(config["device"] == "cuda" or (config["device"] == "auto" and there))


def evaluation_figure(name):
    """Return a picture of an evaluation, flagged for `snakemake --report`."""
    return report(
        f"results/{{dataset}}/{{experiment}}/seed{{seed}}/evaluation_results/{name}.png",
        caption=f"../report/{name}.rst",
        category="Evaluation",
        subcategory="{experiment}",
        labels={"experiment": "{experiment}", "seed": "{seed}", "figure": name.replace("_", " ")},
    )
