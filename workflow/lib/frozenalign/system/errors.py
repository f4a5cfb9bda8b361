"""Errors that the user can correct: one sentence, no traceback."""

import io
import reprlib
import sys
from collections.abc import Callable
from typing import Any

from frozenalign.system.memory_left import end_before_killed
from frozenalign.system.signals import exit_status, terminate_like_interrupt

SHOWN = 80
# The last one is oneDNN's, which finds no room for the code that it generates.
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "could not create a primitive",
)


class UserError(Exception):
    """A mistake in the input, the configuration or the environment; the message says what, where and what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine ran out of memory; PyTorch raises RuntimeErrors."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)
    )


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; a UserError ends it with one sentence on standard error and exit status 1.

    The same holds for a lack of memory and for a file name that the locale's encoding lacks. After Ctrl-C or SIGTERM,
    the exit status is that of the signal.
    """
    terminate_like_interrupt()
    end_before_killed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        sys.exit("error: out of memory: give the job more, set `device: cpu`, or lower what the log names last")
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":
            raise
        sys.exit(
            f"error: {quoted(error.object)} has characters that the locale's encoding, {error.encoding}, lacks: "
            "set PYTHONUTF8=1 and run the same command again"
        )
    except KeyboardInterrupt as interruption:
        print(f"interrupted: {str(interruption) or 'run the same command again'}", file=sys.stderr)
        sys.exit(exit_status(interruption))


class _Short(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        """Return the size of an integer that Python refuses to convert to text."""
        return repr(value) if value.bit_length() < 4 * SHOWN else f"an integer of {value.bit_length()} bits"


_short = _Short()
_short.maxstring = _short.maxother = SHOWN
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = 4
_short.maxlevel = 3


def quoted(value: Any) -> str:
    """Return the `repr` of a value, limited to a few items, levels and characters."""
    text = _short.repr(value)
    return text if len(text) <= 4 * SHOWN else f"{text[: 4 * SHOWN]}..."


def one_line(text: str, length: int = 2 * SHOWN) -> str:
    """Return text of at most `length` characters, with control characters escaped and no quotation marks added."""
    shown = text if len(text) <= length else f"{text[: length - 3]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in shown)
