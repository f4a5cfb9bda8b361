"""A logger plugin of Snakemake, `logger: [frozenalign]`: a line as a job starts and one as it ends."""

from snakemake_logger_plugin_frozenalign.handler import LogHandler

__all__ = ["LogHandler"]
