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
    "export.licence": (FactType.TEXT, "the licence or exception relied upon"),
    "legal.basis": (FactType.TEXT, "legal basis of a transfer of personal data"),
    "purpose": (FactType.TEXT, "why it is sent, such as deploy or test"),
    "parties.names": (FactType.TEXTS, "names of the parties concerned"),
    "parties.countries": (FactType.TEXTS, "ISO 3166 codes of the parties' countries"),
    "origin.site": (FactType.TEXT, "the site it comes from"),
    "origin.agent": (FactType.TEXT, "SPIFFE id of the originator"),
    "origin.initiator": (FactType.TEXT, "the person or job on whose behalf"),
    "origin.jurisdiction": (FactType.TEXT, "ISO 3166 code of the origin site"),
    "origin.operator": (FactType.TEXT, "legal entity that runs the origin site"),
    "destination.site": (FactType.TEXT, "the site it goes to"),
    "destination.jurisdiction": (FactType.TEXT, "ISO 3166 code of the destination site"),
    "destination.operator": (FactType.TEXT, "legal entity that runs the destination site"),
    "lane": (FactType.TEXT, "the lane's name; `home` inside one site"),
    "lane.mode": (FactType.TEXT, "inspected or sealed"),
    "content.inspected": (
        FactType.FLAG,
        "this site opened the content and found it to be what was signed; false at a sealed lane's origin",
    ),
    "lane.crosses_border": (FactType.FLAG, "origin and destination are in different countries"),
    "recipient.kind": (FactType.TEXT, "gateway, or agent or person for a pull: who gets the key"),
    "recipient.identity": (FactType.TEXT, "SPIFFE id of who gets the key"),
    "recipient.site": (FactType.TEXT, "the site that vouches for who gets the key"),
}
"""Every fact by name, with its type and meaning; the evaluation core is ready for more, this is what is built today."""

LABEL_PREFIX: Final = "label."
"""Facts `label.<key>` are the waybill's free labels, as text."""


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
        if wanted is FactType.TEXTS:
            return Fact(value, assurance, source)
    elif isinstance(value, str):
        if wanted is FactType.TEXT:
            return Fact(str(value), assurance, source)
    elif (isinstance(value, bool) and wanted is FactType.FLAG) or (
        isinstance(value, int) and not isinstance(value, bool) and wanted is FactType.NUMBER
    ):
        return Fact(value, assurance, source)
    raise CallerError("E-POLICY", f"the fact {name} is a {wanted.value}, got {type(value).__name__}")
