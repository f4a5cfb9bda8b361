"""Demo pictures with their captions, for data sets that the configuration asks to generate."""

if not is_asked_for(config["dataset"]):
    refuse_missing_files()

if encoding():
    refuse_wrong_sources()
    refuse_foreign_data()

if draws():
    DEMO_SET = config["datasets"][config["dataset"]]

    rule demo_data:
        output:
            captions=DEMO_SET["encode"]["captions"],
            pictures=directory(DEMO_SET["encode"]["images"]),
        log:
            f"results/{config['dataset']}/logs/demo_data.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/demo_data.tsv"
        localrule: True
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            *code("demo_data"),
            step=step("demo_data"),
            dir=lambda wildcards, output: os.path.dirname(output.pictures),
            images=DEMO_SET["generate"]["images"],
            captions=DEMO_SET["generate"]["captions"],
            seed=DEMO_SET["generate"]["seed"],
        shell:
            "{params.step:q} --log {log:q} --output-dir={params.dir:q} --images {params.images}"
            " --captions {params.captions} --seed {params.seed}"
