"""Images and captions as a head projects them, in files that indexing tools read; on request only."""

GALLERY = "results/{dataset}/{experiment}/seed{seed}/gallery"


rule gallery:
    input:
        model="results/{dataset}/{experiment}/seed{seed}/best_model.pt",
        # They choose how hubs are corrected.
        metrics=METRICS,
        data=data_files,
        index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "test"]],
        manifest="results/{dataset}/split/manifest.json",
    output:
        record=f"{GALLERY}/gallery.json",
        penalties=f"{GALLERY}/hub_penalties.npz",
        images=f"{GALLERY}/img_emb/img_emb_0.npy",
        texts=f"{GALLERY}/text_emb/text_emb_0.npy",
        metadata=f"{GALLERY}/metadata/metadata_0.parquet",
    log:
        "results/{dataset}/logs/gallery-{experiment}-seed{seed}.log",
    benchmark:
        "results/{dataset}/benchmarks/gallery-{experiment}-seed{seed}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=gpus_nearby,
    params:
        *code("gallery"),
        content=content(data_files),
        step=step("gallery"),
        data_dir=data_dir,
        split_dir=split_dir,
        output_dir=lambda wildcards, output: os.path.dirname(output.record),
        device=config["device"],
    shell:
        "{params.step:q} --log {log:q} --model={input.model:q} --data-dir={params.data_dir:q}"
        " --split-dir={params.split_dir:q} --output-dir={params.output_dir:q} --device {params.device}"
