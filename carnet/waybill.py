"""The waybill: what moves, signed by the originator; it never changes on the way.

Policy reads it as declared facts, the weakest kind: what the sender says about itself. Nothing here judges whether they are true.

Rules:      1. the originator's agent belongs to the origin site  2. it ends after it begins
            3. destinations are named, each once  4. an absent declaration is an absent fact, never an empty one
Spec:       docs/statements.md section "Waybill"
Example:    >>> sorted(Declarations(purpose="spare part").to_json())
            ['data_categories', 'labels', 'parties', 'purpose']
"""

from typing import Annotated, ClassVar, Final, Protocol, Self

from pydantic import Field, model_validator

from carnet.encoding import JsonValue
from carnet.identifiers import Digest, Jurisdiction, LaneName, Repository, SiteName, SpiffeId, Tag, TransferId
from carnet.limits import DESTINATIONS_MAX
from carnet.oci import ArtifactKind
from carnet.statement import Count, Currency, MediaType, Positive, ShortText, Statement, Text, Unique, WireModel, Word
from carnet.timestamps import Timestamp

__all__ = [
    "ArtifactKind",
    "Declarations",
    "Declared",
    "Descriptor",
    "Origin",
    "Party",
    "Provenance",
    "Waybill",
    "declared_facts",
]

_LIST_MAX = 64


class Origin(WireModel):
    """Where an artifact comes from: the site, the agent that signs, and on whose behalf (a person or a job)."""

    site: SiteName
    agent: SpiffeId
    initiator: ShortText | None = None


class Party(WireModel):
    """Someone involved in the crossing, such as the consignee or the end user, and where they are."""

    role: Word
    name: ShortText
    country: Jurisdiction | None = None


class Descriptor(WireModel):
    """A document that belongs to the artifact: what it is, and the bytes it is."""

    media_type: MediaType
    digest: Digest
    size: Count
    predicate_type: ShortText | None = None


class Provenance(WireModel):
    """What the originator says about the build: who built it, from which source, in which run."""

    builder: ShortText
    source: ShortText | None = None
    revision: ShortText | None = None
    run: ShortText | None = None


CONTROLLED: Final = frozenset({"export-controlled", "cui", "classified"})
"""Classifications of content that is controlled by law: it is given out only while everything about trust is fresh."""


class Declarations(WireModel):
    """What the originator declares for export and data-protection law; each is optional, policy says what it needs."""

    classification: ShortText | None = None
    data_categories: Annotated[tuple[Word, ...], Field(max_length=_LIST_MAX), Unique] = ()
    export_control_number: ShortText | None = None
    licence: ShortText | None = None
    legal_basis: ShortText | None = None
    purpose: Text | None = None
    parties: Annotated[tuple[Party, ...], Field(max_length=_LIST_MAX)] = ()
    value: Count | None = None
    """What it is worth, in whole units of `currency` (ISO 4217)."""
    currency: Currency | None = None
    labels: Annotated[dict[Word, ShortText], Field(max_length=_LIST_MAX)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.value is None) != (self.currency is None):
            raise ValueError("value and currency are declared together")
        return self

    @property
    def is_controlled(self) -> bool:
        """Whether the content is of a controlled class, or has an export control number."""
        return self.classification in CONTROLLED or self.export_control_number is not None


class Waybill(Statement):
    """What moves. `digest` of the model (SHA-256 of its payload) is the waybill digest; `artifact` names the root manifest.

    `size` is the plaintext bytes of all parts of the closure. `closure` is the digest of its sorted table. `turn` is one more
    than that of `previous`, the waybill this tag pointed to at the origin, or any number from 1 if it pointed to none.
    """

    payload_type: ClassVar[str] = "application/vnd.carnet.waybill.v1+json"

    transfer: TransferId
    repository: Repository
    tag: Tag
    kind: ArtifactKind
    media_type: MediaType
    artifact: Digest
    size: Count
    closure: Digest
    origin: Origin
    at: Timestamp
    not_after: Timestamp
    previous: Digest | None = None
    turn: Positive
    destinations: Annotated[tuple[SiteName, ...], Field(min_length=1, max_length=DESTINATIONS_MAX), Unique]
    lane: LaneName
    trust_version: Positive
    declarations: Declarations = Declarations()
    attestations: Annotated[tuple[Descriptor, ...], Field(max_length=_LIST_MAX)] = ()
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.origin.agent.site != self.origin.site:
            raise ValueError("the origin's agent belongs to another site")
        # Both are one fixed form in UTC, so text order is time order.
        if self.not_after <= self.at:
            raise ValueError("not_after is not after at")
        if self.previous is not None and self.turn == 1:
            raise ValueError("a waybill with a previous one is at least turn 2")
        return self


class Declared(Protocol):
    """What facts are read from: a waybill, or an agent's declaration, which may not know the size yet."""

    @property
    def repository(self) -> Repository: ...  # noqa: D102 - named by the class
    @property
    def tag(self) -> Tag: ...  # noqa: D102
    @property
    def kind(self) -> ArtifactKind: ...  # noqa: D102
    @property
    def media_type(self) -> str | None: ...  # noqa: D102
    @property
    def size(self) -> int | None: ...  # noqa: D102
    @property
    def lane(self) -> LaneName: ...  # noqa: D102
    @property
    def declarations(self) -> Declarations: ...  # noqa: D102


def declared_facts(declared: Declared, origin: Origin) -> dict[str, JsonValue]:
    """Return the declared facts under their flat names; what was not declared has no name here (rule 4).

    `origin` is the waybill's own, or, before there is a waybill, who declares on the authenticated connection.

    Destination and consumer are the caller's to add: one document is judged for each of them.
    """
    said = declared.declarations
    facts: dict[str, JsonValue] = {
        "artifact.kind": declared.kind.value,
        "artifact.repository": declared.repository,
        "artifact.tag": declared.tag,
        "artifact.media_type": declared.media_type,
        "artifact.size": declared.size,
        "artifact.classification": said.classification,
        "data.categories": list(said.data_categories) or None,
        "export.number": said.export_control_number,
        "export.licence": said.licence,
        "export.value": said.value,
        "export.currency": said.currency,
        "legal.basis": said.legal_basis,
        "purpose": said.purpose,
        "parties": [party.to_json() for party in said.parties] or None,
        "origin.site": origin.site,
        "origin.agent": origin.agent,
        "origin.initiator": origin.initiator,
        "lane": declared.lane,
    }
    facts.update({f"label.{key}": value for key, value in said.labels.items()})
    return {name: str(value) if isinstance(value, str) else value for name, value in facts.items() if value is not None}
