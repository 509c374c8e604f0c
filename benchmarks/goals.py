"""Goals: what was measured beside what it may be at most, as lines of a table and as values of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """One figure with its limit; it passes if it is not above."""

    name: str
    measured: float
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        """Whether the figure is within the limit."""
        return self.measured <= self.limit

    def as_object(self) -> dict[str, Any]:
        """Return what the file has."""
        return {
            "goal": self.name,
            "measured": round(self.measured, 3),
            "limit": self.limit,
            "unit": self.unit,
            "met": self.is_met,
        }


def goals_table(goals: Sequence[Goal]) -> str:
    """Return one line a goal, with `pass` or `MISS`."""
    rows = [("goal", "measured", "at most", "", "")]
    rows += [
        (goal.name, f"{goal.measured:.4g}", f"{goal.limit:.4g}", goal.unit, "pass" if goal.is_met else "MISS") for goal in goals
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        f"{name:<{widths[0]}}  {measured:>{widths[1]}}  {limit:>{widths[2]}} {unit:<{widths[3]}}  {verdict}".rstrip()
        for name, measured, limit, unit, verdict in rows
    )


def percentile(values: Sequence[float], per_cent: float) -> float:
    """Return the value that `per_cent` of `values` do not exceed: one of them, the nearest above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]
