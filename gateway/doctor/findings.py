"""Findings: what was looked at, how it stands, and the command that puts it right.

Rules:      1. a code is listed in `CODES`; it is stable, the text may improve  2. what is not `ok` has a fix
Spec:       docs/operations.md section "Doctor" (generated from `CODES`)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from carnet.errors import CarnetError

CODES: Final[dict[str, str]] = {
    "D-CONFIG": "`gateway.toml` and the environment can be read",
    "D-MODES": "secret files and their directories belong to one user alone",
    "D-KEYS": "every key file is there and is what it should be",
    "D-AT-REST": "the at-rest key opens what the catalog keeps sealed",
    "D-POLICY": "the policy files are sound",
    "D-OWNERS": "two of its owners signed the policy, where the trust bundle names owners",
    "D-DISK": "more is free than the reserve",
    "D-DATABASE": "the catalog has the revision of this version, and SQLite finds it whole",
    "D-ROWS": "this site wrote each row that gives rights",
    "D-LOG": "the published log verifies and is the one that the catalog holds",
    "D-LOG-PEER": "a peer has seen no more of the log, and nothing else, than there is",
    "D-STORE": "segments taken at random are what they should be",
    "D-TRUST": "there is a trust bundle, and it names this site with this key",
    "D-EXPIRY": "certificates, KEM keys, trust bundle, revocation sets and rights of agents do not end soon",
    "D-SUITE": "the lanes of this site name suites that this version has",
    "D-JOBS": "background work gets done",
    "D-LEDGER": "licences count the releases that the log has",
    "D-DELIVERY": "no delivery waits",
    "D-DUTY": "nothing that policy asks people for is late",
    "D-COPIES": "copies of decisions in other regions are written",
    "D-RESTORED": "the site did not come out of a backup unseen by its peers",
    "D-SERVES": "the site is served, and answers at its address",
    "D-PROCESS": "the serving process writes no core dump and no file that others may read",
    "D-CLOCK": "the clock is right, by the log and by the peers",
    "D-PEER": "each site on this one's lanes answers",
}
"""What each code means when it is `ok`."""

_ORDER: Final = (6, 2, 7, 1, 5, 3)
"""Which kind of failure the exit status tells first: damage, then configuration, then what is temporary."""


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """The site works; somebody should look."""
    FAIL = "fail"
    """Something does not work."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    code: str
    severity: Severity
    said: str
    fix: str = ""
    status: int = 0
    """The exit status that a failure of this kind has."""


def ok(code: str, said: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(code, Severity.OK, said)


def warn(code: str, said: str, fix: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(code, Severity.WARN, said, fix)


def fail(code: str, said: str, fix: str, *, status: int = 1) -> Finding:
    """Return a finding that does not work."""
    return Finding(code, Severity.FAIL, said, fix, status)


def failed(code: str, error: CarnetError, fix: str | None = None) -> Finding:
    """Return the finding that an error is."""
    return fail(code, error.problem, fix or error.remedy, status=error.exit_status)


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 0 without a failure, else the status of the worst kind."""
    found = {finding.status for finding in findings if finding.severity is Severity.FAIL}
    return next((status for status in _ORDER if status in found), 1) if found else 0
