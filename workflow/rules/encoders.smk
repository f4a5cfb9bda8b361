"""The encoders of the run's data set, and the pictures and captions that they read."""

import functools
import json

from frozenalign.configuration.encodings import Encoding
from frozenalign.data.folder_content import folder_hash
from frozenalign.data.picture_files import SUFFIXES
from frozenalign.demo.made_files import DEMO, PICTURES
from frozenalign.encoders.choice import checked_encoder
from frozenalign.encoders.code import other_encoders
from frozenalign.encoders.places import ENCODED, ENCODING
from frozenalign.system.fingerprints import SHOWN_DIGITS

# Encoders of these need nothing beyond the base installation.
BASE_LIBRARIES = {"demo"}
KNOWN_FOLDERS = Path(".snakemake/folders")
PICTURE_SUFFIXES = (*(f".{suffix}" for suffix in SUFFIXES), ".tar")
CAPTION_SUFFIXES = (".txt", ".tar")


def encoding():
    """Return the `encode` section of the run's data set, or none."""
    return config["datasets"][config["dataset"]].get("encode")


def pair_side(modality):
    """Return the encoding of a modality, image or text, in a run of one pair of encodings, or none."""
    return config["pair"] and Encoding(**config["pair"][f"{modality}s"])


def encodes_itself(modality):
    """Return whether the run encodes a modality, which one run does for all pairs that share it."""
    return not config["pair"] or config["pair"]["encodes"][f"{modality}s"]


def draws():
    """Return whether the run draws the demo's pictures, which its pairs share."""
    return generated() and not config["pair"]


@functools.cache
def opened(modality):
    """Return the file and the settings of the run's encoder of a modality, image or text."""
    side = pair_side(modality)
    with told_by_snakemake():
        if side:
            return checked_encoder(side.encoder, modality, CONFIGURATIONS, side.changes, side.name)
        return checked_encoder(encoding()[f"{modality}_encoder"], modality, CONFIGURATIONS)


def encoder(modality):
    """Return the settings of the run's encoder of a modality."""
    return opened(modality)[1]


def environment(modality):
    """Return the conda environment that holds the library of the run's encoder of a modality."""
    return f"../../envs/{'environment' if encoder(modality).library in BASE_LIBRARIES else 'encode'}.yaml"


def encoder_file(modality):
    """Return a function of the wildcards that gives the file of the run's encoder of a modality."""
    return lambda wildcards: local(str(opened(modality)[0]))


def encoding_changes(modality):
    """Return the command-line arguments for an encoding that changes keys of its encoder, or none."""
    side = pair_side(modality)
    return [f"--encoding={side.name}", f"--changes={json.dumps(side.changes)}"] if side and not side.own else []


def shards_of(modality):
    """Return the folder of the rows of a modality, which all pairs that share the encoding read."""
    side = pair_side(modality)
    of = config["pair"]["of"] if side else config["dataset"]
    return f"results/{of}/encode/{modality}s{f'-{side.name}' if side and not side.own else ''}"


def caption_files(wildcards):
    """Return the files of the captions, or folders that hold them, as rules take them."""
    paths = encoding()["captions"]
    if generated():
        return paths
    return [given(config["dataset"], path, f"captions-{i}-{Path(path).name}") for i, path in enumerate(paths)]


def source_arguments(wildcards, input):
    """Return the command-line arguments that name the captions and the pictures."""
    columns = encoding().get("columns")
    paths = [given_path(path) for path in ([input.captions] if isinstance(input.captions, str) else input.captions)]
    # A workflow that uses this one as a module may put drawn files elsewhere.
    pictures = paths[0].parent / PICTURES if generated() else encoding()["images"]
    named = ["--columns", json.dumps(columns)] if columns else []
    return ["--captions", *paths, *named, f"--pictures={pictures}"]


def caption_content(wildcards):
    """Return `name hash` of the files and folders of captions that are a user's."""
    rows = []
    for path in [] if generated() else encoding()["captions"]:
        rows += (
            [folder_row(path, CAPTION_SUFFIXES)] if os.path.isdir(path) else content_rows([path], known=KNOWN_HASHES)
        )
    return rows


def picture_content(wildcards):
    """Return `name hash` of the folder of pictures, if they are a user's."""
    return [] if generated() else [folder_row(encoding()["images"], PICTURE_SUFFIXES)]


@functools.cache
def folder_row(folder, suffixes):
    """Return `name hash` of a folder of a user's files, which are read once, and again when they are touched."""
    of = config["pair"]["of"] if config["pair"] else config["dataset"]
    known = KNOWN_FOLDERS / of / text_hash(folder)[:SHOWN_DIGITS]
    return f"{Path(folder).name} {folder_hash(Path(folder), suffixes, known)[:SHOWN_DIGITS]}"


def encoding_code(script, modality):
    """Return a parameter for each file that decides what a script does; of the encoders only the run's counts."""
    return code(script, other_encoders(encoder(modality).library))


def encoding_jobs(modality):
    """Return the files that the jobs of an encoding end with."""
    jobs = encoding()["jobs"]
    return [f"{shards_of(modality)}/{number}-of-{jobs}.json" for number in range(1, jobs + 1)]


def encoding_file(wildcards):
    """Return encoding.json beside the embeddings of a data set, made by a rule or a user's, or none."""
    path = f"{embeddings_dir(wildcards.dataset)}/{ENCODING}"
    if encoding() and wildcards.dataset == config["dataset"]:
        return path
    return given(wildcards.dataset, path) if os.path.isfile(path) else []


def record_arguments(wildcards, input):
    """Return the command-line argument that names the folder of encoding.json, or none."""
    return [f"--data-dir={given_path(input.encoding).parent}"] if input.get("encoding") else []


def refuse_wrong_sources():
    """Stop if pictures or captions are missing, or an encoder is not one of their kind."""
    for modality in ("image", "text"):
        opened(modality)
    if generated():
        return
    key = f"datasets.{config['dataset']}.encode"
    with told_by_snakemake():
        for path in encoding()["captions"]:
            if not os.path.isdir(path):
                file_size(path, f"check `{key}.captions`, or put the file there")
        if not os.path.isdir(encoding()["images"]):
            raise UserError(f"{encoding()['images']} is no folder: check `{key}.images`, or put the pictures there")


def refuse_foreign_data():
    """Stop before Snakemake deletes a user's files, which it takes for outputs of a rule."""
    name, folder = config["dataset"], embeddings_dir(config["dataset"])
    remedy = f"give the data set another name than {name}, or set `generate: null` for it"
    demo = f"{remedy}; where they are demo data of an earlier version, delete the folder"
    with told_by_snakemake():
        if draws():
            DEMO.refuse_foreign(folder, demo, KNOWN_HASHES)
            ENCODED.refuse_foreign(folder, demo, KNOWN_HASHES)
        else:
            remedy = f"move them away, set another `dir`, or set `encode: null` for the data set {name}"
            ENCODED.refuse_foreign(folder, remedy, KNOWN_HASHES)
