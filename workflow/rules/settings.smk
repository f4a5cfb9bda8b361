"""The settings of a split, an experiment or a study, as inputs and arguments of its job."""

import functools
import json

from frozenalign.configuration import runs
from frozenalign.configuration.held_weights import held_numbers
from frozenalign.configuration.search_space import largest_experiments
from frozenalign.configuration.studies import TUNED
from frozenalign.configuration.variants import variants_of


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
    """Return the command-line arguments for the division of the images, without the assignment file."""
    split = split_settings(wildcards)
    if split.get("assignments"):
        how = ["--missing", split["missing"]]
    elif split.get("counts"):
        how = ["--counts", json.dumps(split["counts"])]
    else:
        how = ["--fractions", json.dumps(split["fractions"])]
    return [*how, "--seed", split["seed"], "--tuning-pairs", split["tuning_pairs"]]


@functools.cache
def variants():
    """Return the variants of the run by the name of their results."""
    return {variant.experiment: variant for variant in variants_of(config)}


def variant_of(wildcards):
    """Return the variant whose results stand under an experiment's name, or none."""
    return variants().get(wildcards.experiment)


def change_arguments(wildcards):
    """Return the command-line arguments for the keys that a variant changes."""
    variant = variant_of(wildcards)
    return ["--set", json.dumps(variant.changes)] if variant else []


def study_file(wildcards):
    """Return the file of a study."""
    return local(str(runs.settings_file("tuning", wildcards.study, CONFIGURATIONS)))


def experiment_file(wildcards):
    """Return an experiment's file: of a variant its base's, of tuned-STUDY the best configuration, else its own."""
    if wildcards.experiment.startswith(TUNED):
        study = wildcards.experiment.removeprefix(TUNED)
        return f"results/{wildcards.dataset}/tuning/{study}/best_config.yaml"
    variant = variant_of(wildcards)
    name = variant.base if variant else wildcards.experiment
    return local(str(runs.experiment_file(config, name, CONFIGURATIONS)))


def training_devices(wildcards):
    """Return on how many devices an experiment is trained; a trial of a study has one, and so has what it found."""
    experiment = RUN.experiments.get(wildcards.experiment)
    return experiment.training.devices if experiment else 1


@functools.cache
def model_sections(name):
    """Return the `model` sections that an experiment or a study trains, of a study the largest of its search space."""
    if name in RUN.studies:
        return [experiment.model for experiment in largest_experiments(RUN.studies[name])]
    return [RUN.experiments[name].model] if name in RUN.experiments else []


def weights_mb(wildcards):
    """Return the most MB that a head's weights take while it learns, estimated from widths."""
    name = wildcards.get("study") or wildcards.experiment.removeprefix(TUNED)
    widths = embedding_widths(wildcards.dataset)
    numbers = [sum(held_numbers(model, width) for width in widths) for model in model_sections(name)]
    return 4 * max(numbers, default=0) // 10**6


def training_mb(wildcards, devices):
    """Return the MB of a training in so many processes, its rows counted once for all that run side by side.

    On one machine, trainings share their rows: of `n` together, each answers for an nth. No more run together than there
    are cores for them, or memory for what they do not share.
    """
    own, rows = devices * (BASE_MB + weights_mb(wildcards)), held_mb(wildcards)
    if not workflow.local_exec:
        return own + rows
    together = workflow.cores // devices
    if limit := getattr(workflow.global_resources.get("mem_mb"), "value", None):
        together = min(together, (limit - rows) // own)
    return own + -(-rows // max(1, together))


def closed_forms_mb(wildcards):
    """Return the MB of the matrices of closed forms, from widths: what `closed_forms/choice.py` counts, without rows."""
    narrow, wide = sorted(embedding_widths(wildcards.dataset))
    of_most = max(5 * wide**2, 10 * narrow**2 + 6 * narrow * wide)
    return 8 * (wide**2 + narrow**2 + narrow * wide + of_most) // 10**6


def start_file(wildcards):
    """Return the CCA that an experiment or study starts from, or none."""
    name = wildcards.get("study") or wildcards.experiment.removeprefix(TUNED)
    return f"results/{wildcards.dataset}/cca/seed0/best_model.pt" if RUN.takes_a_start(name) else []


def start_arguments(wildcards, input):
    """Return the command-line argument that names the CCA to start from, or none."""
    return [f"--start={input.start}"] if input.get("start") else []
