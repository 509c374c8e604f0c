"""`licence` and `attest`: what people sign so that policy may rely upon it, and what a site keeps of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from carnet.attestation import Attestation
    from carnet.envelope import Envelope
    from carnet.licence import Licence
    from carnet.trust import TrustBundle
    from gateway.offline import OfflineSite
    from gateway.ports import Transaction
    from gateway.vouched import Mistake, Trusted

_ENVELOPE = b'"payloadType"'
"""What stands in a file that was signed, and in none that a person wrote."""

Text = Annotated[
    Path, typer.Argument(metavar="FILE", help="What is to be signed (YAML), or what was signed already, to sign too.")
]
Key = Annotated[Path, typer.Option(help="Your private key: the file that `carnet key new` wrote.")]
Signed = Annotated[Path, typer.Argument(metavar="FILE", help="What `sign` wrote.")]
Named = Annotated[str, typer.Argument(metavar="ID", help="Its id, as `list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the log.")]


@dataclass(frozen=True)
class _Paper:
    """What somebody signed, and the file that it came from."""

    file: Path
    envelope: "Envelope"
    content: "Licence | Attestation"


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    licence = new_app("Licences: what an authority permits, signed by people, and how much of it this site has used.")
    licence.command("sign")(sign_licence)
    licence.command("add")(add_licence)
    licence.command("list")(list_licences)
    licence.command("show")(show_licence)
    licence.command("withdraw")(withdraw_licence)
    app.add_typer(licence, name="licence")
    attest = new_app("Attestations: facts that people vouch for, such as who may receive; never why.")
    attest.command("sign")(sign_attestation)
    attest.command("add")(add_attestation)
    attest.command("list")(list_attestations)
    attest.command("withdraw")(withdraw_attestation)
    app.add_typer(attest, name="attest")


def sign_licence(file: Text, *, key: Key, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Sign a licence and print it, to be given to `licence add` at each site that has a share. Needs no site."""
    from carnet.licence import Licence

    envelope = _sign(Licence, file, key)
    Terminal(json, quiet, verbose).answer(envelope.to_json(), [envelope.encode().decode("ascii")])


