"""Libraries that the base installation lacks, imported only by what needs one."""

import importlib
from pathlib import Path
from types import ModuleType

from frozenalign.system.errors import UserError, one_line


def imported(module: str, install: str, file: Path | None = None) -> ModuleType:
    """Import a library, or raise a UserError with the command that installs it.

    file: the file that is read or written by it, if it is for one.
    """
    try:
        return importlib.import_module(module)
    # A binary package beside another version of PyTorch raises RuntimeError or OSError.
    except (ImportError, RuntimeError, OSError) as error:
        reason = one_line(str(error).partition("\n")[0])
        what = f"{file} needs the library {module}, which" if file else f"the library {module}"
        raise UserError(f"{what} cannot be imported ({reason}): run `{install}`") from error
