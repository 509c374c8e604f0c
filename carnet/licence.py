"""The licence: what an authority, or a legal instrument, permits: of what, to whom, where, when, how often, for how much.

People sign it; each site that may use it has a share of its own, so two sites that release at once cannot use more than there is,
whether they can reach each other or not. How much of its share a site has used is that site's ledger.

Rules:      1. the shares of all sites together are no more than the whole  2. what a list of a licence does not name is not
            covered; an empty list names everything  3. a limit of value counts one currency  4. a day is one in UTC
Spec:       docs/statements.md section "Licence"; COMPLIANCE section 5
Example:    >>> Share(site=SiteName("us"), quantity=10).quantity
            10
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator

from carnet.identifiers import Digest, Jurisdiction, SiteName
from carnet.limits import DESTINATIONS_MAX
from carnet.statement import Currency, Positive, ShortText, Statement, Text, Unique, WireModel
from carnet.timestamps import Day

_LIST_MAX = 256
LicenceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""The number that the authority gave it, or a name of one's own; what a sender declares as `licence`."""


class Share(WireModel):
    """What one site may use of a licence: so many releases, goods of so much value; without a number, as many as it likes."""

    site: SiteName
    quantity: Positive | None = None
    value: Positive | None = None


class Licence(Statement):
    """One edition of a licence. A later edition replaces it; `items` are export control numbers, `parties` legal entities."""

    payload_type: ClassVar[str] = "application/vnd.carnet.licence.v1+json"

    id: LicenceId
    edition: Positive
    kind: ShortText
    authority: ShortText | None = None
    items: Annotated[tuple[ShortText, ...], Field(max_length=_LIST_MAX), Unique] = ()
    parties: Annotated[tuple[ShortText, ...], Field(max_length=_LIST_MAX), Unique] = ()
    destinations: Annotated[tuple[Jurisdiction, ...], Field(max_length=_LIST_MAX), Unique] = ()
    valid_from: Day
    valid_until: Day
    quantity: Positive | None = None
    value: Positive | None = None
    currency: Currency | None = None
    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=DESTINATIONS_MAX)]
    assessed_on: Day | None = None
    """When the assessment was made that it rests on, such as one of the law of the country of destination."""
    provisos: Annotated[tuple[Text, ...], Field(max_length=_LIST_MAX)] = ()
    documents: Annotated[tuple[Digest, ...], Field(max_length=_LIST_MAX), Unique] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.valid_until < self.valid_from:
            raise ValueError("valid_until is before valid_from")
        if len({share.site for share in self.shares}) != len(self.shares):
            raise ValueError("a site has two shares")
        if (self.value is None) != (self.currency is None):
            raise ValueError("value and currency come together")
        _check_shares("quantity", self.quantity, [share.quantity for share in self.shares])
        _check_shares("value", self.value, [share.value for share in self.shares])
        return self

    def share(self, site: SiteName) -> Share | None:
        """Return what `site` may use of it, or None if it may use nothing."""
        return next((share for share in self.shares if share.site == site), None)

    def is_valid_on(self, day: date) -> bool:
        """Tell whether it is in force on `day`."""
        return self.valid_from <= day.isoformat() <= self.valid_until

    def assessment_days(self, day: date) -> int | None:
        """Return the days from the assessment to `day`, or None if it names none, or one in the future."""
        if self.assessed_on is None:
            return None
        days = (day - date.fromisoformat(self.assessed_on)).days
        return days if days >= 0 else None

    def covers(self, *, item: str | None, parties: Collection[str], operator: str, jurisdiction: str) -> bool | None:
        """Tell whether it names this item, these parties and the operator of the destination, and the destination's country.

        None if it names items and the item is not known. A country that it names has its parts in it.
        """
        if self.destinations and not any(jurisdiction in (code, f"{code}-{jurisdiction[3:]}") for code in self.destinations):
            return False
        if self.parties and not {operator, *parties} <= set(self.parties):
            return False
        if self.items and item is None:
            return None
        return not self.items or item in self.items


@dataclass(frozen=True)
class Used:
    """What a site has used of its share."""

    quantity: int = 0
    value: int = 0


def leaves_room(share: Share | None, used: Used, *, value: int | None) -> bool | None:
    """Tell whether `share` has room for one more release, of goods worth `value` in the licence's currency.

    None if there is a limit of value and the value is not known.
    """
    if share is None:
        return False
    if share.quantity is not None and used.quantity >= share.quantity:
        return False
    if share.value is None:
        return True
    return None if value is None else used.value + value <= share.value


def _check_shares(what: str, whole: int | None, shares: list[int | None]) -> None:
    if whole is None:
        if any(share is not None for share in shares):
            raise ValueError(f"a share has a {what}, the licence has none")
        return
    known = [share for share in shares if share is not None]
    if len(known) != len(shares):
        raise ValueError(f"the licence has a {what}, and a share of it has none")
    if sum(known) > whole:
        raise ValueError(f"the shares have a {what} of {sum(known)} together, the licence has {whole}")
