"""Demo data, for data sets that the configuration asks to generate."""

if not is_asked_for(config["dataset"]):
    refuse_missing_files()

if generated():
    refuse_foreign_demo_data()
    DEMO = config["datasets"][config["dataset"]]

    rule demo_data:
        output:
            images=f"{DEMO['dir']}/train2017_image_embeddings.pt",
            texts=f"{DEMO['dir']}/train2017_text_embeddings.pt",
            metadata=f"{DEMO['dir']}/train2017_metadata.json",
            pictures=directory(f"{DEMO['dir']}/images"),
        log:
            f"results/{config['dataset']}/logs/demo_data.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/demo_data.tsv"
        localrule: True
        conda:
            "../../envs/environment.yaml"
        threads: 2
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            *code("demo_data"),
            step=step("demo_data"),
            dir=lambda wildcards, output: os.path.dirname(output.metadata),
            images=DEMO["generate"]["images"],
            captions=DEMO["generate"]["captions"],
            seed=DEMO["generate"]["seed"],
        shell:
            "{params.step:q} --log {log:q} --output-dir={params.dir:q} --images {params.images}"
            " --captions {params.captions} --seed {params.seed}"
