"""Write the reference of every configuration key, config/README.md, from the schemas and the registered classes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.reference import configuration_reference
from frozenalign.system.errors import run
from frozenalign.system.files import write_text


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.configuration_reference", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("config/README.md"), help="file to write (config/README.md)"
    )
    path = parser.parse_args(argv).output
    write_text(path, configuration_reference())
    print(f"written to {path}")


if __name__ == "__main__":
    run(main)
