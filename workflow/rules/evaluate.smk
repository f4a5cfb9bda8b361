"""Exact retrieval metrics and examples of a head, a baseline or an ensemble."""

METRICS = "results/{dataset}/{experiment}/seed{seed}/evaluation_results/metrics.json"
EVALUATION = "results/{dataset}/{experiment}/seed{seed}/evaluation_results"
PARTS = config["evaluation"]["parts"]
DIVISION = [f"{part}-of-{PARTS}" for part in range(1, PARTS + 1)] if PARTS > 1 else []
COUNTS = [f"results/{{dataset}}/{{experiment}}/seed{{seed}}/evaluation_parts/{part}/counts.npz" for part in DIVISION]


rule evaluate:
    input:
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        data=data_files,
        extra=extra_files,
        parts=COUNTS,
        witness=witness(METRICS, "inputs", of_an_evaluation),
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val", "test"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        metrics=METRICS,
        ranks=f"{EVALUATION}/ranks.npz",
        samples=f"{EVALUATION}/samples.npz",
        examples=f"{EVALUATION}/examples.json",
        worst_queries=f"{EVALUATION}/worst_queries.json",
    log:
        "results/{dataset}/logs/evaluate-{experiment}-seed{seed}.log",
    benchmark:
        "results/{dataset}/benchmarks/evaluate-{experiment}-seed{seed}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=gpus_nearby,
    params:
        *code("evaluate"),
        content=content(data_files, extra_files),
        step=step("evaluate"),
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=lambda wildcards, output: os.path.dirname(output.metrics),
        captions_rule=lambda wildcards: config["datasets"][wildcards.dataset]["captions_rule"],
        device=config["device"],
        parts=part_arguments,
    shell:
        "{params.step:q} --log {log:q} --model={input.model:q} --data-dir={params.data_dir:q}"
        " --split-dir={params.split_dir:q} --output-dir={params.output_dir:q} {params.parts:q}"
        " --captions-rule {params.captions_rule} --device {params.device}"


if DIVISION:

    rule evaluate_part:
        input:
            models=evaluated_models,
            data=data_files,
            extra=extra_files,
            index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val", "test"]],
            manifest="results/{dataset}/split/manifest.json",
        output:
            counts=temp("results/{dataset}/{experiment}/seed{seed}/evaluation_parts/{part}-of-{parts}/counts.npz"),
        log:
            "results/{dataset}/logs/evaluate_part-{experiment}-seed{seed}-{part}-of-{parts}.log",
        benchmark:
            "results/{dataset}/benchmarks/evaluate_part-{experiment}-seed{seed}-{part}-of-{parts}.tsv"
        wildcard_constraints:
            part=r"\d+",
            parts=str(PARTS),
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
            gpu=gpus_nearby,
        params:
            *code("evaluate_part"),
            content=content(data_files, extra_files),
            step=step("evaluate_part"),
            models=model_arguments,
            data_dir=data_dir,
            split_dir=split_dir,
            output_dir=lambda wildcards, output: os.path.dirname(output.counts),
            captions_rule=lambda wildcards: config["datasets"][wildcards.dataset]["captions_rule"],
            device=config["device"],
        shell:
            "{params.step:q} --log {log:q} {params.models:q} --data-dir={params.data_dir:q} --split-dir={params.split_dir:q}"
            " --output-dir={params.output_dir:q} --captions-rule {params.captions_rule}"
            " --part={wildcards.part:q} --of={wildcards.parts:q} --device {params.device}"


if config["ensembles"]:

    ruleorder: ensemble > evaluate
    ruleorder: ensemble > train

    rule ensemble:
        input:
            models=member_files("best_model.pt"),
            facts=member_files("run.json"),
            data=data_files,
            extra=extra_files,
            parts=COUNTS,
            witness=witness(METRICS, "inputs", of_an_evaluation),
            index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val", "test"]],
            manifest="results/{dataset}/split/manifest.json",
        output:
            settings="results/{dataset}/{experiment}/seed{seed}/resolved_config.yaml",
            facts="results/{dataset}/{experiment}/seed{seed}/run.json",
            metrics=METRICS,
            ranks=f"{EVALUATION}/ranks.npz",
            samples=f"{EVALUATION}/samples.npz",
            examples=f"{EVALUATION}/examples.json",
            worst_queries=f"{EVALUATION}/worst_queries.json",
        log:
            "results/{dataset}/logs/ensemble-{experiment}-seed{seed}.log",
        benchmark:
            "results/{dataset}/benchmarks/ensemble-{experiment}-seed{seed}.tsv"
        wildcard_constraints:
            experiment="|".join(map(re.escape, config["ensembles"])),
            seed="0",
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=60,
            gpu=gpus_nearby,
        params:
            *code("ensemble"),
            content=content(data_files, extra_files),
            step=step("ensemble"),
            models=lambda wildcards, input: listed(input.models),
            data_dir=data_dir,
            split_dir=split_dir,
            output_dir=lambda wildcards, output: os.path.dirname(output.settings),
            captions_rule=lambda wildcards: config["datasets"][wildcards.dataset]["captions_rule"],
            device=config["device"],
            parts=part_arguments,
        shell:
            "{params.step:q} --log {log:q} --name={wildcards.experiment:q} --models {params.models:q}"
            " --dataset={wildcards.dataset:q} --data-dir={params.data_dir:q} --split-dir={params.split_dir:q}"
            " --output-dir={params.output_dir:q} {params.parts:q} --captions-rule {params.captions_rule}"
            " --device {params.device}"
