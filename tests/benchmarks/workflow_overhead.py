"""What Snakemake costs on nine experiments with three seeds, and on 800 heads: a dry run, a run with nothing to do."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from frozenalign.data.encoding import ENCODING
from frozenalign.data.made_files import ROW_FILES
from frozenalign.demo.made_files import CAPTIONS, DEMO
from frozenalign.encoders.places import ENCODED
from tests.benchmarks.measurement import Row, interleaved, seconds_of

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs")
CONFIGURATION = """
experiments: [linear, mlp, attention, cross_modal, siglip, clip, align, blip, quick_test]
seeds: [0, 1, 2]
"""
VARIANTS = "".join(f"    noise_{i}: {{training.noise: {i / 1000}}}\n" for i in range(71))
LARGE_CONFIGURATION = f"""
experiments: [linear, mlp, attention, cross_modal, siglip, clip, align, blip, quick_test]
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
tuning: []
variants:
  clip:
{VARIANTS}"""
QUICK_CONFIGURATION = "experiments: [quick_test]\ntuning: []\nbaselines: []\n"


def measure(quick: bool = False) -> list[Row]:
    """Time Snakemake in a copy of the project whose outputs stand there as empty files, and in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        empty, fresh, done, large = (Path(folder) / name for name in ("empty", "fresh", "done", "large"))
        empty.mkdir()
        (empty / "Snakefile").touch()
        for project in (fresh, done):
            _copy(project, QUICK_CONFIGURATION if quick else CONFIGURATION)
        _finish(done)
        _copy(large, QUICK_CONFIGURATION if quick else LARGE_CONFIGURATION)
        medians = interleaved(
            1 if quick else 5,
            empty=lambda: snakemake(empty, "-n"),
            dry_run=lambda: snakemake(fresh, "-n", "--configfile", "config/benchmark.yaml"),
            idle=lambda: snakemake(done, "--cores", "2", "--configfile", "config/benchmark.yaml"),
        )
        medians["large_dry_run"] = seconds_of(lambda: snakemake(large, "-n", "--configfile", "config/benchmark.yaml"))
        _finish(large)
        medians["large_idle"] = seconds_of(
            lambda: snakemake(large, "--cores", "2", "--configfile", "config/benchmark.yaml")
        )
    return [
        Row(case, medians[name], note=f"{medians[name] - medians['empty']:.2f} s above an empty Snakefile")
        for case, name in (
            ("dry run of everything", "dry_run"),
            ("nothing to do", "idle"),
            ("dry run of 1,600 jobs", "large_dry_run"),
            ("nothing to do of 1,600 jobs", "large_idle"),
        )
    ]


def snakemake(folder: Path, *arguments: str) -> str:
    """Run Snakemake in a folder and return what it printed; failure is an error."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if result.returncode:
        raise RuntimeError(result.stderr[-2000:])
    return result.stdout + result.stderr


def _copy(project: Path, configuration: str) -> None:
    project.mkdir()
    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, project / part)
    (project / "config" / "benchmark.yaml").write_text(configuration, encoding="utf-8")


def _finish(project: Path) -> None:
    """Make every output an empty file that Snakemake holds for its own."""
    configured = ("--cores", "1", "--configfile", "config/benchmark.yaml")
    lines = snakemake(project, "--summary", *configured).splitlines()
    DEMO.write(project / "data" / "demo", {CAPTIONS: b""}, "")
    ENCODED.write(project / "data" / "demo", dict.fromkeys((*ROW_FILES, ENCODING), b""), "")
    (project / "data" / "demo" / "images").mkdir()
    for output in (line.split("\t")[0] for line in lines if line.startswith("results/")):
        path = project / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    snakemake(project, "--touch", *configured)
    if "Nothing to be done" not in snakemake(project, *configured):
        raise RuntimeError("the prepared run is not idle")
