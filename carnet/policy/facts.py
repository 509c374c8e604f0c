"""Facts: what rules read. A flat dotted name, a value, how sure we are of it, and who said so.

The table below is the whole vocabulary. A rule about a name that is not in it is an error of the policy, found before the
policy is used, so a misspelt name cannot quietly never match.

Rules:      1. a fact that is not known is absent, never guessed  2. a value has the type its name has in `FACTS`
            3. nothing here is a nationality; who may receive is said by groups that a person issues
Spec:       docs/policy.md section "Facts"; COMPLIANCE section 5
Example:    >>> fact_type("artifact.size").name, fact_type("label.team").name, fact_type("artifact.sise")
            ('NUMBER', 'TEXT', None)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntEnum
from typing import Final, TypeAlias

from carnet.encoding import JsonValue
from carnet.errors import CallerError

FactValue: TypeAlias = bool | int | str | tuple[str, ...]


class FactType(Enum):
    """What values a fact may have."""

    TEXT = "text"
    TEXTS = "list of texts"
    NUMBER = "integer"
    FLAG = "true or false"
    CODE = "ISO 3166 code"
    CODES = "list of ISO 3166 codes"

    @property
    def phrase(self) -> str:
        """What a fact of it is, with its article."""
        article = {FactType.NUMBER: "an ", FactType.CODE: "an ", FactType.FLAG: ""}.get(self, "a ")
        return f"{article}{self.value}"

    @property
    def is_text(self) -> bool:
        """Whether its values are text, or lists of text."""
        return self not in (FactType.NUMBER, FactType.FLAG)

    @property
    def is_code(self) -> bool:
        """Whether its values name jurisdictions."""
        return self in (FactType.CODE, FactType.CODES)


class Assurance(IntEnum):
    """How a fact is known; a later one is worth more."""

    DECLARED = 0
    """Somebody said so."""
    DERIVED = 1
    """This site worked it out from content or from its trust bundle."""
    ATTESTED = 2
    """A party that the policy names signed it."""
    VERIFIED = 3
    """This site checked it itself against a signature it trusts."""

    @property
    def word(self) -> str:
        """The lower-case word that documents use."""
        return self.name.lower()


@dataclass(frozen=True)
class Fact:
    """One fact; `source` says where it comes from in a few words, such as `waybill` or `trust bundle 7`."""

    value: FactValue
    assurance: Assurance
    source: str


Facts: TypeAlias = Mapping[str, Fact]

FACTS: Final[dict[str, tuple[FactType, str]]] = {
    "artifact.kind": (FactType.TEXT, "image, index, file, directory, patch or bundle"),
    "artifact.repository": (FactType.TEXT, "the repository it is sent to"),
    "artifact.tag": (FactType.TEXT, "the tag it is sent to"),
    "artifact.media_type": (FactType.TEXT, "the media type of its manifest"),
    "artifact.size": (FactType.NUMBER, "bytes of all its parts together"),
    "artifact.classification": (FactType.TEXT, "the sender's classification, such as public, internal or export-controlled"),
    "data.categories": (FactType.TEXTS, "categories of data in it, such as personal or health"),
    "export.number": (FactType.TEXT, "export control number, such as EAR99 or 5D002"),
    "export.licence": (FactType.TEXT, "the licence, exception or legal instrument relied upon, by its id"),
    "export.value": (FactType.NUMBER, "what it is worth, in whole units of the currency"),
    "export.currency": (FactType.TEXT, "the currency of that, such as EUR"),
    "legal.basis": (FactType.TEXT, "legal basis of a transfer of personal data"),
    "purpose": (FactType.TEXT, "why it is sent, such as deploy or test"),
    "parties.names": (FactType.TEXTS, "names of the parties concerned"),
    "parties.countries": (FactType.CODES, "of the parties concerned"),
    "origin.site": (FactType.TEXT, "the site it comes from"),
    "origin.agent": (FactType.TEXT, "SPIFFE id of the originator"),
    "origin.initiator": (FactType.TEXT, "the person or job on whose behalf"),
    "origin.jurisdiction": (FactType.CODE, "where the origin site is"),
    "origin.operator": (FactType.TEXT, "legal entity that runs the origin site"),
    "destination.site": (FactType.TEXT, "the site it goes to"),
    "destination.jurisdiction": (FactType.CODE, "where the destination site is"),
    "destination.operator": (FactType.TEXT, "legal entity that runs the destination site"),
    "lane": (FactType.TEXT, "the lane's name; `home` inside one site"),
    "lane.mode": (FactType.TEXT, "inspected or sealed"),
    "lane.reviews_overdue": (FactType.NUMBER, "reviews of transfers on this lane that nobody did in time"),
    "content.inspected": (
        FactType.FLAG,
        "this site opened the content and found it to be what was signed; false at a sealed lane's origin",
    ),
    "lane.crosses_border": (FactType.FLAG, "origin and destination are in different countries"),
    "recipient.kind": (FactType.TEXT, "gateway, or agent or person for a pull: who gets the key"),
    "recipient.identity": (FactType.TEXT, "SPIFFE id of who gets the key"),
    "recipient.site": (FactType.TEXT, "the site that vouches for who gets the key"),
    "recipient.is_originator": (FactType.FLAG, "who gets the key is the agent that sent the artifact"),
    "path.countries": (FactType.CODES, "of every site on the lane: origin, relays of any of its routes, destination"),
    "path.relays": (FactType.TEXTS, "relays of any route of the lane; none has a key"),
    "storage.countries": (FactType.CODES, "where sealed bytes may rest: origin, relays that store, destination"),
    "custody.countries": (FactType.CODES, "where those are who hold or get a key: origin, destination"),
    "custody.sites": (FactType.TEXTS, "sites that hold or get a key"),
    "export.published": (FactType.FLAG, "its source is published, as the law means it"),
    "export.usml": (FactType.TEXT, "category of the US Munitions List"),
    "data.subjects_countries": (FactType.CODES, "of the persons that the data is about"),
    "content.personal_data": (FactType.TEXT, "none, or what was found"),
    "content.public_digest_match": (FactType.FLAG, "its digest is that of the public release"),
    "content.secrets": (FactType.NUMBER, "secrets found in it"),
    "kev.match": (FactType.FLAG, "something in it is on a list of exploited vulnerabilities"),
    "licence.assessment_days": (FactType.NUMBER, "days since the assessment that the licence rests on, such as a TIA"),
    "licence.covers": (FactType.FLAG, "the licence names the item, the parties and the destination"),
    "licence.kind": (FactType.TEXT, "the kind of the licence or legal basis in the ledger, such as TAA, DPF or SCC"),
    "licence.remaining": (FactType.FLAG, "this site's share of the licence has room for this release"),
    "licence.valid": (FactType.FLAG, "the licence is in force"),
    "metadata.clean": (FactType.FLAG, "names and labels that travel in the clear say nothing of the content"),
    "provenance.days": (FactType.NUMBER, "days since the build that the provenance tells of"),
    "provenance.signer_set": (FactType.TEXT, "the set of identities that the provenance's signer is in"),
    "recipient.end_use": (FactType.TEXT, "what the recipient stated it is for"),
    "recipient.government": (FactType.FLAG, "the end user is a government"),
    "recipient.groups": (FactType.TEXTS, "authorisation groups that a person issued to who gets the key"),
    "recipient.groups_expired": (FactType.FLAG, "a group that it was released under has expired since"),
    "recipient.ownership_days": (FactType.NUMBER, "days since the evidence of who owns the recipient"),
    "sbom.format": (FactType.TEXTS, "formats of the bills of material that came with it"),
    "scan.critical_fixable": (FactType.NUMBER, "critical findings for which there is a fix"),
    "scan.hours": (FactType.NUMBER, "hours since the scan"),
    "screening.band": (FactType.TEXT, "what screening of the parties gave: none, possible or hit"),
    "screening.list_hours": (FactType.NUMBER, "age of the oldest list that was screened against"),
    "suite.fips": (FactType.FLAG, "every suite of the lane is of a module validated under FIPS 140-3"),
    "switch.bis_affiliates_50": (FactType.FLAG, "the rule on affiliates of listed entities is in force"),
}
"""Every fact by name, with its type and meaning."""


VALUES: Final[dict[str, tuple[str, ...]]] = {
    "artifact.kind": ("image", "index", "file", "directory", "patch", "bundle"),
    "lane.mode": ("inspected", "sealed"),
    "recipient.kind": ("gateway", "agent", "person"),
}
"""Facts that a site finds out and that have no other values than these: a rule that asks for another would never apply."""


class Supplier(Enum):
    """Who makes a fact known."""

    SENDER = "the sender, with the push"
    SITE = "the site itself"
    LICENCE = "whoever keeps licences: `carnet-gateway licence add`"
    PEOPLE = "whoever may attest it: `carnet-gateway attest`"


LABEL_PREFIX: Final = "label."
"""Facts `label.<key>` are the waybill's free labels, as text."""
AGES: Final = {
    "provenance.days": timedelta(days=1),
    "recipient.ownership_days": timedelta(days=1),
    "scan.hours": timedelta(hours=1),
    "screening.list_hours": timedelta(hours=1),
}
"""Facts that grow with time, and what they count."""
_KINDS: Final = {bool: "true or false", int: "an integer", str: "a text", list: "a list", tuple: "a list"}
_BY_PEOPLE: Final = ("content.", "kev.", "metadata.", "provenance.", "sbom.", "scan.", "screening.", "switch.")
_PEOPLE_TOO: Final = frozenset(
    {
        "artifact.classification",
        "data.categories",
        "data.subjects_countries",
        "export.number",
        "export.published",
        "export.usml",
        "recipient.end_use",
        "recipient.government",
        "recipient.groups",
        "recipient.ownership_days",
    }
)
_DECLARED: Final = frozenset(
    {
        "artifact.classification",
        "data.categories",
        "export.currency",
        "export.licence",
        "export.number",
        "export.value",
        "legal.basis",
        "parties.countries",
        "parties.names",
        "purpose",
    }
)


