"""`person revoke`, `key revoke`, `key rotate`, `trust revoked`: keys taken back, keys made anew, and what was taken back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from carnet.revocation import RevocationSet
    from gateway.offline import OfflineSite
    from gateway.ports import Transaction
    from gateway.revoking_keys import Revoker

Reason = Annotated[str, typer.Option(help="Why, as one word: key-stolen, retired. It is told to the other sites.")]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    people = new_app("The people of the trust bundle.")
    people.command("revoke")(revoke_person)
    people.callback()(_group)
    app.add_typer(people, name="person")
    group = new_app("Keys of this site, of its agents and of people.")
    group.command("revoke")(revoke_key)
    group.command("rotate")(rotate)
    app.add_typer(group, name="key")


def revoke_person(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name in the trust bundle.")],
    *,
    reason: Reason,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Revoke person NAME: every key that the trust bundle names for it counts no more, here and at every other site.

    Approvals that it gave and that were not used yet are void too. The roots can give the person another key in a new trust
    bundle; the old ones stay void.
    """
    from gateway.revoking import check_reason

    check_reason(reason)
    issued = wait_for(_revoke(directory, lambda site, tx: site.person(tx, name, reason)))
    answer = {"person": name, "reason": reason, "revocation_set": issued.number}
    Terminal(json, quiet, verbose).answer(answer, [f"person {name} is revoked ({reason}); revocation set {issued.number}"])


def revoke_key(
    directory: Directory,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A key id, a public key or digest in hex, an agent's name, or kem-NUMBER.")
    ],
    *,
    reason: Reason,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Revoke KEY: an agent's or a person's key, or a KEM key of this site, in whose place another is made first.

    An agent whose key is revoked enrols again with a new invite. A site's own signing key is replaced by a new trust bundle.
    """
    from gateway.revoking import check_reason

    check_reason(reason)
    issued = wait_for(_revoke_key(directory, key, reason))
    answer = {"key": key, "reason": reason, "revocation_set": issued.number}
    Terminal(json, quiet, verbose).answer(answer, [f"{key} is revoked ({reason}); revocation set {issued.number}"])


def rotate(
    directory: Directory,
    kind: Annotated[Literal["kem"], typer.Argument(metavar="kem", help="The site's KEM key.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the next KEM key of the site now; a running site makes one by itself every 20 days.

    Senders use it as soon as they know it. The one before opens what was wrapped to it until it is destroyed.
    """
    number, until = wait_for(_rotate(directory))
    answer = {"kind": kind, "number": number, "not_after": until}
    Terminal(json, quiet, verbose).answer(answer, [f"KEM key {number} is made, valid until {until}"])


def revoked(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List what is revoked, as the newest set of each site known in DIR says it, and until when that set is fresh."""
    sets = wait_for(_sets(directory))
    lines = [line for one in sets for line in _lines(one)]
    Terminal(json, quiet, verbose).answer({"sets": [one.to_json() for one in sets]}, lines or ["no revocation set is known yet"])


def _group() -> None:
    """Keep `person` a group although it has one command."""


def _lines(one: "RevocationSet") -> list[str]:
    found = [f"set {one.number} of {one.site}, fresh until {one.expires}"]
    found += [f"  {entry.identity}  {entry.since}  {entry.reason}" for entry in one.identities]
    found += [f"  key {entry.keyid}  {entry.since}  {entry.reason}" for entry in one.signing_keys]
    return found + [f"  kem-{entry.number} of {one.site}  {entry.since}  {entry.reason}" for entry in one.kem_keys]


async def _revoke_key(directory: Path, key: str, reason: str) -> "RevocationSet":
    if key.startswith("kem-"):
        await _rotate_before(directory, key)
    return await _revoke(directory, lambda site, tx: site.named_key(tx, key, reason))


async def _rotate_before(directory: Path, key: str) -> None:
    """Make the next KEM key if the newest is the one to be revoked: the site is never without one."""
    from gateway.offline import open_site

    async with open_site(directory) as site:
        newest = site.trust.newest_kem(site.settings.site, site.clock.now())
    if newest is not None and key == f"kem-{newest.number}":
        await _rotate(directory)


async def _rotate(directory: Path) -> tuple[int, str]:
    from gateway.keyring import rotate_kem
    from gateway.offline import open_site

    async with open_site(directory) as site:
        issued = await rotate_kem(site.catalog, site.keyring(), site.settings.site, site.clock.now())
        return issued.statement.number, issued.statement.not_after


async def _revoke(directory: Path, change: "Callable[[Revoker, Transaction], RevocationSet]") -> "RevocationSet":
    from gateway.offline import open_site

    async with open_site(directory) as site:
        revoker = _revoker(site)
        return await site.catalog.write(lambda tx: change(revoker, tx))


def _revoker(site: "OfflineSite") -> "Revoker":
    from gateway.revoking_keys import Revoker

    return Revoker(site.settings.site, site.keyring().signing, site.trust.state().current)


async def _sets(directory: Path) -> "list[RevocationSet]":
    from gateway.offline import open_site

    async with open_site(directory) as site:
        return [known.content for _, known in sorted(site.trust.revocations.state.sets.items())]
