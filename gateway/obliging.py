"""Conditions among obligations: whether this site can meet what its policy asks for beside an allow; if not, it holds.

It is asked wherever policy decides, before the outcome counts: an allow that nobody could keep is none.

Rules:      1. an obligation that the site does not understand is not met
            2. where one copy in a region is late, whatever the reason, no other can be promised there
Spec:       docs/policy.md section "Obligations"
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from carnet.decision import Obligation
from carnet.errors import CarnetError
from carnet.identifiers import SiteName
from carnet.policy import Facts
from carnet.policy.groups import Groups
from carnet.policy.obligations import Custody, LogCopy, Suite, lies_in, read_obligation
from carnet.timestamps import parse_time
from carnet.trust import TrustBundle
from gateway.ports import Transaction
from gateway.settings import CopyPlace

DUE: Final = "log-copy/"
"""Before the names of the documents that say which copies are to be written."""
LATE: Final = timedelta(minutes=15)
"""A copy may wait for so long to be written before what asks for another in its region is held."""


@dataclass(frozen=True)
class Means:
    """What a site can meet obligations with: who is where, and the places for copies."""

    site: SiteName
    bundle: TrustBundle
    places: tuple[CopyPlace, ...]
    groups: Groups
    now: datetime
    """As it is judged: a clock that is set back makes no copy less late."""

    def lies_in(self, site: SiteName, region: str) -> bool:
        """Tell whether a site is in a region."""
        return lies_in(self.bundle.site(site).jurisdiction, region, self.groups, self.now.date())

    def place(self, asked: LogCopy) -> CopyPlace | None:
        """Return where such a copy is written, or None."""
        found = (one for one in self.places if one.mode in ("full", asked.mode))
        return next((one for one in found if lies_in(one.region, asked.region, self.groups, self.now.date())), None)

    def keeps_itself(self, asked: LogCopy, facts: Facts) -> bool:
        """Tell whether the copy is there without a place: the record is kept here, and peers on the lane keep its hashes."""
        keepers = [self.site]
        if asked.mode == "hash":
            named = [facts[name].value for name in ("origin.site", "destination.site") if name in facts]
            keepers += [SiteName(one) for one in named if isinstance(one, str)]
        return any(self.lies_in(one, asked.region) for one in keepers)


def unmet(tx: Transaction, means: Means, obligations: Iterable[Obligation], facts: Facts) -> tuple[str, str] | None:
    """Return the first obligation that this site cannot meet, and what to do about it, each in words; None if it can."""
    for one in obligations:
        try:
            found = _unmet(tx, means, read_obligation(one), facts)
        except CarnetError as error:
            found = error.problem, "ask the owner of the policy: `carnet-gateway policy check` names the line"
        if found is not None:
            return found
    return None


def _unmet(tx: Transaction, means: Means, asked: object, facts: Facts) -> tuple[str, str] | None:
    if isinstance(asked, Suite):
        known = facts.get("suite.fips")
        if known is None or known.value is not True:
            return (
                "the rule asks for a suite of a module validated under FIPS 140-3, and the lane has another",
                "use a lane with such a suite, or ask the owner of the policy",
            )
    if isinstance(asked, Custody):
        strange = [site for site in _holders(facts) if not _may_hold(means, asked, site)]
        if strange:
            return f"{', '.join(strange)} would hold a key, and the rule does not name it", "use a lane between sites it names"
    if isinstance(asked, LogCopy) and not means.keeps_itself(asked, facts):
        return _uncopied(tx, means, asked)
    return None


def _uncopied(tx: Transaction, means: Means, asked: LogCopy) -> tuple[str, str] | None:
    what = "a copy" if asked.mode == "full" else "the hashes"
    if means.place(asked) is None:
        return (
            f"the rule asks for {what} of the record in {asked.region}, and this site has no place for it",
            f'name one in gateway.toml: [[copies]] region = "{asked.region}", directory = "..."',
        )
    since = waits_since(tx, asked)
    if since is not None and means.now - parse_time(since) > LATE:
        return (
            f"{what} of an earlier record in {asked.region} waits to be written since {since}",
            "see that the directories of [[copies]] can be written; the server's log says what failed",
        )
    return None


def due_name(asked: LogCopy) -> str:
    """Return what the names of all copies of this kind begin with that are to be written; the time follows."""
    return f"{DUE}{asked.region}-{asked.mode}/"


def waits_since(tx: Transaction, asked: LogCopy) -> str | None:
    """Return since when the oldest such copy waits to be written; None if none does."""
    prefix = due_name(asked)
    return next((name.removeprefix(prefix).partition("/")[0] for name in tx.site_documents(prefix, limit=1)), None)


def _holders(facts: Facts) -> list[str]:
    """Return every site that would hold a key."""
    sites = facts.get("custody.sites")
    found = list(sites.value) if sites is not None and isinstance(sites.value, tuple) else []
    recipient = facts.get("recipient.site")
    found += [str(recipient.value)] if recipient is not None else []
    return sorted(set(found))


def _may_hold(means: Means, asked: Custody, site: str) -> bool:
    return site in asked.sites or any(means.lies_in(SiteName(site), region) for region in asked.regions)
