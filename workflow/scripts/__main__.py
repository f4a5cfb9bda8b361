"""Run a step from any folder: python PATH/workflow/scripts [--ends-with=ERROR] STEP [--log FILE] ARGUMENTS."""

import runpy
import sys
from contextlib import nullcontext
from pathlib import Path

SCRIPTS = Path(__file__).parent
ENDS_WITH = "--ends-with="
sys.path[0] = str(SCRIPTS.parents[1])

import workflow.scripts  # noqa: E402, F401  It makes the library importable.
from frozenalign.system.errors import run  # noqa: E402
from frozenalign.system.logs import in_its_log  # noqa: E402


def main() -> None:
    """Run the step that an argument names, as `python -m workflow.scripts.STEP` does in this folder.

    --log FILE: what the step says goes there; a second process with that log waits for the first.
    --ends-with: the error of an attempt before, which this one would end with.
    """
    steps = sorted(path.stem for path in SCRIPTS.glob("[!_]*.py"))
    error = sys.argv.pop(1).removeprefix(ENDS_WITH) if sys.argv[1:2] and sys.argv[1].startswith(ENDS_WITH) else None
    if len(sys.argv) < 2 or sys.argv[1] not in steps:
        sys.exit(f"error: name a step: {', '.join(steps)}")
    step, log = sys.argv.pop(1), None
    if sys.argv[1:2] == ["--log"]:
        _, log = sys.argv.pop(1), Path(sys.argv.pop(1))
    with in_its_log(log) if log else nullcontext():
        if error:
            sys.exit(error)
        runpy.run_module(f"workflow.scripts.{step}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(main)
