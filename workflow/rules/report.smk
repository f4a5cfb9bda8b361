"""One page about the whole run."""

EVALUATED = ["resolved_config.yaml", "run.json", "evaluation_results/metrics.json"]


def head_files(wildcards):
    """Return what the page reads of every head."""
    names = [*EVALUATED, "loss_history.json", "training_curves.png"]
    return [f"{folder}/{name}" for folder in head_folders(wildcards.dataset) for name in names]


def baseline_files(wildcards):
    """Return what the page reads of every baseline."""
    return [f"{folder}/{name}" for folder in baseline_folders(wildcards) for name in EVALUATED]


def study_files(wildcards):
    """Return what the page reads of every study."""
    names = ["best_config.yaml", "trials.csv", "optimization_history.png", "parameter_importance.png"]
    return [f"results/{wildcards.dataset}/tuning/{study}/{name}" for study in config["tuning"] for name in names]


rule report:
    input:
        code=code("report", "report/report.html.jinja"),
        manifest="results/{dataset}/split/manifest.json",
        metadata=lambda wildcards: data_files(wildcards)[2],
        heads=head_files,
        baselines=baseline_files,
        studies=study_files,
    output:
        page=report("results/{dataset}/report/index.html", caption="../report/index.rst", category="Results"),
        table=report("results/{dataset}/report/leaderboard.csv", caption="../report/leaderboard.rst", category="Results"),
    log:
        "results/{dataset}/logs/report.log",
    benchmark:
        "results/{dataset}/benchmarks/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        data_dir=data_dir,
        runs=lambda wildcards: [*head_folders(wildcards.dataset), *baseline_folders(wildcards)],
        studies=lambda wildcards: [f"results/{wildcards.dataset}/tuning/{study}" for study in config["tuning"]],
        output_dir="results/{dataset}/report",
    shell:
        "python -m workflow.scripts.report --dataset-name {wildcards.dataset:q} --data-dir {params.data_dir:q}"
        " --manifest {input.manifest:q} --runs {params.runs:q} --studies {params.studies:q}"
        " --output-dir {params.output_dir:q} > {log:q} 2>&1"
