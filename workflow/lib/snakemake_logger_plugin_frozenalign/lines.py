"""The lines of the console, as text."""

import re
from collections.abc import Mapping, Sequence
from textwrap import wrap

INDENT = "    "
WHOLE_WORDS = {"break_long_words": False, "break_on_hyphens": False}
SUBJECTS = ("experiment", "study")
NUMBERED = {"worker", "job"}
ONLY_ONE = "1-of-1"
STACK = re.compile(r'^  File ".*", line \d+, in .*\n?', re.MULTILINE)
ORIGIN = re.compile(r'^WorkflowError(?: in file ".*", line \d+)?:\n')


def description(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return what a job is called: train mlp, seed 0; tune quick, worker 2 of 4."""
    title = rule.removesuffix("_worker").replace("_", " ")
    subjects = [str(wildcards[name]) for name in SUBJECTS if name in wildcards]
    others = {name: value for name, value in wildcards.items() if name not in SUBJECTS and value != ONLY_ONE}
    for name in NUMBERED & others.keys():
        others[name] = others[name].replace("-of-", " of ")
    return ", ".join([" ".join([title, *subjects]), *(f"{name} {value}" for name, value in others.items())])


def duration(seconds: float) -> str:
    """Return a time in the two units that matter, at least a second."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def time_left(seconds: float) -> str:
    """Return an estimate that claims no more than it knows."""
    if seconds < 60:
        return "under a minute left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {round(seconds / 3600)} h left"


def end_line(job: str, found: str, seconds: float, count: str, left: str, width: int | None) -> str:
    """Return the line of a finished job; if it is too wide, the time left is shortened first, then what was found."""
    took = f"{duration(seconds)} · {count}"
    ends = [f"{took}, {left}", f"{took}, {left.replace('about ', '~')}", took] if left else [took]
    lines = [f"{job}: {found}, {end}" if found else f"{job}: {end}" for end in ends]
    fitting = [line for line in lines if width is None or len(line) <= width]
    if fitting or not found:
        return (fitting or lines[-1:])[0]
    kept = max(0, len(found) - (len(lines[-1]) - width) - 1)
    return f"{job}: {found[:kept].rstrip(' ,')}…, {took}"


def failure_lines(job: str, seconds: float, killed: str, said: Sequence[str], logs: Sequence[str]) -> list[str]:
    """Return what is shown of a failed job: what it or its executor says, and where its whole log lies."""
    how = f"killed by {killed}" if killed else "failed"
    return [f"{job}: {how} after {duration(seconds)}", *said, *(f"log: {path}" for path in logs)]


def indented(lines: Sequence[str], width: int | None) -> str:
    """Return lines of which all but the first are indented, broken between words where a terminal is too narrow."""
    if width is None:
        return f"\n{INDENT}".join(lines)
    broken = [wrap(line, width, initial_indent=INDENT, subsequent_indent=INDENT, **WHOLE_WORDS) for line in lines[1:]]
    return "\n".join([lines[0], *(part for parts in broken for part in parts)])


def last_line(finished: int, total: int, seconds: float, failed: Sequence[str]) -> str:
    """Return the state in which a run ends."""
    which = f"; {len(failed)} failed: {'; '.join(failed)}" if failed else ""
    return f"{finished} of {total} jobs, {duration(seconds)}{which}"


def plain_error(text: str) -> str:
    """Return the message of a WorkflowError without the places in the code that it came through."""
    return ORIGIN.sub("error: ", STACK.sub("", text)).rstrip("\n")
