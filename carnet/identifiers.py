"""Names and ids as types: a value of one of these classes has been checked against its grammar.

Each is a `str` that cannot be made from text that breaks the grammar, so code past the edge never checks again. Equality and
hashing are those of the text; pydantic models take the classes as field types.

Rules:      1. `parse` or the constructor is the only way in  2. ids are compared as text, secrets never are ids
Spec:       docs/formats.md section "Identifiers"; OCI distribution-spec 1.1 (repository, tag); SPIFFE-ID section 2; ISO 3166-1/-2
Example:    >>> SegmentId.from_binary(bytes([1]) + bytes(32)).startswith("b3-00")
            True
"""

import hashlib
import re
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from carnet.errors import CallerError

BINARY_ID_BYTES = 33
"""Length of a binary segment id: one algorithm byte and 32 bytes of hash."""
_SHOWN_CHARS_MAX = 80


class _Name(str):
    """A string with a grammar; subclasses give `pattern` and `what`."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    what: ClassVar[str]
    rule: ClassVar[str]
    """The grammar in words, for whoever wrote something else."""

    def __new__(cls, text: str) -> Self:
        """Return the name, or raise `CallerError` E-NAME if `text` breaks the grammar."""
        if cls.pattern.fullmatch(text) is None:
            shown = ascii(text)[:_SHOWN_CHARS_MAX]
            raise CallerError("E-NAME", f"not a valid {cls.what}: {shown}", remedy=f"write {cls.rule}")
        return super().__new__(cls, text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate through the constructor, so that a model field is as strict as a direct call."""

        def check(text: str) -> _Name:
            try:
                return cls(text)
            except CallerError as error:
                raise ValueError(error.problem) from None

        return core_schema.no_info_after_validator_function(check, core_schema.str_schema())


class SiteName(_Name):
    """A site's short name, unique in its trust bundle: 1 to 63 of `a-z 0-9 -`, no dash at an end."""

    __slots__ = ()
    pattern = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
    what = "site name"
    rule = "1 to 63 of a-z, 0-9 and -, without - at an end"


class LaneName(SiteName):
    """A lane's name, same grammar as a site's; `home` is the lane inside each site."""

    __slots__ = ()
    what = "lane name"


class AgentName(SiteName):
    """An agent's or person's short name, same grammar as a site's."""

    __slots__ = ()
    what = "agent or person name"


class Jurisdiction(_Name):
    """ISO 3166-1 alpha-2 (`DE`) or 3166-2 (`US-VA`)."""

    __slots__ = ()
    pattern = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")
    what = "jurisdiction (ISO 3166 code)"
    rule = "a country such as DE, or a part of one such as US-VA"


class Repository(_Name):
    """An OCI repository name: lower-case components separated by `/`, at most 255 characters."""

    __slots__ = ()
    pattern = re.compile(r"(?=.{1,255}\Z)[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
    what = "repository"
    rule = "lower-case letters, digits and single separators, parts joined by /, at most 255 characters, as in team/app"


class Tag(_Name):
    """An OCI tag: a letter, digit or `_`, then up to 127 of letters, digits, `._-`."""

    __slots__ = ()
    pattern = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
    what = "tag"
    rule = "1 to 128 letters, digits, ., _ and -, beginning with none of . and -, as in v1.2"


class Digest(_Name):
    """A SHA-256 digest as OCI writes it: `sha256:` and 64 lower-case hex digits."""

    __slots__ = ()
    pattern = re.compile(r"sha256:[0-9a-f]{64}")
    what = "digest (sha256:<64 hex digits>)"
    rule = "sha256: and 64 lower-case hex digits"

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Return the digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """Return the digest whose 32 hash bytes are `raw`."""
        return cls("sha256:" + raw.hex())

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the hash."""
        return bytes.fromhex(self[7:])

    @property
    def hex(self) -> str:
        """The 64 hex digits, without the algorithm."""
        return self[7:]


class TransferId(_Name):
    """128 random bits as 32 lower-case hex digits, made by the agent; the idempotency key everywhere."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{32}")
    what = "transfer id (32 hex digits)"
    rule = "the 32 lower-case hex digits that push printed; `carnet transfer list` shows them"

    @property
    def raw(self) -> bytes:
        """The 16 bytes."""
        return bytes.fromhex(self)


class PassageId(_Name):
    """128 random bits as 32 lower-case hex digits, made by the origin: one use of one route by one delivery."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{32}")
    what = "passage id (32 hex digits)"
    rule = "32 lower-case hex digits"

    @property
    def raw(self) -> bytes:
        """The 16 bytes."""
        return bytes.fromhex(self)


class SegmentId(_Name):
    """The hash of a whole sealed segment: `b3-` (BLAKE3) or `s2-` (SHA-256) and 64 hex digits."""

    __slots__ = ()
    pattern = re.compile(r"(?:b3|s2)-[0-9a-f]{64}")
    what = "segment id"
    rule = "b3- or s2- and 64 lower-case hex digits"
    _prefix_of: ClassVar[dict[int, str]] = {1: "b3-", 2: "s2-"}
    _byte_of: ClassVar[dict[str, int]] = {"b3-": 1, "s2-": 2}

    @classmethod
    def from_binary(cls, binary: bytes) -> Self:
        """Return the id from its 33 bytes; raise `CallerError` E-NAME if length or algorithm is wrong."""
        prefix = cls._prefix_of.get(binary[0]) if len(binary) == BINARY_ID_BYTES else None
        if prefix is None:
            raise CallerError("E-NAME", f"not a binary segment id: {len(binary)} bytes starting {binary[:1].hex()!r}")
        return cls(prefix + binary[1:].hex())

    @property
    def binary(self) -> bytes:
        """The algorithm byte and the 32 bytes of the hash."""
        return bytes((self._byte_of[self[:3]],)) + bytes.fromhex(self[3:])


class SpiffeId(_Name):
    """An identity: `spiffe://<trust-domain>/site/<site>/<agent|gateway|person>/<name>`; nothing percent-encoded."""

    __slots__ = ()
    pattern = re.compile(
        r"spiffe://[a-z0-9](?:[a-z0-9.-]{0,253}[a-z0-9])?/site/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
        r"/(?:agent|gateway|person)/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    )
    what = "SPIFFE id"
    rule = "spiffe://TRUST-DOMAIN/site/SITE/KIND/NAME, where KIND is agent, gateway or person"

    @classmethod
    def make(cls, trust_domain: str, site: SiteName, kind: str, name: str) -> Self:
        """Return the identity of `name` (an agent, a gateway or a person, by `kind`) at `site`."""
        return cls(f"spiffe://{trust_domain}/site/{site}/{kind}/{name}")

    @property
    def trust_domain(self) -> str:
        """The organisation's trust domain."""
        return self.split("/")[2]

    @property
    def site(self) -> SiteName:
        """The site that vouches for this identity."""
        return SiteName(self.split("/")[4])

    @property
    def kind(self) -> str:
        """`agent`, `gateway` or `person`."""
        return self.split("/")[5]

    @property
    def name(self) -> str:
        """The last component."""
        return self.split("/")[6]
