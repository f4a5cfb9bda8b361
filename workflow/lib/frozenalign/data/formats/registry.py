"""The formats of embedding files and of metadata, by the suffix of a file's name.

A reader of rows is a function `(path, name) -> StoredRows`; `name` is the array, column or data set that the
configuration names, or None. A reader of metadata is a function `(path, limit) -> columns`, lists of one length by
name, of a file whose text has at most `limit` bytes. Neither runs anything that a file holds, and only its own call
imports a library that the base installation lacks.
"""

import importlib
from pathlib import Path
from types import ModuleType

from frozenalign.configuration.registrations import row_formats, table_formats
from frozenalign.configuration.registry import Registry
from frozenalign.system.errors import UserError

ROW_FORMATS = Registry("row format", row_formats)
register_row_format = ROW_FORMATS.register
TABLE_FORMATS = Registry("metadata format", table_formats)
register_table_format = TABLE_FORMATS.register
INSTALL = "pip install -r envs/requirements-formats.txt"


def library(module: str, path: Path) -> ModuleType:
    """Return a module of an optional library, which reads the file `path`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{path} needs the package {package}, which is not installed: run {INSTALL}") from error
