"""What was run: data, split, protocol, device and versions."""

from typing import Any

from frozenalign.data.inputs import Manifest
from frozenalign.reporting.findings import Findings


def content(found: Findings) -> dict[str, Any]:
    """Return the facts of the run that no single result has."""
    return {
        "manifest": found.manifest,
        "sets": Manifest.of(found.manifest).sets,
        "seeds": sorted({run.seed for run in found.heads}),
        "devices": sorted({f"{run.facts['device']} ({run.facts['device_name']})" for run in found.runs}),
        "precisions": sorted({run.facts["precision"] for run in found.heads}),
        "versions": found.runs[0].facts["versions"],
    }
