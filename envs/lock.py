"""Write the hashes of every pinned package into the requirement files: `make lock`, after editing a version there.

uv finds the files of every platform. What only some platforms need goes into constraints.txt, where pip takes it only
if a package asks for it: a CPU build of PyTorch asks for none of the CUDA libraries that the public index's one needs.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).parent
FILES = (
    *("requirements-pip.txt", "requirements.txt", "requirements-formats.txt", "requirements-export.txt"),
    *("requirements-explore.txt", "requirements-dev.txt", "requirements-search.txt", "requirements-cluster.txt"),
    *("requirements-encode.txt", "requirements-photos.txt", "requirements-benchmarks.txt"),
)
CONSTRAINTS = "constraints.txt"
OLDEST_PYTHON = "3.11"
OPTIONS = (
    *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-config", "--no-python-downloads"),
    *("--quiet", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
)
CPU_BUILDS = "constraints-cpu.txt"


def main() -> None:
    """Rewrite the requirement files and the constraints; the comments at their beginning stay."""
    found = {name: locked(ENVS / name) for name in FILES}
    dependent = {key: entry for entries in found.values() for key, entry in entries.items() if ";" in key}
    write(ENVS / CONSTRAINTS, dependent)
    written = set(dependent)
    for name, entries in found.items():
        write(ENVS / name, {key: entry for key, entry in entries.items() if key not in written})
        written |= set(entries)


def locked(path: Path) -> dict[str, str]:
    """Return what the pins of a file and of the files it includes come to: `name==version ; marker` and its hashes."""
    with tempfile.TemporaryDirectory() as folder:
        pins, output = Path(folder, "pins.in"), Path(folder, "locked.txt")
        pins.write_text("\n".join(pinned(path)), encoding="utf-8")
        # uv keeps the versions that it finds in its output, as long as they fit.
        shutil.copy(ENVS / CONSTRAINTS, output)
        if subprocess.run(["uv", "pip", "compile", *OPTIONS, pins, "--output-file", output]).returncode:
            sys.exit(f"error: uv could not resolve {path}: see above")
        locked_text = output.read_text(encoding="utf-8").strip()
    entries = re.split(r"\n(?=\S)", locked_text)
    return {entry.partition(" \\\n")[0]: with_cpu_builds(entry) for entry in entries}


def pinned(path: Path) -> list[str]:
    """Return the pins of a requirement file and of the requirement files it includes or is held to."""
    lines = path.read_text(encoding="utf-8").splitlines()
    included = [line[len("-r ") :] for line in lines if line.startswith(("-r ", "-c requirements"))]
    own = [line.rstrip(" \\") for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return [*own, *(pin for name in included for pin in pinned(path.parent / name))]


def with_cpu_builds(entry: str) -> str:
    """Return an entry with the hashes of its CPU builds, which the public index does not list."""
    pin = entry.partition(" ")[0]
    builds = re.compile(rf"^{re.escape(pin)}\+cpu((?: \\\n    --hash=\S+)+)", re.MULTILINE)
    return entry + "".join(builds.findall((ENVS / CPU_BUILDS).read_text(encoding="utf-8")))


def write(path: Path, entries: dict[str, str]) -> None:
    """Write entries below the comments and the included files that a file begins with."""
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(("#", "-r ", "-c "))]
    path.write_text("\n".join([*kept, *(entries[key] for key in sorted(entries))]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
