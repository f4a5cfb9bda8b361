"""A logger plugin of Snakemake: a console that people can follow; docs of the plugins: snakemake.readthedocs.io."""

from snakemake_logger_plugin_frozenalign.handler import LogHandler

__all__ = ["LogHandler"]
