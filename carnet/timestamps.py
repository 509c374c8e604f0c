"""Points in time as text: RFC 3339, UTC, whole seconds, `Z`; and days.

The core never asks what time it is; edges pass a `datetime` in UTC. Text is what is signed and logged.

Rules:      1. only `YYYY-MM-DDTHH:MM:SSZ` is accepted  2. a naive datetime is refused
Spec:       docs/formats.md section "Common encodings"; RFC 3339 section 5.6
Example:    >>> format_time(parse_time("2026-11-24T22:53:44Z"))
            '2026-11-24T22:53:44Z'
"""

import re
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from carnet.errors import PeerError

_FORM = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", re.ASCII)


def parse_time(text: str) -> datetime:
    """Return the UTC datetime that `text` names; raise `PeerError` E-FORMAT for any other form."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise PeerError("E-FORMAT", f"not an RFC 3339 time in whole UTC seconds: {ascii(text)[:40]}")
    try:
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise PeerError("E-FORMAT", f"no such point in time: {text}") from None


def format_time(moment: datetime) -> str:
    """Return `moment` (aware) as text, fractions of a second dropped."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place in a signed document")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check(text: str) -> str:
    try:
        parse_time(text)
    except PeerError as error:
        raise ValueError(error.problem) from None
    return text


Timestamp = Annotated[str, AfterValidator(_check)]
"""A field type for signed documents: the text of a point in time, checked."""


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(_day)]
"""A calendar day, `YYYY-MM-DD`; text order is time order."""
