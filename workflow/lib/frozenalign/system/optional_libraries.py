"""The libraries that encoders are from, imported only by the encoder that needs one."""

import importlib
from types import ModuleType

from frozenalign.system.errors import UserError, one_line

INSTALL = "pip install -r envs/requirements-encode.txt"


def imported(module: str, install: str = INSTALL) -> ModuleType:
    """Import a library, or raise a UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    # A binary package beside another version of PyTorch raises RuntimeError or OSError.
    except (ImportError, RuntimeError, OSError) as error:
        reason = one_line(str(error).partition("\n")[0])
        raise UserError(f"the library {module} cannot be imported ({reason}): run `{install}`") from error
