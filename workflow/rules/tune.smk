"""Tuning studies: made, run by as many jobs as the study has workers, and summed up.

Where the trials are kept is no output: Snakemake would delete it, and a study must survive interruptions.
"""


rule tune_init:
    input:
        study=study_file,
        manifest="results/{dataset}/split/manifest.json",
    output:
        begun="results/{dataset}/tuning/{study}/begun.json",
    log:
        "results/{dataset}/logs/tune_init-{study}.log",
    benchmark:
        "results/{dataset}/benchmarks/tune_init-{study}.tsv"
    priority: 1
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        *code("tune_init"),
        content=content(study_file),
        step=step("tune_init"),
        split_dir=split_dir,
        output_dir=lambda wildcards, output: os.path.dirname(output.begun),
    shell:
        "{params.step:q} --log {log:q} --study={input.study:q} --dataset={wildcards.dataset:q}"
        " --split-dir={params.split_dir:q} --output-dir={params.output_dir:q}"


rule tune_worker:
    input:
        study=study_file,
        begun="results/{dataset}/tuning/{study}/begun.json",
        start=start_file,
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "train_tuning", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        trials="results/{dataset}/tuning/{study}/workers/{worker}.json",
    log:
        "results/{dataset}/logs/tune_worker-{study}-{worker}.log",
    benchmark:
        "results/{dataset}/benchmarks/tune_worker-{study}-{worker}.tsv"
    # The tuned head is trained after it: last, it would hold up the end of the run.
    priority: 1
    conda:
        "../../envs/environment.yaml"
    threads: worker_threads
    resources:
        mem_mb=lambda wildcards, attempt: (
            (held_mb(wildcards) + processes(wildcards) * (BASE_MB + weights_mb(wildcards))) * attempt
        ),
        runtime=720,
        # On a cluster, processes of one job share a GPU: further workers get further ones.
        gpu=lambda wildcards: gpus(wildcards, processes(wildcards) if workflow.local_exec else 1),
    params:
        *code("tune_worker"),
        content=content(study_file, embedding_files),
        step=step("tune_worker"),
        worker=lambda wildcards: wildcards.worker.partition("-")[0],
        data_dir=data_dir,
        split_dir=split_dir,
        start=start_arguments,
        output_dir=lambda wildcards, output: Path(output.trials).parents[1],
        device=config["device"],
        memory=config["memory"],
        precision=config["precision"],
    shell:
        "{params.step:q} --log {log:q} --study={input.study:q} --dataset={wildcards.dataset:q}"
        " --worker={params.worker:q} --data-dir={params.data_dir:q} --split-dir={params.split_dir:q} {params.start:q}"
        " --output-dir={params.output_dir:q} --device {params.device} --precision {params.precision}"
        " --memory {params.memory}"


rule tune_best:
    input:
        study=study_file,
        trials=worker_files,
        manifest="results/{dataset}/split/manifest.json",
    output:
        best="results/{dataset}/tuning/{study}/best_config.yaml",
        trials="results/{dataset}/tuning/{study}/trials.csv",
        inputs="results/{dataset}/tuning/{study}/study.json",
    log:
        "results/{dataset}/logs/tune_best-{study}.log",
    benchmark:
        "results/{dataset}/benchmarks/tune_best-{study}.tsv"
    priority: 1
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        *code("tune_best"),
        content=content(study_file),
        step=step("tune_best"),
        split_dir=split_dir,
        output_dir=lambda wildcards, output: os.path.dirname(output.best),
    shell:
        "{params.step:q} --log {log:q} --study={input.study:q} --dataset={wildcards.dataset:q}"
        " --split-dir={params.split_dir:q} --output-dir={params.output_dir:q}"
