"""Exact retrieval metrics, examples and pictures of a head or a baseline."""


def figure(name):
    """Return a picture of an evaluation, flagged for `snakemake --report`."""
    return report(
        f"results/{{dataset}}/{{experiment}}/seed{{seed}}/evaluation_results/{name}.png",
        caption=f"../report/{name}.rst",
        category="Evaluation",
        subcategory="{experiment}",
        labels={"experiment": "{experiment}", "seed": "{seed}", "figure": name.replace("_", " ")},
    )


rule evaluate:
    input:
        code=code("evaluate"),
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        data=data_files,
        extra=extra_files,
        index="results/{dataset}/split/test.npz",
    output:
        metrics="results/{dataset}/{experiment}/seed{seed}/evaluation_results/metrics.json",
        ranks="results/{dataset}/{experiment}/seed{seed}/evaluation_results/ranks.npz",
        examples="results/{dataset}/{experiment}/seed{seed}/evaluation_results/examples.json",
        recall=figure("recall_at_k"),
        similarity=figure("similarity_histogram"),
        pca=figure("embedding_pca"),
        tsne=figure("embedding_tsne"),
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
        gpu=gpus(),
    params:
        data_dir=data_dir,
        split_dir="results/{dataset}/split",
        output_dir="results/{dataset}/{experiment}/seed{seed}/evaluation_results",
        captions_rule=lambda wildcards: config["datasets"][wildcards.dataset]["captions_rule"],
        device=config["device"],
    shell:
        "python -m workflow.scripts.evaluate --model {input.model:q} --data-dir {params.data_dir:q}"
        " --split-dir {params.split_dir:q} --output-dir {params.output_dir:q}"
        " --captions-rule {params.captions_rule} --device {params.device} > {log:q} 2>&1"
