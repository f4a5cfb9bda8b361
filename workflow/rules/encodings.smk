"""Several encodings of one set: each pair of them is a run of this workflow, as a module; then one page compares all."""

ENCODINGS = f"results/{config['dataset']}/encodings"


rule compare_encoders:
    input:
        data=data_files,
        index="results/{dataset}/split/train.npz",
        manifest="results/{dataset}/split/manifest.json",
    output:
        similarity="results/{dataset}/encodings/encoder_similarity.json",
    log:
        "results/{dataset}/logs/compare_encoders.log",
    benchmark:
        "results/{dataset}/benchmarks/compare_encoders.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        *code("compare_encoders"),
        content=content(embedding_files),
        step=step("compare_encoders"),
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=lambda wildcards, output: os.path.dirname(output.similarity),
    shell:
        "{params.step:q} --log {log:q} --data-dir={params.data_dir:q} --split-dir={params.split_dir:q}"
        " --output-dir={params.output_dir:q}"


rule encoder_similarity:
    input:
        manifests=[f"results/{name}/split/manifest.json" for name in compared_sets()],
        similarities=[f"results/{name}/encodings/encoder_similarity.json" for name in compared_sets()],
    output:
        table=f"{ENCODINGS}/encoder_similarity.csv",
        picture=f"{ENCODINGS}/encoder_similarity.png",
    log:
        f"results/{config['dataset']}/logs/encoder_similarity.log",
    benchmark:
        f"results/{config['dataset']}/benchmarks/encoder_similarity.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        *code("encoder_similarity"),
        step=step("encoder_similarity"),
        folders=lambda wildcards, input: listed([Path(path).parents[1] for path in input.manifests]),
        output_dir=lambda wildcards, output: os.path.dirname(output.table),
    shell:
        "{params.step:q} --log {log:q} --sets {params.folders:q} --output-dir={params.output_dir:q}"


for PAIR in encoding_pairs()[1:]:
    PAIR_NAME = PAIR.dataset
    PAIR_PREFIX = f"{PAIR_NAME}_"

    module:
        name: PAIR_NAME
        snakefile:
            f"{WORKFLOW.parent}/Snakefile"
        config:
            encodings.run_of(config, PAIR)

    use rule * from PAIR_NAME as PAIR_PREFIX*


if encoding_pairs()[1:]:

    rule encodings:
        input:
            manifests=[f"results/{name}/split/manifest.json" for name in compared_sets()],
            similarities=[f"results/{name}/encodings/encoder_similarity.json" for name in compared_sets()],
            settings=compared_files("resolved_config.yaml"),
            evaluations=compared_files(EVALUATED[:3]),
        output:
            page=report(f"{ENCODINGS}/index.html", caption="../report/encodings.rst", category="Results"),
            table=report(f"{ENCODINGS}/encodings.csv", caption="../report/encodings.rst", category="Results"),
        log:
            f"results/{config['dataset']}/logs/encodings.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/encodings.tsv"
        localrule: True
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            *code("encodings"),
            step=step("encodings"),
            dataset=config["dataset"],
            folders=lambda wildcards, input: listed([Path(path).parents[1] for path in input.manifests]),
            runs=lambda wildcards, input: listed(folders_of(input.settings)),
            output_dir=lambda wildcards, output: os.path.dirname(output.page),
        shell:
            "{params.step:q} --log {log:q} --dataset-name={params.dataset:q} --sets {params.folders:q}"
            " --runs {params.runs:q} --output-dir={params.output_dir:q}"
