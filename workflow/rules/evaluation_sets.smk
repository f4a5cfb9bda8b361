"""Further evaluation sets: pictures and texts encoded as those of the data set were, and every model evaluated on them."""

SETS = config["evaluation_sets"]
SET_FOLDER = f"results/{config['dataset']}/evaluation_sets"

if SETS:
    refuse_missing_sets()


if encoded_sets():

    rule encode_evaluation_set:
        input:
            image_encoder=encoder_file("image"),
            text_encoder=encoder_file("text"),
            file=set_source,
        output:
            encoding=f"{SET_FOLDER}/{{set}}/{ENCODING}",
        log:
            f"results/{config['dataset']}/logs/encode_evaluation_set-{{set}}.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/encode_evaluation_set-{{set}}.tsv"
        wildcard_constraints:
            set="|".join(map(re.escape, encoded_sets())),
        conda:
            set_environment()
        threads: max(encoder(modality).threads for modality in ("image", "text"))
        resources:
            mem_mb=lambda wildcards, attempt: int(1000 * sum(encoder(each).memory for each in ("image", "text")))
            * attempt,
            runtime=240,
            gpu=gpus,
        params:
            *set_encoding_code(),
            content=content(encoder_file("image"), encoder_file("text"), lambda wildcards: SETS[wildcards.set]["file"]),
            pictures=lambda wildcards: [folder_row(SETS[wildcards.set]["pictures"], PICTURE_SUFFIXES)],
            step=step("encode_evaluation_set"),
            kind=lambda wildcards: SETS[wildcards.set]["kind"],
            folder=lambda wildcards: SETS[wildcards.set]["pictures"],
            file=lambda wildcards, input: given_path(input.file),
            output_dir=lambda wildcards, output: os.path.dirname(output.encoding),
            device=config["device"],
        shell:
            "{params.step:q} --log {log:q} --kind={params.kind:q} --file={params.file:q} --pictures={params.folder:q}"
            " --image-encoder={input.image_encoder:q} --text-encoder={input.text_encoder:q}"
            " --device {params.device} --output-dir={params.output_dir:q}"


if SETS:

    rule evaluate_sets:
        input:
            models=evaluated_models,
            encoded=[f"{SET_FOLDER}/{name}/{ENCODING}" for name in encoded_sets()],
            files=set_files_given,
            data=data_files,
            index=[f"results/{{dataset}}/split/{name}.npz" for name in ["train", "val", "test"]],
            manifest="results/{dataset}/split/manifest.json",
        output:
            sets=f"results/{{dataset}}/{{experiment}}/seed{{seed}}/{SETS_FILE}",
        log:
            "results/{dataset}/logs/evaluate_sets-{experiment}-seed{seed}.log",
        benchmark:
            "results/{dataset}/benchmarks/evaluate_sets-{experiment}-seed{seed}.tsv"
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
            gpu=gpus_nearby,
        params:
            *code("evaluate_sets"),
            content=content(data_files, users_set_files),
            step=step("evaluate_sets"),
            models=model_arguments,
            data_dir=data_dir,
            split_dir=split_dir,
            output_dir=lambda wildcards, output: os.path.dirname(output.sets),
            captions_rule=lambda wildcards: config["datasets"][wildcards.dataset]["captions_rule"],
            device=config["device"],
            asked=json.dumps(SETS),
            sets=asked_sets,
        shell:
            "{params.step:q} --log {log:q} {params.models:q} --data-dir={params.data_dir:q} --split-dir={params.split_dir:q}"
            " --output-dir={params.output_dir:q} --captions-rule {params.captions_rule} --sets={params.sets:q}"
            " --device {params.device}"