def sign_attestation(file: Text, *, key: Key, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Sign an attestation and print it, to be given to `attest add` at each site whose policy asks for it. Needs no site."""
    from carnet.attestation import Attestation

    envelope = _sign(Attestation, file, key)
    Terminal(json, quiet, verbose).answer(envelope.to_json(), [envelope.encode().decode("ascii")])


def add_licence(
    directory: Directory, file: Signed, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Keep a signed licence at the site and log it. The server may run meanwhile; the next decision reads it."""
    from carnet.licence import Licence
    from gateway.vouched import keep_licence

    paper = _read(Licence, file)
    licence = paper.content
    by, _ = wait_for(_add(directory, paper, ["licence.kind"], keep_licence))
    said = f"licence {licence.id}, edition {licence.edition}, is kept; signed by {', '.join(by)}"
    Terminal(json, quiet, verbose).answer({"licence": licence.id, "edition": licence.edition, "by": by}, [said])


def add_attestation(
    directory: Directory, file: Signed, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Keep a signed attestation at the site and log it. The server may run meanwhile; the next decision reads it."""
    from carnet.attestation import Attestation
    from gateway.vouched import keep_attestation, stranger

    paper = _read(Attestation, file)
    statement = Attestation.read_unverified(paper.envelope)
    by, bundle = wait_for(_add(directory, paper, sorted(statement.facts), keep_attestation))
    unknown = stranger(statement.about, bundle)
    warnings = [] if unknown is None else [f"{unknown}; the attestation counts for nothing until one is"]
    said = f"attestation {statement.id}, edition {statement.edition}, is kept; about {statement.about.key}, by {', '.join(by)}"
    document = {"attestation": statement.id, "edition": statement.edition, "about": statement.about.key, "by": by}
    terminal = Terminal(json, quiet, verbose)
    terminal.answer(document | {"warnings": warnings}, [said])
    for warning in warnings:
        terminal.note(f"warning: {warning}")


def list_licences(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the licences that the site keeps: kind, until when, and what is left of this site's share."""
    rows = wait_for(_ask(directory, _licence_rows))
    lines = [f"{row['id']}  edition {row['edition']}  {row['kind']}  {row['state']}  {row['left']}" for row in rows]
    Terminal(json, quiet, verbose).answer({"licences": rows}, lines or ["no licence is kept here"])


def show_licence(
    directory: Directory, licence: Named, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Show a licence as it was signed, who signed it, and every release that used it."""

    def read(site: "OfflineSite", trusted: "Trusted", tx: "Transaction") -> dict[str, Any]:
        from carnet.errors import NotFound
        from carnet.licence import Licence
        from gateway.ledger import total_used, uses
        from gateway.vouched import licences

        found = next((one for one in licences(tx) if one[1].id == licence), None)
        if found is None:
            raise NotFound("E-LICENCE-UNKNOWN", f"no licence {ascii(licence)[:80]} is kept here")
        envelope, content = found
        total = total_used(tx, licence)
        known = uses(tx, licence)
        return {
            "licence": content.to_json(),
            "signed_by": [person.name for person in trusted.signers(envelope, Licence.payload_type)],
            "used": {"quantity": total.quantity, "value": total.value},
            "left": _left(content, site, tx),
            "uses": [
                {"transfer": one.transfer, "destination": one.destination, "value": one.value, "at": one.at}
                | ({} if one.credited is None else {"credited": one.credited})
                for one in known
            ],
            "not_shown": max(0, total.quantity - sum(one.credited is None for one in known)),
        }

    document = wait_for(_ask(directory, read))
    content = document["licence"]
    lines = [f"{name}: {_plain(value)}" for name, value in content.items() if name != "v"]
    lines += [
        f"signed by: {', '.join(document['signed_by']) or 'nobody whom the trust bundle knows'}",
        f"left: {document['left']}",
    ]
    lines += [
        f"{one['at']}  {one['transfer']} to {one['destination']}"
        + (f"  credited: {one['credited']}" if "credited" in one else "")
        for one in document["uses"]
    ]
    lines += [f"{document['not_shown']} releases more are counted and not shown"] if document["not_shown"] else []
    Terminal(json, quiet, verbose).answer(document, lines)


def withdraw_licence(
    directory: Directory, licence: Named, *, reason: Reason, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Take a licence out of use at this site: what relies upon it is held or denied from now on. What it counted stays."""
    from gateway.vouched import withdraw_licence as withdraw

    wait_for(_change(directory, lambda tx: withdraw(tx, licence, reason)))
    Terminal(json, quiet, verbose).answer({"licence": licence, "reason": reason}, [f"licence {licence} is out of use here"])


def list_attestations(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the attestations that the site keeps: about what, which facts, until when, by whom."""
    rows = wait_for(_ask(directory, _attestation_rows))
    lines = [f"{row['id']}  {row['about']}  {', '.join(row['facts'])}  until {row['not_after']}  {row['by']}" for row in rows]
    Terminal(json, quiet, verbose).answer({"attestations": rows}, lines or ["no attestation is kept here"])


def withdraw_attestation(
    directory: Directory,
    attestation: Named,
    *,
    reason: Reason,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take an attestation out of use at this site."""
    from gateway.vouched import withdraw_attestation as withdraw

    wait_for(_change(directory, lambda tx: withdraw(tx, attestation, reason)))
    said = f"attestation {attestation} is out of use here"
    Terminal(json, quiet, verbose).answer({"attestation": attestation, "reason": reason}, [said])


def _sign(model: "type[Licence | Attestation]", file: Path, key: Path) -> "Envelope":
    from carnet.errors import CallerError
    from carnet.limits import POLICY_BYTES_MAX
    from carnet.policy.source import parse_as, parse_yaml
    from gateway.geography import shipped_groups
    from gateway.keyring import read_signing_key
    from gateway.policy_files import decode_text
    from gateway.proposals import read_bounded
    from gateway.vouched import first_mistake

    data = read_bounded(file, POLICY_BYTES_MAX)
    person = read_signing_key(key, "carnet key new")
    if _ENVELOPE in data:
        paper = _parse(model, file, data)
        _refuse(first_mistake(paper.content, shipped_groups()), file)
        return paper.envelope.with_signature(person)
    text = decode_text(data, file.name)
    try:
        content = parse_as(model, text, file.name)
    except CallerError as error:
        remedy = f'correct {file}; docs/policy.md section "{model.__name__}s" shows one'
        raise CallerError(error.code, error.problem, remedy=remedy) from None
    mistake = first_mistake(content, shipped_groups())
    _refuse(mistake, file, "" if mistake is None else f"line {parse_yaml(text).line(mistake.place)}: ")
    return content.sign(person)


def _read(model: "type[Licence | Attestation]", file: Path) -> _Paper:
    from carnet.errors import CallerError
    from carnet.limits import POLICY_BYTES_MAX
    from gateway.proposals import read_bounded

    data = read_bounded(file, POLICY_BYTES_MAX)
    if _ENVELOPE not in data:
        remedy = f"sign it first, and add what that prints: {_signing(model)} {file} --key KEY"
        raise CallerError("E-USAGE", f"{file} is not signed yet", remedy=remedy)
    return _parse(model, file, data)


def _parse(model: "type[Licence | Attestation]", file: Path, data: bytes) -> _Paper:
    """Return what was signed, unverified."""
    from carnet.envelope import parse_envelope
    from carnet.errors import PeerError

    try:
        envelope = parse_envelope(data.strip())
        return _Paper(file, envelope, model.read_unverified(envelope))
    except PeerError as error:
        raise PeerError(error.code, f"{file.name}: {error.problem}", remedy=f"name what `{_signing(model)}` printed") from None


def _refuse(mistake: "Mistake | None", file: Path, where: str = "") -> None:
    """Refuse what can count nowhere; `where` is its line, if the file is one that a person wrote."""
    from carnet.errors import CallerError

    if mistake is not None:
        remedy = f"correct {file}" if where else f"correct what {file} was made from, and have it signed anew"
        raise CallerError("E-POLICY", f"{file.name}: {where}{mistake.said}", remedy=remedy)


def _signing(model: "type[Licence | Attestation]") -> str:
    """Return the command that signs such papers."""
    return f"carnet-gateway {'licence' if model.__name__ == 'Licence' else 'attest'} sign"


async def _add(
    directory: Path, paper: _Paper, facts: list[str], keep: "Callable[[Transaction, Envelope], object]"
) -> "tuple[list[str], TrustBundle]":
    """Keep a paper whose signers the trust bundle knows, and whose word counts for each of `facts`; return their names."""
    from carnet.errors import NotAuthorised
    from carnet.signers import signers
    from gateway.geography import load_groups
    from gateway.offline import open_site
    from gateway.vouched import first_mistake

    async with open_site(directory) as site:
        _refuse(first_mistake(paper.content, load_groups(site.paths.policy)), paper.file)
        trusted = await _trusted(site)
        people = signers(paper.envelope, paper.content.payload_type, trusted.bundle, revoked=trusted.revoked)
        for name in facts:
            if not trusted.vouchers(people, name):
                roles = ", ".join(trusted.policy.attesters(name)) or "no role at all"
                who = ", ".join(person.name for person in people)
                raise NotAuthorised(
                    "E-NOT-ALLOWED", f"the word of {who} does not count for {name}; the policy names: {roles}",
                    remedy="have it signed by somebody in such a role, or ask the owner of the policy for `attested_by`",
                )  # fmt: skip
        await site.catalog.write(lambda tx: keep(tx, paper.envelope))
    return [person.name for person in people], trusted.bundle


async def _trusted(site: "OfflineSite") -> "Trusted":
    from gateway.policies import PolicyBook
    from gateway.vouched import Trusted

    bundle = site.trust.state().current
    await site.trust.refresh_revocations()
    return Trusted(bundle, site.trust.revocations.state.revoked_keys(bundle), PolicyBook(site.paths.policy).policy)


async def _ask(directory: Path, question: "Callable[[OfflineSite, Trusted, Transaction], Any]") -> Any:
    from gateway.offline import open_site

    async with open_site(directory) as site:
        trusted = await _trusted(site)
        return await site.catalog.read(lambda tx: question(site, trusted, tx))


async def _change(directory: Path, change: "Callable[[Transaction], None]") -> None:
    from gateway.offline import open_site

    async with open_site(directory) as site:
        await site.catalog.write(change)


def _licence_rows(site: "OfflineSite", trusted: "Trusted", tx: "Transaction") -> list[dict[str, Any]]:
    from carnet.licence import Licence
    from gateway.vouched import licences

    today = site.clock.now().date()
    rows: list[dict[str, Any]] = []
    for envelope, licence in licences(tx):
        counts = trusted.vouchers(trusted.signers(envelope, Licence.payload_type), "licence.kind")
        state = (
            f"until {licence.valid_until}"
            if licence.is_valid_on(today)
            else f"not in force ({licence.valid_from} to {licence.valid_until})"
        )
        rows.append(
            {
                "id": licence.id,
                "edition": licence.edition,
                "kind": licence.kind,
                "state": state if counts else "nobody whose word counts signed it",
                "left": _left(licence, site, tx),
            }
        )
    return rows


def _attestation_rows(site: "OfflineSite", trusted: "Trusted", tx: "Transaction") -> list[dict[str, Any]]:
    from carnet.attestation import Attestation
    from gateway.vouched import attestations

    rows: list[dict[str, Any]] = []
    for envelope, statement in attestations(tx):
        people = trusted.signers(envelope, Attestation.payload_type)
        counts = {name for fact in statement.facts for name in trusted.vouchers(people, fact)}
        is_over = not statement.holds_at(site.clock.now())
        rows.append(
            {
                "id": statement.id,
                "edition": statement.edition,
                "about": statement.about.key,
                "facts": [f"{name}={_plain(value)}" for name, value in sorted(statement.facts.items())],
                "not_after": statement.not_after,
                "by": "out of its time" if is_over else f"by {', '.join(sorted(counts)) or 'nobody whose word counts'}",
            }
        )
    return rows


def _left(licence: "Licence", site: "OfflineSite", tx: "Transaction") -> str:
    """Return what is left of this site's share, in words."""
    from gateway.ledger import total_used

    share = licence.share(site.settings.site)
    used = total_used(tx, licence.id)
    if share is None:
        return "no share of this site"
    said = [] if share.quantity is None else [f"{max(0, share.quantity - used.quantity)} of {share.quantity} releases left"]
    said += [] if share.value is None else [f"{max(0, share.value - used.value)} of {share.value} {licence.currency} left"]
    return ", ".join(said) or f"{used.quantity} releases, no limit"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value) or "none"
    if isinstance(value, dict):
        return " ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)
