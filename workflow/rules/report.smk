"""One page about the whole run."""


rule report:
    input:
        code=code("report"),
        manifest="results/{dataset}/split/manifest.json",
        heads=head_files,
        others=other_files,
        studies=study_files,
    output:
        page=report("results/{dataset}/report/index.html", caption="../report/index.rst", category="Results"),
        table=report(
            "results/{dataset}/report/leaderboard.csv", caption="../report/leaderboard.rst", category="Results"
        ),
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
        content=content("report"),
        data_dir=data_dir,
        pictures=lambda wildcards: config["datasets"][wildcards.dataset].get("pictures", data_dir(wildcards)),
        runs=run_folders,
        studies=lambda wildcards: study_folders(wildcards.dataset),
        output_dir=lambda wildcards: f"results/{wildcards.dataset}/report",
    shell:
        step("report") + " --dataset-name={wildcards.dataset:q} --data-dir={params.data_dir:q}"
        " --pictures={params.pictures:q} --manifest={input.manifest:q} --runs {params.runs:q} --studies {params.studies:q}"
        " --output-dir={params.output_dir:q} > {log:q} 2>&1"
