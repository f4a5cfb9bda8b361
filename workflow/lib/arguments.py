"""Checks of command-line arguments that several scripts take."""

from workflow.lib.errors import UserError


def refuse_negative_seed(seed: int) -> None:
    """Refuse a `--seed` below 0, which no random generator takes."""
    if seed < 0:
        raise UserError(f"--seed is {seed}: take 0 or a larger whole number")
