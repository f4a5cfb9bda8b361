"""Generated scenes, encoded: a data set of the demo without Snakemake."""

from pathlib import Path

from workflow.scripts import demo_data, encode_images, encode_texts, merge_encodings

ENCODERS = Path(__file__).parents[1] / "config" / "encoders"


def write_generated_set(folder: Path, **options: int) -> Path:
    """Draw scenes into a folder, encode them there, and return the folder; options: those of demo_data."""
    demo_data.main(["--output-dir", str(folder), *(f"--{name}={value}" for name, value in options.items())])
    sources = ["--captions", str(folder / "captions.json"), "--pictures", str(folder / "images")]
    shards = folder / "shards"
    for script, encoder, kind in (
        (encode_images, "demo-pictures", "images"),
        (encode_texts, "demo-words", "texts"),
    ):
        how = ["--encoder", str(ENCODERS / f"{encoder}.yaml"), "--output-dir", str(shards / kind), "--device", "cpu"]
        script.main([*how, *sources])
    jobs = [word for kind in ("images", "texts") for word in (f"--{kind}", str(shards / kind / "1-of-1.json"))]
    merge_encodings.main([*jobs, *sources, "--output-dir", str(folder)])
    return folder
