"""Photographs and captions become embeddings: encoded in shards by as many jobs as asked for, and put together.

The shards are no outputs: Snakemake would delete them, and an encoding must survive interruptions.
"""

if encoding() and encodes_itself("image"):

    rule encode_images:
        input:
            encoder=encoder_file("image"),
            captions=caption_files,
            pictures=demo_pictures,
        output:
            done=f"{shards_of('image')}/{{job}}.json",
        log:
            f"results/{config['dataset']}/logs/encode_images-{{job}}.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/encode_images-{{job}}.tsv"
        conda:
            environment("image")
        threads: encoder("image").threads
        resources:
            mem_mb=lambda wildcards, attempt: int(1000 * encoder("image").memory) * attempt,
            runtime=240,
            gpu=gpus,
        params:
            *encoding_code("encode_images", "image"),
            captions=caption_content,
            columns=encoding().get("columns", {}),
            pictures=picture_content,
            on_error=encoding()["on_error"],
            content=content(encoder_file("image")),
            step=step("encode_images"),
            encoding=encoding_changes("image"),
            sources=source_arguments,
            output_dir=lambda wildcards, output: os.path.dirname(output.done),
            device=config["device"],
        shell:
            "{params.step:q} --log {log:q} --encoder={input.encoder:q} {params.encoding:q} {params.sources:q}"
            " --on-error={params.on_error:q} --job={wildcards.job:q}"
            " --device {params.device} --output-dir={params.output_dir:q}"


if encoding() and encodes_itself("text"):

    rule encode_texts:
        input:
            encoder=encoder_file("text"),
            captions=caption_files,
        output:
            done=f"{shards_of('text')}/{{job}}.json",
        log:
            f"results/{config['dataset']}/logs/encode_texts-{{job}}.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/encode_texts-{{job}}.tsv"
        conda:
            environment("text")
        threads: encoder("text").threads
        resources:
            mem_mb=lambda wildcards, attempt: int(1000 * encoder("text").memory) * attempt,
            runtime=240,
            gpu=gpus,
        params:
            *encoding_code("encode_texts", "text"),
            captions=caption_content,
            columns=encoding().get("columns", {}),
            content=content(encoder_file("text")),
            step=step("encode_texts"),
            encoding=encoding_changes("text"),
            sources=source_arguments,
            output_dir=lambda wildcards, output: os.path.dirname(output.done),
            device=config["device"],
        shell:
            "{params.step:q} --log {log:q} --encoder={input.encoder:q} {params.encoding:q} {params.sources:q} --job={wildcards.job:q}"
            " --device {params.device} --output-dir={params.output_dir:q}"


if encoding():

    rule merge_encodings:
        input:
            images=encoding_jobs("image"),
            texts=encoding_jobs("text"),
            captions=caption_files,
        output:
            rows=made_files(),
            encoding=f"{embeddings_dir(config['dataset'])}/{ENCODING}",
        log:
            f"results/{config['dataset']}/logs/merge_encodings.log",
        benchmark:
            f"results/{config['dataset']}/benchmarks/merge_encodings.tsv"
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
        params:
            *code("merge_encodings"),
            captions=caption_content,
            columns=encoding().get("columns", {}),
            step=step("merge_encodings"),
            sources=source_arguments,
            output_dir=lambda wildcards, output: os.path.dirname(output.encoding),
        shell:
            "{params.step:q} --log {log:q} --images {input.images:q} --texts {input.texts:q} {params.sources:q}"
            " --output-dir={params.output_dir:q}"
