"""Functions that the rules share; no rule stands here."""

import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from workflow.lib.registrations import baselines
from workflow.lib.sources import import_closure

BASE = Path(workflow.basedir)
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
SPLITS = ["train", "train_tuning", "val", "test"]
TUNED = "tuned-"


def put_this_python_first():
    """Let `python` in a rule be the one that runs Snakemake, and let it find the package from any folder."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(BASE), os.environ.get("PYTHONPATH")]))


def code(script, *others):
    """Return the files whose change reruns a rule: the script, all it imports, and others below workflow/."""
    found = import_closure(BASE / "workflow" / "scripts" / f"{script}.py", BASE)
    return [os.path.relpath(path) for path in [*found, *(BASE / "workflow" / other for other in others)]]


def data_dir(wildcards):
    """Return the folder of a data set."""
    return config["datasets"][wildcards.dataset]["dir"]


def data_files(wildcards):
    """Return the embedding and metadata files of a data set, with its extra set where there is one."""
    ends = ["image_embeddings.pt", "text_embeddings.pt", "metadata.json"]
    return [f"{data_dir(wildcards)}/train2017_{end}" for end in ends]


def extra_files(wildcards):
    """Return the files of the extra evaluation set, or none."""
    found = [path.replace("train2017_", "val2017_") for path in data_files(wildcards)]
    return found if os.path.exists(found[0]) else []


def split_settings(wildcards):
    """Return the `split` section of a data set."""
    return config["datasets"][wildcards.dataset]["split"]


def assignment_file(wildcards):
    """Return the assignment file of a data set, or none."""
    return split_settings(wildcards).get("assignments", [])


def division_arguments(wildcards):
    """Return the command-line arguments that say how images are divided."""
    split = split_settings(wildcards)
    if split.get("assignments"):
        how = ["--assignments", split["assignments"]]
    elif split.get("counts"):
        how = ["--counts", json.dumps(split["counts"])]
    else:
        how = ["--fractions", json.dumps(split["fractions"])]
    control = ["--shuffle-pairs"] if split["shuffle_pairs"] else []
    return [*how, "--seed", split["seed"], "--tuning-pairs", split["tuning_pairs"], *control]


def experiment_file(wildcards):
    """Return an experiment's file: a study's best configuration for tuned-STUDY, else config/experiments/NAME.yaml."""
    if wildcards.experiment.startswith(TUNED):
        study = wildcards.experiment.removeprefix(TUNED)
        return f"results/{wildcards.dataset}/tuning/{study}/best_config.yaml"
    return f"config/experiments/{wildcards.experiment}.yaml"


def head_folders(dataset):
    """Return the folder of every head and seed of the run."""
    names = [*config["experiments"], *(f"{TUNED}{study}" for study in config["tuning"])]
    return [f"results/{dataset}/{name}/seed{seed}" for name in names for seed in config["seeds"]]


def baseline_folders(wildcards):
    """Return the folder of every baseline; raw_cosine counts only where the split found both widths equal."""
    with checkpoints.split.get(dataset=wildcards.dataset).output.manifest.open() as stream:
        manifest = json.load(stream)
    names = [n for n in config["baselines"] if n != "raw_cosine" or manifest["image_dim"] == manifest["text_dim"]]
    return [f"results/{wildcards.dataset}/{name}/seed0" for name in names]


def report_files(dataset):
    """Return the pages that a run ends with."""
    return [f"results/{dataset}/report/index.html", f"results/{dataset}/report/leaderboard.csv"]


def gpus():
    """Return 1 where a job will take a GPU of this machine, so that two never share it; profiles ask for more."""
    there = os.path.exists("/dev/nvidia0")
    return int(config["device"] == "cuda" or (config["device"] == "auto" and there))
