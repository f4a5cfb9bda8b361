"""Align two frozen encoders: split, tune, train, evaluate, report."""

import sys

from snakemake.utils import min_version

# Not `workflow.basedir`, which is the folder of the workflow that uses this one as a module.
sys.path.insert(0, f"{workflow.current_basedir}/workflow/lib")

from frozenalign.configuration.runs import RESERVED, checked_files, checked_run, refuse_repeated_keys

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/given.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/set_sources.smk"
include: "workflow/rules/pairs.smk"


with told_by_snakemake():
    refuse_repeated_keys(workflow.configfiles)
    config.update(checked_run(config, "configuration"))
    RUN = checked_files(config, CONFIGURATIONS)


if takes_an_image():

    container: image()


onstart:
    refuse_unwritable_results()


# On a full disk the jobs' logs are empty.
onerror:
    refuse_unwritable_results()


wildcard_constraints:
    dataset="|".join(map(re.escape, config["datasets"])),
    experiment=rf"(?!(?:{'|'.join(RESERVED)})/){NAME}",
    study=NAME,
    worker=r"\d+-of-\d+",
    job=r"\d+-of-\d+",
    seed=r"\d+",


include: "workflow/rules/data.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/read.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/gallery.smk"
include: "workflow/rules/evaluation_sets.smk"
include: "workflow/rules/draw.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/encodings.smk"


rule all:
    default_target: True
    input:
        report_files(config["dataset"]),
        encodings_pages(),


rule splits:
    input:
        f"results/{config['dataset']}/split/manifest.json",


rule tuned:
    input:
        [f"{folder}/best_config.yaml" for folder in study_folders(config["dataset"])],


rule trained:
    input:
        [f"{folder}/best_model.pt" for folder in head_folders(config["dataset"])],


rule evaluated:
    input:
        [f"{folder}/evaluation_results/metrics.json" for folder in head_folders(config["dataset"])],
        set_results(config["dataset"]),


rule exported:
    input:
        [f"{folder}/export" for folder in head_folders(config["dataset"])],


rule galleries:
    input:
        [f"{folder}/gallery/gallery.json" for folder in head_folders(config["dataset"])],
