"""The key release: an artifact key wrapped to one recipient; and the resume keys an agent wraps to itself.

HPKE gives secrecy only. Everything a wrap must not be moved away from goes into `info`; who made it is proved by the packing
list's signature and key commitment, never by the wrap.

Rules:      1. `info` is unambiguous: each field has its length before it  2. an unwrapped key is compared with the packing list's
            commitment before anyone uses it  3. a release is for one key of one recipient, named by digest
Layout:     info = fields, each u16 big-endian length || bytes, in the order of `release_info`
Spec:       docs/statements.md sections "Key release" and "Resume keys"; RFC 9180
Example:    >>> site_recipient("acme.example", SiteName("eu"))
            'spiffe://acme.example/site/eu/gateway/eu'
"""

import hmac
from typing import Annotated, ClassVar, Final, NamedTuple

from pydantic import Field

from carnet.encoding import decode_base64, encode_base64
from carnet.errors import IntegrityError
from carnet.identifiers import LaneName, Repository, SiteName, SpiffeId, Tag, TransferId
from carnet.keys import WRAP_OVERHEAD_BYTES, KemPrivateKey, KemPublicKey, key_commitment, unwrap, wrap
from carnet.packing import PackingList
from carnet.statement import Base64Text, Hex32, Positive, Statement, WireModel
from carnet.suites import KEY_BYTES, check_suite
from carnet.timestamps import Timestamp

RELEASE_LABEL: Final = b"carnet/release/v1"
RESUME_LABEL: Final = b"carnet/resume/v1"
_WRAPPED_CHARS_MAX = (WRAP_OVERHEAD_BYTES + 2 * KEY_BYTES + 2) // 3 * 4
_FIELD_BYTES_MAX = 65_535


class KeyRelease(WireModel):
    """An artifact key for one recipient, as messages carry it; it holds no secret that another could read.

    `key_number` and `key_digest` say which of the recipient's KEM keys opens it.
    """

    suite: Positive
    recipient: SpiffeId
    key_number: Positive
    key_digest: Hex32
    wrapped: Annotated[Base64Text, Field(max_length=_WRAPPED_CHARS_MAX)]


def site_recipient(trust_domain: str, site: SiteName) -> SpiffeId:
    """Return the identity under which a site, whichever replica, receives keys."""
    return SpiffeId.make(trust_domain, site, "gateway", site)


def release_info(packing: PackingList, recipient: SpiffeId, key_digest: str) -> bytes:
    """Return what a release is bound to: suite, transfer, waybill, packing list, recipient, digest of its public key.

    Raises:
        PeerError: E-FORMAT if the packing list's suite is unknown.
    """
    return join_info(
        RELEASE_LABEL,
        bytes((check_suite(packing.suite),)),
        packing.transfer.raw,
        packing.waybill.raw,
        packing.digest.raw,
        recipient.encode("ascii"),
        bytes.fromhex(key_digest),
    )


def make_release(
    packing: PackingList, artifact_key: bytes, *, recipient: SpiffeId, key_number: int, public: KemPublicKey
) -> KeyRelease:
    """Return `artifact_key` wrapped to key `key_number` of `recipient`, for the artifact that `packing` describes.

    Raises:
        IntegrityError: E-COMMITMENT if `artifact_key` is not the one that `packing` commits to.
    """
    _check_commitment(packing, artifact_key)
    wrapped = wrap(public, artifact_key, release_info(packing, recipient, public.digest))
    return KeyRelease(
        suite=packing.suite,
        recipient=recipient,
        key_number=key_number,
        key_digest=public.digest,
        wrapped=encode_base64(wrapped),
    )


def open_release(release: KeyRelease, packing: PackingList, private: KemPrivateKey, *, recipient: SpiffeId) -> bytes:
    """Return the artifact key that `release` holds for `recipient`, who is us.

    Steps: (1) suite, recipient and key are ours; (2) unwrap under the info of the signed packing list; (3) compare the key with
    the packing list's commitment.

    Raises:
        IntegrityError: E-KEY-RELEASE if it is for another or does not unwrap; E-COMMITMENT if the key is a wrong one.
        PeerError: E-FORMAT if the suite is unknown.
    """
    if (release.suite, release.recipient) != (packing.suite, recipient):  # (1)
        raise IntegrityError("E-KEY-RELEASE", f"the release is for {release.recipient} suite {release.suite}, not {recipient}")
    if release.key_digest != private.public.digest:
        raise IntegrityError(
            "E-KEY-RELEASE", f"the release is for key {release.key_digest[:16]}, not {private.public.keyid[:16]}"
        )
    info = release_info(packing, recipient, private.public.digest)
    artifact_key = unwrap(private, decode_base64(release.wrapped), info)  # (2)
    _check_commitment(packing, artifact_key)  # (3)
    return artifact_key


