"""Train heads, and fit the closed-form baselines that they are held against."""


ruleorder: baseline > train


rule train:
    input:
        code=code("train"),
        experiment=experiment_file,
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        history="results/{dataset}/{experiment}/seed{seed}/loss_history.json",
        settings="results/{dataset}/{experiment}/seed{seed}/resolved_config.yaml",
        facts="results/{dataset}/{experiment}/seed{seed}/run.json",
        curves=report(
            "results/{dataset}/{experiment}/seed{seed}/training_curves.png",
            caption="../report/training_curves.rst",
            category="Training",
            labels={"experiment": "{experiment}", "seed": "{seed}"},
        ),
    log:
        "results/{dataset}/logs/train-{experiment}-seed{seed}.log",
    benchmark:
        "results/{dataset}/benchmarks/train-{experiment}-seed{seed}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
        gpu=gpus(),
    params:
        content=content("train", experiment_file, embedding_files),
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=run_dir,
        device=config["device"],
        precision=config["precision"],
        changes=change_arguments,
    shell:
        step("train") + " --experiment={input.experiment:q} --name={wildcards.experiment:q}"
        " {params.changes:q}"
        " --dataset={wildcards.dataset:q} --data-dir={params.data_dir:q} --split-dir={params.split_dir:q}"
        " --output-dir={params.output_dir:q} --seed {wildcards.seed}"
        " --device {params.device} --precision {params.precision} > {log:q} 2>&1"


rule baseline:
    input:
        code=code("baseline"),
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        settings="results/{dataset}/{experiment}/seed{seed}/resolved_config.yaml",
        facts="results/{dataset}/{experiment}/seed{seed}/run.json",
    log:
        "results/{dataset}/logs/baseline-{experiment}-seed{seed}.log",
    benchmark:
        "results/{dataset}/benchmarks/baseline-{experiment}-seed{seed}.tsv"
    wildcard_constraints:
        experiment="|".join(baselines()),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        content=content("baseline", embedding_files),
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=run_dir,
    shell:
        step("baseline") + " --baseline={wildcards.experiment:q} --dataset={wildcards.dataset:q}"
        " --data-dir={params.data_dir:q} --split-dir={params.split_dir:q} --output-dir={params.output_dir:q}"
        " --seed {wildcards.seed} > {log:q} 2>&1"
