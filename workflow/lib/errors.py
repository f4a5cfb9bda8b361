"""Errors a person can act on: one sentence, no traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input, the configuration or the environment; the message says what, where and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; a UserError ends it with one sentence on standard error and exit status 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
