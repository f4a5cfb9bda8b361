"""Errors a person can act on: one sentence, no traceback."""

import sys
from collections.abc import Callable

from workflow.lib.interruption import exit_status, terminate_like_interrupt


class UserError(Exception):
    """A mistake in the input, the configuration or the environment; the message says what, where and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; a UserError ends it with one sentence on standard error and exit status 1.

    Ctrl-C and SIGTERM end it with a sentence as well, and with the exit status that belongs to the signal.
    """
    terminate_like_interrupt()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interruption:
        print(f"interrupted: {str(interruption) or 'run the same command again'}", file=sys.stderr)
        sys.exit(exit_status(interruption))
