"""Tuning studies. The database is no output: Snakemake would delete it, and a study must survive interruptions."""


rule tune:
    input:
        study=study_file,
        start=start_file,
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "train_tuning", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        best="results/{dataset}/tuning/{study}/best_config.yaml",
        trials="results/{dataset}/tuning/{study}/trials.csv",
        inputs="results/{dataset}/tuning/{study}/study.json",
    log:
        "results/{dataset}/logs/tune-{study}.log",
    benchmark:
        "results/{dataset}/benchmarks/tune-{study}.tsv"
    # The tuned head is trained after it: last, it would hold up the end of the run.
    priority: 1
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: (2000 + held_mb(wildcards) + 1000 * workers(wildcards)) * attempt,
        runtime=720,
        gpu=gpus(),
    params:
        *code("tune"),
        content=content(study_file, embedding_files),
        step=step("tune"),
        data_dir=data_dir,
        split_dir=split_dir,
        start=start_arguments,
        output_dir=lambda wildcards, output: os.path.dirname(output.best),
        device=config["device"],
        memory=config["memory"],
        precision=config["precision"],
    shell:
        "{params.step:q} --study={input.study:q} --data-dir={params.data_dir:q}"
        " --split-dir={params.split_dir:q} {params.start:q} --output-dir={params.output_dir:q}"
        " --device {params.device} --precision {params.precision} --memory {params.memory}"
        " > {log:q} 2>&1"
