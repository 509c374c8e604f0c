"""The results: one object per operation and tool, each value a list with one entry a run; medians and ranges of them; JSON."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "carnet"


@dataclass
class Row:
    """All runs of one tool in one operation."""

    operation: str
    tool: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Add one run."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(round(value, 4) if isinstance(value, float) else value)

    def median(self, name: str) -> float:
        """Return the median of one value."""
        return statistics.median(self.values[name])

    def spread(self, name: str) -> tuple[float, float]:
        """Return the least and the most of one value."""
        return min(self.values[name]), max(self.values[name])

    def as_object(self) -> dict[str, Any]:
        """Return what the file has."""
        return {"operation": self.operation, "tool": self.tool, **self.values}


class Rows:
    """All rows in the order in which they came to be."""

    def __init__(self) -> None:
        """Begin with none."""
        self._rows: dict[tuple[str, str], Row] = {}

    def add(self, operation: str, tool: str, values: dict[str, float]) -> None:
        """Add one run."""
        self._rows.setdefault((operation, tool), Row(operation, tool)).add(values)

    def of(self, operation: str) -> list[Row]:
        """Return the rows of an operation, ours first."""
        return sorted((row for row in self._rows.values() if row.operation == operation), key=lambda row: row.tool != OURS)

    def all(self) -> list[Row]:
        """Return all rows."""
        return list(self._rows.values())


def ratio(row: Row, rows: list[Row], name: str) -> float | None:
    """Return how many times our median the tool's is (more than 1: ours is less), or None without ours."""
    ours = next((one for one in rows if one.tool == OURS), None)
    return row.median(name) / ours.median(name) if ours and ours.median(name) else None


def write_results(path: Path, head: dict[str, Any], rows: Rows) -> None:
    """Write the file: what was measured where, then the rows."""
    document = head | {"results": [row.as_object() for row in rows.all()]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