def is_attestable(name: str) -> bool:
    """Tell whether people may attest the fact: what a site finds out itself nobody can say otherwise."""
    return name in _PEOPLE_TOO or (name in FACTS and name.startswith(_BY_PEOPLE) and name != "content.inspected")


def supplier(name: str) -> Supplier:
    """Return who makes the fact known; of one that is declared and can be attested, the sender."""
    if name in _DECLARED or name.startswith(LABEL_PREFIX):
        return Supplier.SENDER
    if name.startswith("licence."):
        return Supplier.LICENCE
    return Supplier.PEOPLE if is_attestable(name) else Supplier.SITE


def fact_type(name: str) -> FactType | None:
    """Return the type of the fact, or None if there is no such fact."""
    if name.startswith(LABEL_PREFIX) and len(name) > len(LABEL_PREFIX):
        return FactType.TEXT
    found = FACTS.get(name)
    return None if found is None else found[0]


def make_fact(name: str, value: JsonValue, assurance: Assurance, source: str) -> Fact:
    """Return the fact; raise `CallerError` E-POLICY if there is no such fact or the value has another type (rule 2)."""
    wanted = fact_type(name)
    if wanted is None:
        raise CallerError("E-POLICY", f"no fact is called {name!a}")
    if isinstance(value, list | tuple) and all(isinstance(member, str) for member in value):
        value = tuple(str(member) for member in value)
        if wanted in (FactType.TEXTS, FactType.CODES):
            return Fact(value, assurance, source)
    elif isinstance(value, str):
        if wanted in (FactType.TEXT, FactType.CODE):
            return Fact(str(value), assurance, source)
    elif (isinstance(value, bool) and wanted is FactType.FLAG) or (
        isinstance(value, int) and not isinstance(value, bool) and wanted is FactType.NUMBER
    ):
        return Fact(value, assurance, source)
    raise CallerError("E-POLICY", f"the fact {name} is {wanted.phrase}, and not {_KINDS.get(type(value), 'a mapping')}")
