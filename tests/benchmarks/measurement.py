"""How benchmarks measure and report: interleaved repeats, medians, and the memory that a call adds."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from frozenalign.system.memory import release_memory

REFERENCE, OURS, LIMIT = "reference", "ours", "limit"
STATUS, RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Row:
    """One case of a benchmark: median seconds of the reference, of ours and of the machine's limit, where measured.

    extra_bytes: what ours adds to the process's memory while it runs. note: what else a reader must know.
    """

    case: str
    ours: float
    reference: float | None = None
    limit: float | None = None
    extra_bytes: int | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Return how many times faster than the reference ours is."""
        return self.reference / self.ours if self.reference else None

    @property
    def share(self) -> float | None:
        """Return which share of the machine's limit ours reaches."""
        return self.limit / self.ours if self.limit else None


def seconds_of(case: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    case()
    return time.perf_counter() - began


def interleaved(repeats: int, **cases: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each case over repeats taken in turn, A B A B …, after one unmeasured turn."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, case in cases.items():
            elapsed = seconds_of(case)
            if turn:
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed_memory(case: Callable[[], object]) -> tuple[float, int]:
    """Return the seconds of a call and by how many bytes this process's resident memory rises meanwhile (Linux)."""
    # What earlier calls have freed would be taken again unseen.
    release_memory()
    RESET_PEAK.write_text("5", encoding="utf-8")
    before = _memory("VmRSS")
    seconds = seconds_of(case)
    return seconds, _memory("VmHWM") - before


def _memory(name: str) -> int:
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def table(title: str, rows: list[Row]) -> str:
    """Return rows as text for a terminal."""
    width = max(len(row.case) for row in rows)
    lines = [title, f"  {'':{width}}  reference       ours    ratio   share   memory"]
    for row in rows:
        lines.append(
            f"  {row.case:{width}}  {_shown(row.reference, '8.3f', 's'):>9}  {_shown(row.ours, '8.3f', 's'):>9}"
            f"  {_shown(row.ratio, '5.2f', ' ×'):>7}  {_shown(row.share and 100 * row.share, '4.0f', ' %'):>6}"
            f"  {_shown(row.extra_bytes and row.extra_bytes / 1e6, '5.0f', ' MB'):>7}  {row.note}".rstrip()
        )
    return "\n".join(lines)


def _shown(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def write_rows(path: Path, rows: list[Row], machine: Mapping[str, object]) -> None:
    """Write rows as JSON with the machine and the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = [asdict(row) | {"ratio": row.ratio, "share_of_limit": row.share} for row in rows]
    content = {"date": str(date.today()), **machine, "rows": described}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
