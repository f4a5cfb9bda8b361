"""The measured steps of a run, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.coco.usage import Usage


@dataclass(frozen=True)
class MeasuredStep:
    """A step, what it took, and the least processor seconds that it can take, where known. note: what came out."""

    name: str
    usage: Usage
    floor_seconds: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Return how many times the floor's processor seconds the step takes."""
        return self.usage.processor_seconds / self.floor_seconds if self.floor_seconds else None

    def line(self, width: int) -> str:
        """Return the step's line of the table."""
        usage = self.usage
        figures = [f"{usage.seconds:8.1f} s", f"{usage.processor_seconds:8.1f} s", f"{usage.peak_bytes / 1e9:6.2f} GB"]
        figures += [f"{usage.read_bytes / 1e9:6.2f} GB", f"{usage.disk_bytes / 1e9:6.2f} GB"]
        figures.append(f"{self.floor_seconds:8.1f} s" if self.floor_seconds else f"{'-':>10}")
        figures.append(f"{self.ratio:5.2f} ×" if self.ratio else f"{'-':>7}")
        return f"{self.name:{width}}  {'  '.join(figures)}  {self.note}".rstrip()


def heading(width: int) -> str:
    """Return the first line of the table."""
    names = (("seconds", 10), ("processor", 10), ("peak", 9), ("read", 9), ("of disk", 9), ("floor", 10), ("ratio", 7))
    return f"{'':{width}}  {'  '.join(f'{name:>{size}}' for name, size in names)}"


def whole(steps: list[MeasuredStep]) -> MeasuredStep:
    """Return the sum of steps that ran one after the other, with the largest peak; only floors that are known count."""
    used = [step.usage for step in steps]
    peak = max(usage.peak_bytes for usage in used)
    sums = [sum(getattr(usage, name) for usage in used) for name in ("seconds", "processor_seconds")]
    read = [sum(getattr(usage, name) for usage in used) for name in ("read_bytes", "disk_bytes")]
    floor = sum(step.floor_seconds or 0.0 for step in steps)
    return MeasuredStep("whole", Usage(*sums, peak, *read), floor)


def read_steps(path: Path) -> dict[str, MeasuredStep]:
    """Return the steps that earlier calls have measured, by name."""
    if not path.exists():
        return {}
    written = json.loads(path.read_text(encoding="utf-8"))["steps"]
    return {
        step["name"]: MeasuredStep(step["name"], Usage(**step["usage"]), step["floor_seconds"], step["note"])
        for step in written
    }


def write_steps(path: Path, steps: list[MeasuredStep], described: dict[str, object]) -> None:
    """Write steps with what they hang on."""
    written = [asdict(step) | {"ratio": step.ratio} for step in steps]
    path.write_text(json.dumps(described | {"steps": written}, indent=1) + "\n", encoding="utf-8")
