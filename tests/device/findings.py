"""What a check of a device has found, as a line of the table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: what was found, what it should be, and whether it is; None where nothing is asked."""

    check: str
    case: str
    found: str
    target: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return how the finding stands to its target."""
        return {True: "met", False: "missed", None: "-"}[self.met]


def at_most(check: str, case: str, value: float, limit: float, unit: str = "", note: str = "") -> Finding:
    """Return the finding of a number that should not exceed a limit."""
    return Finding(check, case, f"{value:.3g}{unit}", f"≤ {limit:g}{unit}", value <= limit, note)


def at_least(check: str, case: str, value: float, limit: float, unit: str = "", note: str = "") -> Finding:
    """Return the finding of a number that should not fall short of a limit."""
    return Finding(check, case, f"{value:.3g}{unit}", f"≥ {limit:g}{unit}", value >= limit, note)


def table(findings: Sequence[Finding]) -> str:
    """Return findings as text for a terminal."""
    rows = [("check", "case", "found", "target", "", "note")]
    rows += [(each.check, each.case, each.found, each.target, each.verdict, each.note) for each in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def write_findings(path: Path, findings: Sequence[Finding], machine: Mapping[str, object]) -> None:
    """Write findings as JSON with the device and the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"date": str(date.today()), **machine, "findings": [asdict(each) for each in findings]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
