"""Check the embeddings and divide the images."""


rule split:
    input:
        data=data_files,
        encoding=encoding_file,
        witness=witness("results/{dataset}/split/manifest.json", "hashes", of_the_split),
        assignments=assignment_file,
    output:
        index=[f"results/{{dataset}}/split/{name}.npz" for name in SPLITS],
        manifest="results/{dataset}/split/manifest.json",
    log:
        "results/{dataset}/logs/split.log",
    benchmark:
        "results/{dataset}/benchmarks/split.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        *code("split"),
        content=content(embedding_files, assignment_file),
        pairs=pairs,
        step=step("split"),
        data_dir=data_dir,
        output_dir=lambda wildcards, output: os.path.dirname(output.manifest),
        assignments=assignment_arguments,
        division=division_arguments,
    shell:
        "{params.step:q} --log {log:q} --dataset={wildcards.dataset:q} --data-dir={params.data_dir:q}"
        " --output-dir={params.output_dir:q} {params.assignments:q} {params.division:q}"
