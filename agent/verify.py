"""Checks one signed document or log proof from a file, against the trust bundle held here; nobody is asked anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carnet.approval import Approval, Verdict
from carnet.checkpoint import log_origin
from carnet.decision import Decision
from carnet.encoding import JsonValue, parse_json
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, IntegrityError, PeerError
from carnet.identifiers import SiteName
from carnet.identity import AgentIdentity
from carnet.limits import TRUST_BUNDLE_BYTES_MAX
from carnet.packing import PackingList
from carnet.proof import EntryProof, parse_tlog_proof, verify_entry_proof
from carnet.recall import Recall
from carnet.receipt import Receipt
from carnet.statement import Statement, parse_model
from carnet.trust import AgentStatement, KemStatement, TrustBundle, open_agent_statement, open_kem_statement
from carnet.waybill import Waybill

_SITE_STATEMENTS: dict[str, type[Receipt] | type[Decision] | type[Recall]] = {
    one.payload_type: one for one in (Receipt, Decision, Recall)
}
_SITE_SIGNED = {*_SITE_STATEMENTS, AgentStatement.payload_type, KemStatement.payload_type}
_AGENT_DOCUMENTS: dict[str, type[Waybill] | type[PackingList]] = {one.payload_type: one for one in (Waybill, PackingList)}
_KNOWN = "name a file with a receipt, decision, recall, waybill, packing list, statement, approval, trust bundle or log proof"


@dataclass(frozen=True)
class Verified:
    """What the file is, who signed it, and what it says."""

    what: str
    signer: str
    document: Mapping[str, JsonValue]


def verify_document(path: Path, identity: AgentIdentity, site: SiteName | None) -> Verified:
    """Return what `path` holds once its signature, or proof, was found right.

    Raises:
        IntegrityError: E-SIGNATURE, E-PROOF, E-TRUST. PeerError: E-FORMAT for a statement that breaks its form.
        CallerError: E-SOURCE if there is no such file, or it is no document.
        NotFound: E-SITE-UNKNOWN for a signer that the trust bundle does not name.
    """
    try:
        with path.open("rb") as file:
            data = file.read(TRUST_BUNDLE_BYTES_MAX + 1)
    except OSError as error:
        raise CallerError("E-SOURCE", f"{path} cannot be read: {(error.strerror or '').lower()}", remedy=_KNOWN) from None
    try:
        found = _parse(data)
    except PeerError as error:
        raise CallerError("E-SOURCE", f"{path} holds nothing that can be verified: {error.problem}", remedy=_KNOWN) from None
    if isinstance(found, Envelope):
        return _verify_envelope(found, identity, site)
    return _verify_proof(found, identity.trust.current, site or identity.id.site)


def _parse(data: bytes) -> Envelope | EntryProof:
    """Return what the file is by its form; raise `PeerError` E-FORMAT if it is neither."""
    if data.startswith(b"c2sp.org/tlog-proof"):
        return parse_tlog_proof(data)
    value = parse_json(data, bytes_max=TRUST_BUNDLE_BYTES_MAX)
    if isinstance(value, Mapping) and "checkpoint" in value:
        return parse_model(EntryProof, value)
    return parse_envelope(data, bytes_max=TRUST_BUNDLE_BYTES_MAX)


def _verify_proof(proof: EntryProof, bundle: TrustBundle, site: SiteName) -> Verified:
    key = bundle.site(site).signing_key
    found = verify_entry_proof(proof, log_origin=log_origin(bundle.trust_domain, site), key=key)
    values = {f"value of {name}": value for name, value in found.values.items()}
    return Verified(f"log entry {found.index} ({found.entry.type})", f"the log of {site}", {"at": found.entry.at, **values})


def _verify_envelope(envelope: Envelope, identity: AgentIdentity, site: SiteName | None) -> Verified:
    bundle, kind = identity.trust.current, envelope.payload_type
    statement: Statement
    if kind in _SITE_STATEMENTS:
        claimed = _SITE_STATEMENTS[kind].read_unverified(envelope)
        signer = site or claimed.site
        statement = _SITE_STATEMENTS[kind].open(envelope, [bundle.site(signer).signing_key])
        return Verified(f"{_noun(kind)} of {signer}", f"site {signer}", statement.to_json())
    if site is not None and kind not in _SITE_SIGNED:
        raise CallerError("E-USAGE", f"a document of type {ascii(kind)[:80]} is not signed by a site", remedy="leave out --site")
    if kind == TrustBundle.payload_type:
        claimed_bundle = TrustBundle.read_unverified(envelope)
        statement = TrustBundle.open(envelope, bundle.roots.keys, threshold=bundle.roots.threshold)
        return Verified(f"trust bundle {claimed_bundle.version}", "the roots this machine trusts", statement.to_json())
    if kind == AgentStatement.payload_type:
        agent = open_agent_statement(envelope, bundle)
        _check_site(agent.site, site)
        return Verified(f"statement about {agent.identity}", f"site {agent.site}", agent.to_json())
    if kind == KemStatement.payload_type:
        kem = open_kem_statement(envelope, bundle)
        _check_site(kem.site, site)
        return Verified(f"KEM key {kem.number} of {kem.site}", f"site {kem.site}", kem.to_json())
    if kind == Approval.payload_type:
        return _verify_approval(envelope, bundle)
    if kind in _AGENT_DOCUMENTS:
        statement = _AGENT_DOCUMENTS[kind].open(envelope, [identity.signing_key.public])
        return Verified(_noun(kind), f"{identity.id} (this machine)", statement.to_json())
    raise CallerError("E-SOURCE", f"a document of type {ascii(kind)[:80]} is not one this version knows", remedy=_KNOWN)


def _verify_approval(envelope: Envelope, bundle: TrustBundle) -> Verified:
    """Check an approval by itself: by a key of that person, in a role of theirs. For what it counts, the site that holds says."""
    claimed = Approval.read_unverified(envelope)
    person = next((one for one in bundle.people if one.name == claimed.person), None)
    if person is None:
        raise IntegrityError("E-SIGNATURE", f"nobody called {claimed.person} is in trust bundle {bundle.version}")
    approval = Approval.open(envelope, person.keys)
    if approval.role not in person.roles:
        raise IntegrityError("E-TRUST", f"{person.name} does not hold the role {approval.role} in trust bundle {bundle.version}")
    what = "approval" if approval.verdict is Verdict.APPROVE else "rejection"
    return Verified(f"{what} by {person.name} ({approval.role})", f"{person.name}", approval.to_json())


def _check_site(signer: SiteName, wanted: SiteName | None) -> None:
    if wanted is not None and signer != wanted:
        raise IntegrityError("E-SIGNATURE", f"signed by site {signer}, not by {wanted}")


def _noun(payload_type: str) -> str:
    return payload_type.removeprefix("application/vnd.carnet.").removesuffix(".v1+json").replace("-", " ")
