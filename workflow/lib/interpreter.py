"""Which Python the rules' commands run."""

import os
import sys
from pathlib import Path


def put_first(root: Path) -> None:
    """Let `python` in a child process be this interpreter, and let it find the packages of `root` from any folder."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
