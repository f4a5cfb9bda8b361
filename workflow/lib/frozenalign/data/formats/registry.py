"""The formats of embedding files and of metadata, by the suffix of a file's name.

A reader of rows is a function `(path, name) -> StoredRows`; `name` is the array, column or data set that the
configuration names, or None. A reader of metadata is a function `(path, limit) -> columns`, lists of one length by
name, of a file whose text has at most `limit` bytes. Neither runs anything that a file holds, and only its own call
imports a library that the base installation lacks.
"""

from frozenalign.configuration.registrations import row_formats, table_formats
from frozenalign.configuration.registry import Registry

ROW_FORMATS = Registry("row format", row_formats)
register_row_format = ROW_FORMATS.register
TABLE_FORMATS = Registry("metadata format", table_formats)
register_table_format = TABLE_FORMATS.register
INSTALL = "pip install -r envs/requirements-formats.txt"
