"""A logger plugin of Snakemake: a line as a job starts and one as it ends. Its profile key is `logger: [frozenalign]`."""

from snakemake_logger_plugin_frozenalign.handler import LogHandler

__all__ = ["LogHandler"]
