"""The invite: one line that lets one machine enrol once.

The operator's gateway makes it and the agent reads it. It pins the site's issuing CA and the trust bundle's roots, so that the
first connection trusts nothing else. It holds a secret: it is never logged, and its repr leaves the secret out.

Rules:      1. the secret is sent only over a connection whose issuing CA has the pinned fingerprint
            2. the root fingerprint of a sealed lane comes from configuration, not from here (DESIGN section 5)
Layout:     `carnet1.` and base64url without padding of canonical JSON {ca, id, name, root, secret, site, url}
Spec:       docs/protocol.md section "Enrolment"
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Final, Self

from carnet.encoding import JsonValue, canonical, parse_object
from carnet.errors import CallerError, PeerError
from carnet.identifiers import AgentName, Digest, SiteName

PREFIX: Final = "carnet1."
SECRET_BYTES: Final = 32
INVITE_CHARS_MAX: Final = 4_096
_ANY = re.compile(r"[\x20-\x7e]{1,255}")
_ID = re.compile(r"[0-9a-f]{32}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"https://[A-Za-z0-9.\[\]:-]{1,255}")


@dataclass(frozen=True, kw_only=True)
class Invite:
    """What an invite says."""

    url: str
    """Where the site is, `https://host:port`."""
    site: SiteName
    name: AgentName
    ca: str
    """SHA-256 of the DER of the site's issuing CA, hex."""
    root: Digest
    """Fingerprint of the roots of the trust bundle."""
    id: str
    """Which invite this is, 32 hex digits; no secret."""
    secret: bytes = field(repr=False)

    def encode(self) -> str:
        """Return the line, without a newline. It is a secret."""
        body = canonical(
            {
                "ca": self.ca,
                "id": self.id,
                "name": self.name,
                "root": self.root,
                "secret": _encode(self.secret),
                "site": self.site,
                "url": self.url,
            }
        )
        return PREFIX + _encode(body)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the invite in `line`; raise `CallerError` E-INVITE, never showing it, if it is not one."""
        text = line.strip()
        if not text.startswith(PREFIX) or len(text) > INVITE_CHARS_MAX:
            raise CallerError("E-INVITE", f"not an invite: {len(text)} characters, expected a line that starts with {PREFIX}")
        try:
            invite = cls._read(_decode(text.removeprefix(PREFIX)))
        except (PeerError, CallerError, ValueError, KeyError, TypeError):
            raise CallerError("E-INVITE", "the invite is damaged; it may have been cut when it was copied") from None
        if len(invite.secret) != SECRET_BYTES or invite.encode() != text:
            raise CallerError("E-INVITE", "the invite is damaged; it may have been cut when it was copied")
        return invite

    @classmethod
    def _read(cls, body: bytes) -> Self:
        """Return what the JSON says; that it says nothing more is found by encoding it again."""
        members = parse_object(body, bytes_max=INVITE_CHARS_MAX)
        return cls(
            url=_match(_URL, members["url"]),
            site=SiteName(_match(_ANY, members["site"])),
            name=AgentName(_match(_ANY, members["name"])),
            ca=_match(_FINGERPRINT, members["ca"]),
            root=Digest(_match(_ANY, members["root"])),
            id=_match(_ID, members["id"]),
            secret=_decode(_match(_ANY, members["secret"])),
        )


def encode_secret(secret: bytes) -> str:
    """Return the secret as an enrolment request carries it."""
    return _encode(secret)


def decode_secret(text: str) -> bytes:
    """Return the secret in a request; raise `PeerError` E-REQUEST if it is not base64url of 32 bytes."""
    try:
        secret = _decode(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES or _encode(secret) != text:
        raise PeerError("E-REQUEST", f"an invite's secret is base64url of {SECRET_BYTES} bytes")
    return secret


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _match(pattern: re.Pattern[str], text: JsonValue) -> str:
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise ValueError("form")
    return text
