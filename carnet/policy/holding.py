"""The time of a hold: what has become of it so long after it began, if nobody satisfied it, and when the next thing happens.

Each rule that holds may give hours. When they are over its hold is denied; or others are asked, and after as many hours again it
is denied. Of several rules each counts for itself, so the first denial ends the hold.

Rules:      1. it depends on the beginning, the rules and the time alone: who looks late finds the same as who looked in time
            2. times are whole seconds, as in signed documents  3. a denial stays one, and what was escalated stays so
Spec:       docs/policy.md section "When a hold ends"
Example:    >>> from datetime import UTC, datetime
            >>> begun = datetime(2026, 12, 1, tzinfo=UTC)
            >>> hold_time([HoldEnd("r", 72)], begun, begun + timedelta(hours=72)).over.rule
            'r'
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from carnet.policy.rules import HoldEnd


@dataclass(frozen=True)
class HoldTime:
    """What has become of a hold: denied by the rule `over`, or waiting until `next`, for those to whom `escalated` rules turn."""

    over: HoldEnd | None = None
    escalated: tuple[tuple[datetime, HoldEnd], ...] = ()
    """Since when which rules ask others, the first to do so first."""
    next: datetime | None = None
    """When others are asked, or it is denied; None if no rule gives hours, or it is denied."""

    @property
    def is_due(self) -> bool:
        """Whether anything has happened by the time alone."""
        return self.over is not None or bool(self.escalated)


def hold_time(ends: Iterable[HoldEnd], begun: datetime, now: datetime) -> HoldTime:
    """Return what has become, `now`, of a hold that began at `begun` and that `ends` end."""
    start = begun.replace(microsecond=0)
    ordered = sorted(ends, key=lambda end: (end.hours, end.rule))
    turns = [(start + timedelta(hours=end.hours), end) for end in ordered if end.to]
    denials = [(start + timedelta(hours=end.hours * (2 if end.to else 1)), end) for end in ordered]
    over = min((one for one in denials if one[0] <= now), key=lambda one: (one[0], one[1].rule), default=None)
    if over is not None:
        return HoldTime(over=over[1])
    return HoldTime(
        escalated=tuple(one for one in turns if one[0] <= now),
        next=min((moment for moment, _ in (*turns, *denials) if moment > now), default=None),
    )
