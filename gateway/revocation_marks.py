"""Marks: what a site remembers about identities and keys that it took back; its signed set is made of them.

One document a mark, in the catalog. A mark never goes: what was revoked stays void, and an identity that is enrolled anew
keeps the mark of before beside it.

Rules:      1. `since` is in whole seconds, as the set says it, and later at each revocation  2. nothing removes a mark
Spec:       docs/statements.md section "Revocation set"
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from carnet.encoding import canonical, parse_json
from carnet.identifiers import SpiffeId
from carnet.limits import KIB
from carnet.revocation import RevokedIdentity, RevokedKem, RevokedKey
from carnet.statement import parse_model
from carnet.timestamps import parse_time
from gateway.ports import Transaction

_IDENTITIES = "revoked/"
_KEYS = "revoked-key/"
_KEM = "revoked-kem/"
_BYTES_MAX = 4 * KIB


@dataclass(frozen=True)
class Mark:
    """What is remembered about an identity beside its record: when it was revoked and why, when it was enrolled anew."""

    identity: SpiffeId
    revoked: datetime | None = None
    since: str | None = None
    """The revocation's time as the set says it: whole seconds, later at each revocation."""
    reason: str = "unspecified"
    replaced: datetime | None = None

    @property
    def is_revoked(self) -> bool:
        """Whether the identity is revoked and was not enrolled again since."""
        return self.revoked is not None and (self.replaced is None or self.replaced < self.revoked)

    def encode(self) -> bytes:
        """Return the document."""
        return canonical(
            {
                "identity": self.identity,
                "revoked": None if self.revoked is None else self.revoked.isoformat(),
                "since": self.since,
                "reason": self.reason,
                "replaced": None if self.replaced is None else self.replaced.isoformat(),
            }
        )

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """Return the mark in a document of our own catalog."""
        value = parse_json(document, bytes_max=_BYTES_MAX)
        assert isinstance(value, Mapping)  # noqa: S101 - `encode` wrote it
        revoked, since, replaced = (value[name] for name in ("revoked", "since", "replaced"))
        return cls(
            identity=SpiffeId(str(value["identity"])),
            revoked=None if revoked is None else datetime.fromisoformat(str(revoked)),
            since=None if since is None else str(since),
            reason=str(value["reason"]),
            replaced=None if replaced is None else datetime.fromisoformat(str(replaced)),
        )


@dataclass(frozen=True)
class Marks:
    """All marks of a site, as its set lists them."""

    identities: tuple[RevokedIdentity, ...]
    keys: tuple[RevokedKey, ...]
    kem: tuple[RevokedKem, ...]


def identity_marks(tx: Transaction) -> dict[SpiffeId, Mark]:
    """Return the mark of every identity that has one."""
    marks = (Mark.parse(document) for document in tx.site_documents(_IDENTITIES).values())
    return {mark.identity: mark for mark in marks}


def all_marks(tx: Transaction) -> Marks:
    """Return what the site's next set is made of."""
    return Marks(
        identities=tuple(
            RevokedIdentity(identity=mark.identity, since=mark.since, reason=mark.reason)
            for mark in identity_marks(tx).values()
            if mark.since is not None
        ),
        keys=tuple(parse_model(RevokedKey, body, bytes_max=_BYTES_MAX) for body in tx.site_documents(_KEYS).values()),
        kem=tuple(parse_model(RevokedKem, body, bytes_max=_BYTES_MAX) for body in tx.site_documents(_KEM).values()),
    )


def mark_of(tx: Transaction, identity: SpiffeId) -> Mark | None:
    """Return what is remembered about the identity, or None."""
    document = tx.site_document(f"{_IDENTITIES}{identity}")
    return None if document is None else Mark.parse(document)


def put_mark(tx: Transaction, mark: Mark) -> None:
    """Keep the mark of an identity, in the place of the one before."""
    tx.put_site_document(f"{_IDENTITIES}{mark.identity}", mark.encode())


def mark_replaced(tx: Transaction, identity: SpiffeId) -> None:
    """Note that the identity has new keys from now on: certificates from before are refused."""
    put_mark(tx, replace(mark_of(tx, identity) or Mark(identity), replaced=tx.now))


def statement_floor(tx: Transaction, identity: SpiffeId) -> datetime | None:
    """Return the time before which no new statement about the identity may begin, for its site's set would void it."""
    mark = mark_of(tx, identity)
    return None if mark is None or mark.since is None else parse_time(mark.since)


def key_mark(tx: Transaction, keyid: str) -> RevokedKey | None:
    """Return the mark of a signing key (by its key id) or of an agent's KEM key (by its digest), or None."""
    document = tx.site_document(f"{_KEYS}{keyid}")
    return None if document is None else parse_model(RevokedKey, document, bytes_max=_BYTES_MAX)


def put_key_mark(tx: Transaction, mark: RevokedKey) -> bool:
    """Keep the mark of a key; the first one stays, and then this returns False."""
    return _put_first(tx, f"{_KEYS}{mark.keyid}", mark.encode())


def put_kem_mark(tx: Transaction, mark: RevokedKem) -> bool:
    """Keep the mark of a KEM key of the site; the first one stays, and then this returns False."""
    return _put_first(tx, f"{_KEM}{mark.number}", mark.encode())


def _put_first(tx: Transaction, name: str, body: bytes) -> bool:
    if tx.site_document(name) is not None:
        return False
    tx.put_site_document(name, body)
    return True
