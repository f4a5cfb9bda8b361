"""Functions that the rules share; no rule stands here."""

import contextlib
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from frozenalign.system.accelerators import accelerator_count
from frozenalign.system.errors import UserError
from frozenalign.system.files import text_hash, write_text
from frozenalign.system.fingerprints import content_rows, import_closure
from frozenalign.system.refusals import refuse_unwritable

WORKFLOW = Path(workflow.current_basedir).parent
SCRIPTS = WORKFLOW / "scripts"
LIBRARY = WORKFLOW / "lib"
# What is not in the user's own folder comes from the workflow's.
CONFIGURATIONS = [Path("config"), WORKFLOW.parent / "config"]
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # config.schema.yaml holds the names of a configuration to this
SPLITS = ["train", "train_tuning", "val", "test"]
STUDY_SCHEMAS = ["schemas/experiment.schema.yaml", "schemas/tuning.schema.yaml"]
READ = {
    "encode_images": ["schemas/encoder.schema.yaml"],
    "encode_texts": ["schemas/encoder.schema.yaml"],
    "tune_init": STUDY_SCHEMAS,
    "tune_worker": STUDY_SCHEMAS,
    "tune_best": STUDY_SCHEMAS,
    "train": ["schemas/experiment.schema.yaml"],
    "evaluate": ["schemas/results.schema.yaml"],
    "evaluate_part": ["schemas/results.schema.yaml"],
    "evaluate_sets": ["schemas/results.schema.yaml"],
    "encode_evaluation_set": ["schemas/encoder.schema.yaml"],
    "ensemble": ["schemas/results.schema.yaml"],
    "gallery": ["schemas/results.schema.yaml"],
    "curves": ["schemas/results.schema.yaml"],
    "figures": ["schemas/results.schema.yaml"],
    "export": ["schemas/results.schema.yaml", "report/model_card.md.jinja"],
    "compare_encoders": ["schemas/results.schema.yaml"],
    "encoder_similarity": ["schemas/results.schema.yaml"],
    "encodings": [
        "schemas/results.schema.yaml",
        *(f"report/{name}" for name in ("encodings.html.jinja", "macros.html.jinja", "encodings.css", "sorting.js")),
    ],
    "report": [
        "schemas/results.schema.yaml",
        *(f"report/{name}.html.jinja" for name in ("report", "headline", "macros")),
        *(f"report/{name}" for name in ("report.css", "report.js", "sorting.js")),
        *sorted(path.relative_to(WORKFLOW) for path in (WORKFLOW / "report" / "sections").glob("*.jinja")),
    ],
}
# A lock held by another, a full disk, a lack of memory: their sentences say so.
MENDED_BY_ANOTHER_ATTEMPT = r"memory|run the same command again"
KNOWN_HASHES = Path(".snakemake/content_hashes.json")
LISTS = Path(".snakemake/arguments")
# Of a process that trains, beside rows and weights: PyTorch, a batch, tiles, the validation pairs.
BASE_MB = 2000


def step(script):
    """Return a function that gives the words of a shell command that runs a script.

    Its Python is that of the conda environment or container, where there is one, else the one that runs Snakemake.
    """
    python = "python" if workflow.deployment_settings.deployment_method else sys.executable
    words = [python, str(SCRIPTS)]

    # Snakemake does not record parameters that depend on the input: a job does not rerun because the project moved.
    def command(wildcards, input):
        said = mistake(script, wildcards)
        return [*words, *([f"--ends-with={said}"] if said else []), script]

    return command


def mistake(name, wildcards):
    """Return the error that ended the rule's previous attempt, if another attempt would end the same way.

    A training that diverged would diverge again, after hours; what kills a job leaves no error.
    """
    if workflow.attempt == 1:
        return ""
    # Rules of a pair of encodings have its name before theirs.
    own = f"{config['dataset']}_{name}" if config["pair"] else name
    if not workflow.is_rule(own):
        return ""
    lines = [line for log in map(Path, workflow.get_rule(own).expand_log(wildcards)) for line in last_lines(log)]
    errors = [line for line in lines if line.startswith("error: ")]
    return next((error for error in errors if not re.search(MENDED_BY_ANOTHER_ATTEMPT, error)), "")


def last_lines(path):
    """Return the last ten lines of a log, or none where there is no log."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-10:] if path.is_file() else []


def code(script, without=()):
    """Return a parameter `name hash` for each file that decides what a script does: itself, its imports, what it reads.

    Each is a parameter of its own, so that Snakemake's reason names the one that changed. without: modules left out.
    """
    found = import_closure(SCRIPTS / f"{script}.py", LIBRARY, without)
    return content_rows([*found, *(WORKFLOW / name for name in READ.get(script, []))], WORKFLOW)


def content(*sources):
    """Return a function that gives `name hash` of a user's files.

    A source is a function of the wildcards that returns a path or a list; what rules make is left out.
    """

    def rows(wildcards):
        found = [source(wildcards) for source in sources]
        paths = [path for paths in found for path in ([paths] if isinstance(paths, str) else paths)]
        return content_rows([path for path in paths if not is_made(path)], known=KNOWN_HASHES)

    return rows


@contextlib.contextmanager
def told_by_snakemake():
    """Let Snakemake show a UserError as its own, in one sentence."""
    try:
        yield
    except UserError as error:
        raise WorkflowError(str(error)) from None


def refuse_unwritable_results():
    """Stop if no file can be written to the results folder."""
    with told_by_snakemake():
        refuse_unwritable("results")


def listed(arguments):
    """Return `@FILE` for a file that holds arguments of a script, one a line: a shell command has 128 KiB at most.

    To be called for parameters that depend on the input: the process that starts the job writes the file, the paths in it
    are those of the job, and nothing reruns because of it. It is named after its content, so that no other Snakemake in
    this folder, with another configuration, changes it.
    """
    text = "".join(f"{argument}\n" for argument in arguments)
    path = LISTS / f"{text_hash(text)}.txt"
    # A dry run may not be allowed to write.
    with contextlib.suppress(UserError):
        if not path.exists():
            write_text(path, text)
    return f"@{path}"


def takes_an_image():
    """Return whether steps run in a container: --sdm apptainer."""
    return DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method


def image():
    """Return the container image, without which Snakemake would run the steps on the host in silence."""
    path = WORKFLOW.parent / "envs" / "frozenalign.sif"
    if not path.is_file():
        raise WorkflowError(f"--sdm apptainer needs {path}, which is not there: build it with make image")
    return str(path)


def split_dir(wildcards, input):
    """Return the folder of the split among a job's inputs."""
    return os.path.dirname(input.manifest)


def gpus(wildcards, processes=1):
    """Return how many GPUs a job takes, at most one a process: of this machine, or of a cluster.

    A job that names its GPU takes all of a machine, so that no two jobs share that one. Profiles lower the number to 0
    for a cluster without GPUs, which Snakemake within a job does not know.
    """
    if config["device"] == "cpu":
        return 0
    if workflow.remote_exec:
        return int("SLURM_GPUS" in os.environ)
    if workflow.non_local_exec:
        return processes
    there = max(accelerator_count(), int(config["device"] != "auto"))
    return there if ":" in config["device"] else min(processes, there)


def gpus_nearby(wildcards):
    """Return 1 if a short job takes a GPU; on a cluster it would wait for one longer than it computes without."""
    return gpus(wildcards) if config["device"] != "auto" or workflow.local_exec else 0
