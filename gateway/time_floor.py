"""The time floor: the latest time this site has proof of; a clock that is behind it, or far from all peers', holds work.

A clock set back would make expired certificates, bundles, waybills and revocation sets valid again. What the site itself signed
and logged, and what others signed, cannot be older than now.

A restart keeps the floor: own entries and sets are in the catalog, and what peers proved is kept there too.

Rules:      1. the floor only rises  2. more than `BEHIND` below the floor nothing new is decided
            3. expiry is judged at the later of clock and floor
            4. where peers take part, a clock more than `APART` from every one of them heard of late holds too
            5. a peer proves at most the time that our own clock shows: one that is ahead stops nobody
Source:     DESIGN section 5, "Time"; P9
"""

from datetime import datetime, timedelta
from typing import Final

from carnet.errors import Held
from carnet.identifiers import SiteName

BEHIND: Final = timedelta(seconds=30)
APART: Final = timedelta(minutes=5)
_LATELY = timedelta(minutes=10)


class TimeFloor:
    """Holds the floor and the peers' clocks in memory; `Trust` feeds it from the catalog and from peers."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._floor: datetime | None = None
        self._heard: dict[SiteName, tuple[datetime, timedelta]] = {}

    @property
    def moment(self) -> datetime | None:
        """The floor; None while nothing is known."""
        return self._floor

    def offsets(self, now: datetime) -> dict[SiteName, timedelta]:
        """Return how far the clocks of peers heard of late are ahead of ours."""
        return {site: offset for site, (heard, offset) in self._heard.items() if abs(now - heard) < _LATELY}

    def raise_to(self, moment: datetime) -> None:
        """Take note that it is at least `moment` (aware)."""
        if self._floor is None or moment > self._floor:
            self._floor = moment

    def hear(self, site: SiteName, theirs: datetime, ours: datetime) -> None:
        """Take note of a peer's clock, heard over its authenticated connection when ours showed `ours`."""
        self._heard[site] = (ours, theirs - ours)
        self.witness(theirs, ours)

    def witness(self, theirs: datetime, ours: datetime) -> None:
        """Take note of a time that a peer signed or said when ours showed `ours`; its clock may be `APART` ahead (rule 5)."""
        self.raise_to(min(theirs - APART, ours))

    def judged(self, now: datetime) -> datetime:
        """Return the time that expiry is judged at (rule 3)."""
        return now if self._floor is None else max(now, self._floor)

    def require(self, now: datetime, *, with_peers: bool) -> datetime:
        """Return the time to judge at; raise `Held` E-CLOCK if the clock cannot be right (rules 2 and 4)."""
        if self._floor is not None and now < self._floor - BEHIND:
            raise Held(
                "E-CLOCK", f"the clock of this site shows {now:%Y-%m-%dT%H:%M:%SZ}, but {self._floor:%Y-%m-%dT%H:%M:%SZ} is past"
            )
        offsets = [offset for heard, offset in self._heard.values() if abs(now - heard) < _LATELY] if with_peers else []
        if offsets and (min(offsets) > APART or max(offsets) < -APART):
            nearest = min(offsets, key=abs)
            side = "behind" if nearest > timedelta(0) else "ahead of"
            seconds = abs(round(nearest.total_seconds()))
            raise Held("E-CLOCK", f"the clock of this site is {seconds} seconds or more {side} that of every peer")
        return self.judged(now)
