"""Train heads, and fit the closed forms that they are held against and start from."""

FITTED = fitted_baselines(config["dataset"])


rule train:
    input:
        experiment=experiment_file,
        start=start_file,
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        history="results/{dataset}/{experiment}/seed{seed}/loss_history.json",
        settings="results/{dataset}/{experiment}/seed{seed}/resolved_config.yaml",
        facts="results/{dataset}/{experiment}/seed{seed}/run.json",
    log:
        "results/{dataset}/logs/train-{experiment}-seed{seed}.log",
    benchmark:
        "results/{dataset}/benchmarks/train-{experiment}-seed{seed}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: training_devices
    resources:
        mem_mb=lambda wildcards, attempt: attempt * training_mb(wildcards, training_devices(wildcards)),
        runtime=240,
        gpu=lambda wildcards: gpus(wildcards, training_devices(wildcards)),
    params:
        *code("train"),
        content=content(experiment_file, embedding_files),
        step=step("train"),
        data_dir=data_dir,
        split_dir=split_dir,
        start=start_arguments,
        output_dir=lambda wildcards, output: os.path.dirname(output.model),
        device=config["device"],
        memory=config["memory"],
        precision=config["precision"],
        changes=change_arguments,
    shell:
        "{params.step:q} --log {log:q} --experiment={input.experiment:q} --name={wildcards.experiment:q}"
        " {params.changes:q} --dataset={wildcards.dataset:q} --data-dir={params.data_dir:q}"
        " --split-dir={params.split_dir:q} {params.start:q} --output-dir={params.output_dir:q} --seed {wildcards.seed}"
        " --device {params.device} --precision {params.precision} --memory {params.memory}"


ruleorder: baselines > train


rule baselines:
    input:
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        models=[f"results/{{dataset}}/{name}/seed0/best_model.pt" for name in FITTED],
        settings=[f"results/{{dataset}}/{name}/seed0/resolved_config.yaml" for name in FITTED],
        facts=[f"results/{{dataset}}/{name}/seed0/run.json" for name in FITTED],
    log:
        "results/{dataset}/logs/baselines.log",
    benchmark:
        "results/{dataset}/benchmarks/baselines.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: (BASE_MB + closed_forms_mb(wildcards)) * attempt,
        runtime=60,
    params:
        *code("baselines"),
        content=content(embedding_files),
        step=step("baselines"),
        names=FITTED,
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=lambda wildcards, output: Path(output.models[0]).parents[2],
    shell:
        "{params.step:q} --log {log:q} --baselines {params.names} --dataset={wildcards.dataset:q}"
        " --data-dir={params.data_dir:q} --split-dir={params.split_dir:q} --output-dir={params.output_dir:q}"
