"""Takes keys back: a person's, an agent's, one of the site's KEM keys; each with its log entry and in a new signed set at once.

Which key is meant is found among those that this site knows: a key that nobody here trusts needs no revocation, and one that was
mistyped must not look revoked.

Rules:      1. mark, log entry and new set are one transaction  2. what is revoked is the key: its holder goes on under another
            3. a site's signing key is taken back by the roots alone, with the next trust bundle
Spec:       docs/operations.md section "Revoking"
"""

import re
from dataclasses import dataclass
from typing import Final

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, CapacityError, NotFound
from carnet.identifiers import AgentName, SiteName, SpiffeId
from carnet.keys import SigningKey
from carnet.limits import REVOCATIONS_MAX
from carnet.revocation import RevocationSet, RevokedKem, RevokedKey
from carnet.timestamps import format_time
from carnet.trust import AgentStatement, TrustBundle
from gateway.ports import Transaction
from gateway.revocation_marks import all_marks, put_kem_mark, put_key_mark
from gateway.revoking import issue_set, mark_identity

_KEM_NAME: Final = re.compile(r"kem-([1-9][0-9]{0,8})", re.ASCII)
_REMEDY: Final = (
    "name a key id, a public key or digest in hex, an agent, or kem-NUMBER; `carnet-gateway trust show DIR` lists keys"
)


@dataclass(frozen=True)
class Revoker:
    """What takes keys back at one site: its name, what it signs with, and the trust bundle, fresh or not."""

    site: SiteName
    key: SigningKey
    bundle: TrustBundle

    def person(self, tx: Transaction, name: str, reason: str) -> RevocationSet:
        """Revoke a person: all keys that the bundle names, and the account here; return the new set.

        Raises:
            CallerError: E-USAGE if the trust bundle names nobody so, and no account has that name. CapacityError: E-LIMIT.
        """
        person = next((one for one in self.bundle.people if one.name == name), None)
        identity = SpiffeId.make(self.bundle.trust_domain, self.site, "person", AgentName(name))
        if person is None and tx.identity(identity) is None:
            raise CallerError(
                "E-USAGE",
                f"no person {ascii(name)[:80]} in the trust bundle",
                remedy="see who is: `carnet-gateway trust show DIR`",
            )
        mark_identity(tx, identity, reason)
        self._mark_keys(tx, [key.keyid for key in person.keys] if person is not None else [], str(identity), reason)
        return issue_set(tx, self.key, self.site)

    def named_key(self, tx: Transaction, text: str, reason: str) -> RevocationSet:
        """Revoke what `text` names, and return the new set.

        It is a KEM key of the site (`kem-3`), an agent's present keys by its name, or one key by key id, public key or digest.

        Raises:
            CallerError: E-USAGE if no such key is known here, or it is a site's signing key. CapacityError: E-LIMIT.
        """
        kem = _KEM_NAME.fullmatch(text)
        if kem is not None:
            self._mark_kem(tx, int(kem[1]), reason)
            return issue_set(tx, self.key, self.site)
        if any(text in {site.signing_key.keyid, site.signing_key.hex} for site in self.bundle.sites):
            raise CallerError(
                "E-USAGE",
                f"{text[:80]} signs for a site; no site takes that back by itself",
                remedy="have the roots sign a trust bundle that names another key for the site, or leaves it out",
            )
        holder, keys = self._find(tx, text)
        self._mark_keys(tx, keys, holder, reason)
        return issue_set(tx, self.key, self.site)

    def _find(self, tx: Transaction, text: str) -> tuple[str, list[str]]:
        """Return whose keys `text` names, and the ids under which the set lists them."""
        for person in self.bundle.people:
            for key in person.keys:
                if text in {key.keyid, key.hex}:
                    return str(person.name), [key.keyid]
        for record in tx.identities():
            if record.statement is None:
                continue
            stated = AgentStatement.read_unverified(parse_envelope(record.statement))  # our own, from our catalog
            if record.kind == "agent" and record.identity.name == text:
                return record.identity, [stated.signing_key.keyid, stated.kem_key.digest]
            if text in {stated.signing_key.keyid, stated.signing_key.hex}:
                return record.identity, [stated.signing_key.keyid]
            if text in {stated.kem_key.digest, stated.kem_key.hex}:
                return record.identity, [stated.kem_key.digest]
        raise CallerError("E-USAGE", f"no key {ascii(text)[:80]} is known here", remedy=_REMEDY)

    def _mark_keys(self, tx: Transaction, keys: list[str], holder: str, reason: str) -> None:
        since = format_time(tx.now)
        _require_room(len(all_marks(tx).keys) + len(keys), "keys")
        for keyid in keys:
            if put_key_mark(tx, RevokedKey(keyid=keyid, since=since, reason=reason)):
                fields: dict[str, JsonValue] = {"keyid": keyid, "holder": holder, "reason": reason, "since": since}
                tx.append(EntryType.KEY_REVOKED, fields)

    def _mark_kem(self, tx: Transaction, number: int, reason: str) -> None:
        if tx.site_document(f"kem/{self.site}/{number}") is None:
            raise NotFound("E-KEY-RELEASE", f"this site never stated a KEM key {number}", remedy=_REMEDY)
        since = format_time(tx.now)
        _require_room(len(all_marks(tx).kem) + 1, "KEM keys")
        if put_kem_mark(tx, RevokedKem(number=number, since=since, reason=reason)):
            tx.append(EntryType.KEY_REVOKED, {"kem": number, "reason": reason, "since": since})


def _require_room(count: int, what: str) -> None:
    if count > REVOCATIONS_MAX:
        raise CapacityError("E-LIMIT", f"{REVOCATIONS_MAX} {what} are revoked", limit="REVOCATIONS_MAX")
