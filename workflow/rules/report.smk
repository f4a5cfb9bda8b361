"""One page about the whole run."""


rule report:
    input:
        manifest=f"{RESULTS}/split/manifest.json",
        settings=run_files("resolved_config.yaml", run_folders),
        heads=run_files("loss_history.json", head_folders),
        evaluations=run_files(EVALUATED, run_folders),
        sets=set_results(config["dataset"]),
        studies=run_files("study.json", study_folders),
        tuned=run_files(["best_config.yaml", "trials.csv"], study_folders),
        # One of each job that draws all: Snakemake compares every input with all outputs of these jobs.
        drawn=[
            *run_files("training_curves.png", head_folders)[:1],
            *run_files(EVALUATION_FIGURES, run_folders)[:1],
        ],
        pictures=demo_pictures,
    output:
        page=report(f"{RESULTS}/report/index.html", caption="../report/index.rst", category="Results"),
        table=report(f"{RESULTS}/report/leaderboard.csv", caption="../report/leaderboard.rst", category="Results"),
        board=report(f"{RESULTS}/report/leaderboard.svg", caption="../report/leaderboard.rst", category="Results"),
        costs=report(f"{RESULTS}/report/costs.svg", caption="../report/costs.rst", category="Results"),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        *code("report"),
        step=step("report"),
        dataset=config["dataset"],
        pictures=picture_arguments,
        data_dir=picture_dir,
        runs=lambda wildcards, input: listed(folders_of(input.settings)),
        studies=lambda wildcards, input: listed(folders_of(input.studies)),
        sets=list(config["evaluation_sets"]),
        encodings=encodings_link(),
        output_dir=lambda wildcards, output: os.path.dirname(output.page),
    shell:
        "{params.step:q} --log {log:q} --dataset-name={params.dataset:q} --data-dir={params.data_dir:q}"
        " {params.pictures:q} --manifest={input.manifest:q} --runs {params.runs:q} --studies {params.studies:q}"
        " --evaluation-sets {params.sets:q} {params.encodings:q}"
        " --output-dir={params.output_dir:q}"
