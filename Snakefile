"""Align two frozen encoders: split, tune, train, evaluate, report."""

from snakemake.utils import min_version

from workflow.lib.interpreter import put_first
from workflow.lib.settings import RESERVED, checked_files, checked_run

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/targets.smk"


with told_by_snakemake():
    config.update(checked_run(config, "configuration"))
    checked_files(config, Path("config"))

put_first(BASE)


onstart:
    refuse_unwritable_results()


# A full disk takes no log either: what the failed jobs could not say is said here.
onerror:
    refuse_unwritable_results()


wildcard_constraints:
    dataset="|".join(map(re.escape, config["datasets"])),
    experiment=rf"(?!(?:{'|'.join(RESERVED)})/){NAME}",
    study=NAME,
    seed=r"\d+",


include: "workflow/rules/data.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        report_files(config["dataset"]),


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