class ResumePair(NamedTuple):
    """The two keys that a restarted push needs; the repr shows neither."""

    resume_key: bytes
    lineage_key: bytes

    def __repr__(self) -> str:
        return "ResumePair()"


class ResumeKeys(Statement):
    """Resume key and lineage key of an unfinished transfer, wrapped by an agent to itself and signed by it.

    The site keeps it for the agent, so another machine with the same identity can continue; it is used only if the signature is
    by the agent's own key.
    """

    payload_type: ClassVar[str] = "application/vnd.carnet.resume-keys.v1+json"

    agent: SpiffeId
    transfer: TransferId
    lane: LaneName
    repository: Repository
    tag: Tag
    suite: Positive
    chunk_average: Positive
    key_digest: Hex32
    wrapped: Annotated[Base64Text, Field(max_length=_WRAPPED_CHARS_MAX)]
    at: Timestamp

    @classmethod
    def make(  # noqa: PLR0913 - each is a field of the document; a bag of them would only hide that
        cls,
        pair: ResumePair,
        public: KemPublicKey,
        *,
        agent: SpiffeId,
        transfer: TransferId,
        lane: LaneName,
        repository: Repository,
        tag: Tag,
        suite: int,
        chunk_average: int,
        at: str,
    ) -> "ResumeKeys":
        """Return the statement, to be signed by the agent, with `pair` wrapped to its own `public` key."""
        draft = cls(
            agent=agent,
            transfer=transfer,
            lane=lane,
            repository=repository,
            tag=tag,
            suite=suite,
            chunk_average=chunk_average,
            key_digest=public.digest,
            wrapped="",
            at=at,
        )
        wrapped = wrap(public, pair.resume_key + pair.lineage_key, draft.info())
        return draft.model_copy(update={"wrapped": encode_base64(wrapped)})

    def info(self) -> bytes:
        """Return what the wrap is bound to: every field but the wrap itself and the time."""
        return join_info(
            RESUME_LABEL,
            bytes((check_suite(self.suite),)),
            self.agent.encode("ascii"),
            self.transfer.raw,
            self.lane.encode("ascii"),
            self.repository.encode("ascii"),
            self.tag.encode("ascii"),
            self.chunk_average.to_bytes(8, "big"),
            bytes.fromhex(self.key_digest),
        )

    def open_keys(self, private: KemPrivateKey) -> ResumePair:
        """Return the two keys; the caller has verified the signature as its own.

        Raises:
            IntegrityError: E-KEY-RELEASE if it was not wrapped to this key for this transfer.
            PeerError: E-FORMAT if the suite is unknown.
        """
        secret = unwrap(private, decode_base64(self.wrapped), self.info())
        if self.key_digest != private.public.digest or len(secret) != 2 * KEY_BYTES:
            raise IntegrityError("E-KEY-RELEASE", f"resume keys of {self.transfer} are not two keys for this agent")
        return ResumePair(secret[:KEY_BYTES], secret[KEY_BYTES:])


def _check_commitment(packing: PackingList, artifact_key: bytes) -> None:
    if len(artifact_key) != KEY_BYTES:
        raise IntegrityError("E-COMMITMENT", f"an artifact key of {len(artifact_key)} bytes, expected {KEY_BYTES}")
    commitment = key_commitment(packing.suite, artifact_key, packing.transfer)
    if not hmac.compare_digest(commitment.hex(), packing.key_commitment):
        raise IntegrityError("E-COMMITMENT", f"the key is not the one that packing list {packing.digest} commits to")


def join_info(*fields: bytes) -> bytes:
    """Return the `info` of a wrap: `fields` with a u16 length before each, so that no two lists of fields give the same bytes."""
    if any(len(field) > _FIELD_BYTES_MAX for field in fields):
        raise ValueError("a field of an info string is longer than 65535 bytes")
    return b"".join(len(field).to_bytes(2, "big") + field for field in fields)
