"""Trained heads and baselines as folders to use without their run."""


rule export:
    input:
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        metrics=METRICS,
        encoding=encoding_file,
        manifest="results/{dataset}/split/manifest.json",
    output:
        directory("results/{dataset}/{experiment}/seed{seed}/export"),
    log:
        "results/{dataset}/logs/export-{experiment}-seed{seed}.log",
    benchmark:
        "results/{dataset}/benchmarks/export-{experiment}-seed{seed}.tsv"
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=20,
    params:
        *code("export"),
        content=content(encoding_file),
        step=step("export"),
        encoding=record_arguments,
        split_dir=split_dir,
        output_dir=lambda wildcards, output: output[0],
    shell:
        "{params.step:q} --log {log:q} --model={input.model:q} {params.encoding:q} --split-dir={params.split_dir:q}"
        " --output-dir={params.output_dir:q}"
