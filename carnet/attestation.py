"""The attestation: facts that people vouch for about a site, an identity, a repository, an artifact or a lane, for a time.

Where no machine can know (who is authorised, what an item is classified as, what a recipient said it is for), somebody whose
office it is signs it, and a policy says which role's word counts for which fact.

Rules:      1. it is about one thing  2. it ends, at most `LIFE_MAX` after it begins
            3. it says what somebody is authorised for, never why: nothing here is a nationality
            4. an age grows: what was two days old when it was signed is three days old a day later
Spec:       docs/statements.md section "Attestation"; COMPLIANCE section 0.10
Example:    >>> Subject(site=SiteName("au")).key
            'site:au'
"""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Final, Self, cast

from pydantic import Field, model_validator

from carnet.encoding import JsonValue
from carnet.identifiers import Digest, LaneName, Repository, SiteName, SpiffeId
from carnet.statement import FactMap, Positive, ShortText, Statement, Unique, WireModel, Word
from carnet.timestamps import Timestamp, parse_time

LIFE_MAX: Final = timedelta(days=366)
_DOCUMENTS_MAX = 64


class Subject(WireModel):
    """The one thing that an attestation is about."""

    site: SiteName | None = None
    identity: SpiffeId | None = None
    repository: Repository | None = None
    artifact: Digest | None = None
    lane: LaneName | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.to_json()) != 1:
            raise ValueError("an attestation is about one of site, identity, repository, artifact and lane")
        return self

    @property
    def key(self) -> str:
        """What it is about, as one text."""
        (kind, name), *_ = self.to_json().items()
        return f"{kind}:{name}"


class Attestation(Statement):
    """One edition of an attestation: from `at` until `not_after` these facts hold of `about`; a later edition replaces it."""

    payload_type: ClassVar[str] = "application/vnd.carnet.attestation.v1+json"

    id: Word
    edition: Positive
    about: Subject
    facts: Annotated[FactMap, Field(min_length=1)]
    reference: ShortText | None = None
    documents: Annotated[tuple[Digest, ...], Field(max_length=_DOCUMENTS_MAX), Unique] = ()
    at: Timestamp
    not_after: Timestamp

    @model_validator(mode="after")
    def _check(self) -> Self:
        life = parse_time(self.not_after) - parse_time(self.at)
        if life <= timedelta(0):
            raise ValueError("not_after is not after at")
        if life > LIFE_MAX:
            raise ValueError(f"it holds for {life.days} days, at most {LIFE_MAX.days}")
        return self

    def holds_at(self, moment: datetime) -> bool:
        """Tell whether `moment` is within its time."""
        return parse_time(self.at) <= moment < parse_time(self.not_after)

    def value(self, name: str, now: datetime, unit: timedelta | None) -> JsonValue:
        """Return what it says of the fact at `now`; of an age, counted in `unit`, with what passed since (rule 4)."""
        said = cast("JsonValue", self.facts[name])
        if unit is None or isinstance(said, bool) or not isinstance(said, int):
            return said
        return said + max(0, (now - parse_time(self.at)) // unit)
