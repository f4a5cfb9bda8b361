"""Tuning studies. The database is no output: Snakemake would delete it, and a study must survive interruptions."""


rule tune:
    input:
        code=code("tune"),
        study=study_file,
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "train_tuning", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        best="results/{dataset}/tuning/{study}/best_config.yaml",
        trials="results/{dataset}/tuning/{study}/trials.csv",
        inputs="results/{dataset}/tuning/{study}/study.json",
        history=report(
            "results/{dataset}/tuning/{study}/optimization_history.png",
            caption="../report/optimization_history.rst",
            category="Tuning",
            labels={"study": "{study}", "figure": "trials"},
        ),
        importance=report(
            "results/{dataset}/tuning/{study}/parameter_importance.png",
            caption="../report/parameter_importance.rst",
            category="Tuning",
            labels={"study": "{study}", "figure": "parameter importance"},
        ),
    log:
        "results/{dataset}/logs/tune-{study}.log",
    benchmark:
        "results/{dataset}/benchmarks/tune-{study}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=720,
        gpu=gpus(),
    params:
        content=content("tune", study_file, embedding_files),
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=study_dir,
        device=config["device"],
        precision=config["precision"],
    shell:
        step("tune") + " --study={input.study:q} --data-dir={params.data_dir:q}"
        " --split-dir={params.split_dir:q} --output-dir={params.output_dir:q}"
        " --device {params.device} --precision {params.precision} > {log:q} 2>&1"
