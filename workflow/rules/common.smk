"""Functions that the rules share; no rule stands here."""

import os
import re
import shlex
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from snakemake.exceptions import WorkflowError

from frozenalign.system.errors import UserError
from frozenalign.system.fingerprints import content_rows, import_closure
from frozenalign.system.refusals import refuse_unwritable

WORKFLOW = Path(workflow.current_basedir).parent
SCRIPTS = WORKFLOW / "scripts"
LIBRARY = WORKFLOW / "lib"
# What is not in the user's own folder comes from the workflow's.
CONFIGURATIONS = [Path("config"), WORKFLOW.parent / "config"]
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # config.schema.yaml holds the names of a configuration to this
SPLITS = ["train", "train_tuning", "val", "test"]
READ = {
    "tune": ["schemas/experiment.schema.yaml", "schemas/tuning.schema.yaml"],
    "train": ["schemas/experiment.schema.yaml"],
    "evaluate": ["schemas/results.schema.yaml"],
    "ensemble": ["schemas/results.schema.yaml"],
    "curves": ["schemas/results.schema.yaml"],
    "figures": ["schemas/results.schema.yaml"],
    "report": [
        "schemas/results.schema.yaml",
        *(f"report/{name}" for name in ("report.html.jinja", "ablation.html.jinja", "report.css", "report.js")),
    ],
}
KNOWN_HASHES = Path(".snakemake/content_hashes.json")


def step(script):
    """Return a function that gives the words of a shell command that runs a script.

    Its Python is that of the conda environment, where there is one, else the one that runs Snakemake.
    """
    python = "python" if workflow.deployment_settings.deployment_method else sys.executable
    words = [python, str(SCRIPTS), script]
    # Snakemake does not record parameters that depend on the input: a job does not rerun because the project moved.
    return lambda wildcards, input: words


def code(script):
    """Return a parameter `name hash` for each file that decides what a script does: itself, its imports, what it reads.

    Each is a parameter of its own, so that Snakemake's reason names the one that changed.
    """
    found = import_closure(SCRIPTS / f"{script}.py", LIBRARY)
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


@contextmanager
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


def split_dir(wildcards, input):
    """Return the folder of the split among a job's inputs."""
    return os.path.dirname(input.manifest)


def gpus():
    """Return 1 where a job will take a GPU of this machine, so that two never share it, else 0; profiles ask for more."""
    there = shutil.which("nvidia-smi") is not None
    return int(config["device"] == "cuda" or (config["device"] == "auto" and there))
