"""Run a step from any folder: python PATH/workflow/scripts STEP ARGUMENTS."""

import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def main() -> None:
    """Run the step that the first argument names, as `python -m workflow.scripts.STEP` does in this folder."""
    steps = sorted(path.stem for path in SCRIPTS.glob("[!_]*.py"))
    if len(sys.argv) < 2 or sys.argv[1] not in steps:
        sys.exit(f"error: name a step: {', '.join(steps)}")
    sys.path[0] = str(SCRIPTS.parents[1])
    runpy.run_module(f"workflow.scripts.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
