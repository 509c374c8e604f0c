"""The system's clock as the port `Clock`, and one that stands: the only place in the gateway that asks what time it is."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class StandingClock:
    """Implements `Clock`: shows one moment, at which something is made as a whole."""

    moment: datetime

    def now(self) -> datetime:
        """Return the moment."""
        return self.moment


class SystemClock:
    """Implements `Clock`."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""
        return datetime.now(UTC)
