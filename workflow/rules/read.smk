"""Embeddings that are not in the default form, brought into it."""

if sources_to_read(config["dataset"]):
    refuse_foreign_read()
    READ_RECORD = "results/{dataset}/embeddings/read_embeddings.json"

    rule read_embeddings:
        input:
            sources=source_files,
            witness=witness(READ_RECORD, "sources", lambda dataset, name: True, present_sources),
        output:
            embeddings=[f"results/{{dataset}}/embeddings/{os.path.basename(path)}" for path in made_files()],
            record=READ_RECORD,
        log:
            "results/{dataset}/logs/read_embeddings.log",
        benchmark:
            "results/{dataset}/benchmarks/read_embeddings.tsv"
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=60,
        params:
            *code("read_embeddings"),
            content=source_content,
            step=step("read_embeddings"),
            sources=read_arguments,
            output_dir=lambda wildcards, output: os.path.dirname(output.record),
        shell:
            "{params.step:q} --log {log:q} {params.sources:q} --output-dir={params.output_dir:q}"
