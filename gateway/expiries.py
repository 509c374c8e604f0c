"""Expiries: when each thing that a site lives on ends: certificates, KEM key, trust bundle, revocation sets, rights.

A running site renews most of them by itself; one that is near its end says that something keeps it from doing so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from cryptography import x509

from carnet.identifiers import SiteName
from carnet.timestamps import parse_time
from gateway.grants import readable
from gateway.ports import Clock
from gateway.records import IdentityRecord
from gateway.trusting import Trust


@dataclass(frozen=True)
class Expiry:
    """One thing, and when it ends."""

    what: str
    """`tls-certificate`, `issuing-ca`, `kem-key`, `trust-bundle`, `revocations/<site>`, `kem-key/<site>`."""
    ends: datetime


@dataclass(frozen=True)
class RightsEnd:
    """The next end among an identity's rights, or the last one if all are over.

    It is not in `expiries`, which metrics show: they name no identity.
    """

    what: str
    """The grant."""
    last_day: date
    """The last day on which it gives anything."""


def rights_end(record: IdentityRecord, now: datetime) -> RightsEnd | None:
    """Return what of the identity's rights ends next, or what ended last if none is left; None if nothing ends.

    A right that ended beside others that go on is no news: it was meant to.
    """
    grants = list(readable(record.grants))
    standing = [grant for grant in grants if not grant.has_ended(now)]
    found = [(grant.until, str(grant)) for grant in standing or grants if grant.until is not None]
    if not found:
        return None
    last_day, what = min(found) if standing else max(found)
    return RightsEnd(what, last_day)


def expiries(trust: Trust, site: SiteName, clock: Clock, certificate: Path) -> list[Expiry]:
    """Return what ends when, as far as it is known; `certificate` is the file of the site's certificate and its CA. Blocks."""
    return [*_certificates(certificate), *_trusted(trust, site, clock)]


def _certificates(path: Path) -> Iterator[Expiry]:
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return
    for what, certificate in zip(("tls-certificate", "issuing-ca"), chain, strict=False):
        yield Expiry(what, certificate.not_valid_after_utc)


def _trusted(trust: Trust, site: SiteName, clock: Clock) -> Iterator[Expiry]:
    bundle = trust.current()
    if bundle is None:
        return
    yield Expiry("trust-bundle", parse_time(bundle.expires))
    for known in bundle.sites:
        statement = trust.newest_kem(known.name, clock.now())
        if statement is not None:
            yield Expiry("kem-key" if known.name == site else f"kem-key/{known.name}", parse_time(statement.not_after))
    for name, revocations in trust.revocations.state.sets.items():
        yield Expiry(f"revocations/{name}", parse_time(revocations.content.expires))
