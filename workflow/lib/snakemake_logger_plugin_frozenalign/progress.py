"""How far a run is, and how long it may still take."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from statistics import mean

COLLECTING = ("all", "splits", "tuned", "trained", "evaluated", "exported", "galleries")


class Progress:
    """The jobs of a run, counted by rule, without the rules that only collect files."""

    def __init__(self, stats: Mapping[str, int], began: float) -> None:
        """Take the counts of Snakemake's table of jobs, and when the run began."""
        self.planned = Counter({rule: count for rule, count in stats.items() if rule not in (*COLLECTING, "total")})
        self.took: dict[str, list[float]] = defaultdict(list)
        self.began = began

    @property
    def total(self) -> int:
        """Return how many jobs the run has."""
        return self.planned.total()

    @property
    def finished(self) -> int:
        """Return how many jobs have finished."""
        return sum(map(len, self.took.values()))

    def seconds_left(self, now: float) -> float | None:
        """Return how long the rest may take; None while most of it are rules of which no job has finished."""
        remaining = self.planned - Counter({rule: len(times) for rule, times in self.took.items()})
        known = sum(count for rule, count in remaining.items() if rule in self.took)
        times = [seconds for of_a_rule in self.took.values() for seconds in of_a_rule]
        if not remaining or 2 * known < remaining.total() or not sum(times):
            return None
        typical = {rule: mean(of_a_rule) for rule, of_a_rule in self.took.items()}
        work = sum(count * typical.get(rule, mean(times)) for rule, count in remaining.items())
        return work * (now - self.began) / sum(times)
