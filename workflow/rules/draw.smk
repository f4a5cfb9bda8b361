"""The pictures, each kind in one job: starting a process for every run would take longer than drawing.

Pictures are updated, not deleted before the job: only those are drawn anew whose sources have changed. Their paths have no
wildcard: Snakemake compares each file that a job needs with all outputs that begin with one, thousands in a large run.
"""

RESULTS = f"results/{config['dataset']}"


rule curves:
    input:
        histories=run_files("loss_history.json", head_folders),
        settings=run_files("resolved_config.yaml", head_folders),
        trials=run_files("trials.csv", study_folders),
        studies=run_files("study.json", study_folders),
    output:
        training=[
            picture(f"{folder}/training_curves.png", "training_curves", "Training")
            for folder in head_folders(config["dataset"])
        ],
        history=[
            picture(f"{folder}/optimization_history.png", "optimization_history", "Tuning")
            for folder in study_folders(config["dataset"])
        ],
        importance=[
            picture(f"{folder}/parameter_importance.png", "parameter_importance", "Tuning")
            for folder in study_folders(config["dataset"])
        ],
    log:
        f"{RESULTS}/logs/curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/curves.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        *code("curves"),
        step=step("curves"),
        runs=lambda wildcards, input: listed(folders_of(input.histories)),
        studies=lambda wildcards, input: listed(folders_of(input.studies)),
    shell:
        "{params.step:q} --log {log:q} --runs {params.runs:q} --studies {params.studies:q}"


rule figures:
    input:
        metrics=run_files("evaluation_results/metrics.json", run_folders),
        ranks=run_files("evaluation_results/ranks.npz", run_folders),
        samples=run_files("evaluation_results/samples.npz", run_folders),
    output:
        [
            picture(f"{folder}/evaluation_results/{name}.png", name, "Evaluation")
            for folder in run_folders(config["dataset"])
            for name in EVALUATION_PICTURES
        ],
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        *code("figures"),
        step=step("figures"),
        evaluations=lambda wildcards, input: listed(folders_of(input.metrics)),
    shell:
        "{params.step:q} --log {log:q} --evaluations {params.evaluations:q} --processes {threads}"
