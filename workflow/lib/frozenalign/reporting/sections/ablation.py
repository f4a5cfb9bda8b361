"""The ablation: every variant against its base."""

from typing import Any

from frozenalign.reporting.ablation import ablation
from frozenalign.reporting.findings import Findings


def content(found: Findings) -> dict[str, Any] | None:
    """Return the variants by the name of their base, or None without variants."""
    by_base: dict[str, list[dict[str, Any]]] = {}
    for row in ablation(found.runs).to_dict("records"):
        by_base.setdefault(row["base"], []).append(row)
    rows = {row["experiment"]: row for row in found.plain.to_dict("records")}
    return {"ablations": {base: (rows[base], variants) for base, variants in by_base.items()}} if by_base else None
