"""`approve` and `reject`: a person's word about what a site holds, signed with their own key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.connection import connected
from agent.commands.progress_line import format_bytes
from agent.commands.terminal import get_config
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for

if TYPE_CHECKING:
    from agent.approve import Asked, Signer
    from carnet.trust import TrustBundle

Id = Annotated[str, typer.Argument(metavar="ID", help="The transfer's id, 32 hex digits.")]
Key = Annotated[
    Path | None,
    typer.Option(help="Your own signing key, a file that `carnet key new` made; without it, `person_key` of the settings."),
]
To = Annotated[str | None, typer.Option("--to", metavar="SITE", help="The destination, when it waits towards several.")]
Role = Annotated[str | None, typer.Option(help="The role you answer in, when you hold several that are asked for.")]
Yes = Annotated[bool, typer.Option("--yes", help="Sign without asking; for scripts that have shown the request before.")]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("approve")(approve)
    app.command("reject")(reject)


def approve(  # noqa: PLR0913 - a command's flags are its parameters
    transfer: Id,
    *,
    key: Key = None,
    to: To = None,
    role: Role = None,
    reason: Annotated[str, typer.Option(help="Why, in one line; it is signed and logged.")] = "",
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Approve what is held: shows what you sign, built from signed documents alone, asks, signs with your key, hands it in."""
    _answer(transfer, "approve", key, to, role, reason, yes=yes, terminal=Terminal(json, quiet, verbose))


def reject(  # noqa: PLR0913 - a command's flags are its parameters
    transfer: Id,
    *,
    reason: Annotated[str, typer.Option(help="Why, in one line; it is signed and logged, and ends the delivery.")],
    key: Key = None,
    to: To = None,
    role: Role = None,
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Reject what is held, with a reason: the delivery ends, nothing more of it leaves."""
    _answer(transfer, "reject", key, to, role, reason, yes=yes, terminal=Terminal(json, quiet, verbose))


def _answer(
    transfer: str, word: str, key: Path | None, to: str | None, role: str | None, reason: str, *, yes: bool, terminal: Terminal
) -> None:
    import sys

    from agent.approve import choose_signer, fetch_request, hand_in, read_person_key, sign_answer
    from agent.commands.outcome import describe
    from agent.recall import check_reason
    from agent.settings import load_settings
    from carnet.approval import Verdict
    from carnet.errors import CallerError
    from carnet.identifiers import SiteName, TransferId

    wanted, destination, verdict = TransferId(transfer), SiteName(to) if to else None, Verdict(word)
    if reason or verdict is Verdict.REJECT:
        check_reason(reason)
    settings = load_settings(get_config())
    file = key or settings.person_key
    if file is None:
        raise CallerError("E-USAGE", "no key to sign with", remedy="name your key with --key, or as person_key in carnet.toml")
    signing = read_person_key(file)
    if not yes and (terminal.json or not sys.stdin.isatty()):
        raise CallerError("E-USAGE", f"{word} asks before it signs, and nobody is at a terminal", remedy="add --yes in a script")

    async def work() -> None:
        async with connected(terminal, settings=settings) as session:
            asked = await fetch_request(session, wanted, destination)
            signer = choose_signer(session, asked, signing, role, verdict)
            for line in request_lines(asked, signer, session.bundle):
                terminal.note(line)
            if not yes and not typer.confirm(f"{word} this as {signer.person.name} ({signer.role})?", err=True):
                terminal.note("nothing was signed")
                raise typer.Exit(1)
            envelope = sign_answer(asked, signer, verdict, reason)
            view = await hand_in(session, wanted, envelope)
            document = {
                "approval": envelope.to_json(),
                "request": asked.request.to_json(),
                "request_digest": asked.request.digest,
                "transfer": view.model_dump(mode="json"),
            }
            said = "APPROVED" if verdict is Verdict.APPROVE else "REJECTED"
            terminal.done(document, [f"{said}  as {signer.person.name} ({signer.role})", *describe(view)])

    wait_for(work())


def request_lines(asked: "Asked", signer: "Signer", bundle: "TrustBundle") -> list[str]:
    """Return what a person reads before they sign: all of it from verified documents."""
    from carnet.approval import described
    from carnet.presentation import printable

    request, waybill = asked.request, asked.waybill
    origin, destination = bundle.site(request.origin), bundle.site(request.destination)
    declared = [f"{name} {value}" for name, value in waybill.declarations.to_json().items() if value]
    leaves = "the key; the sealed bytes may be there already" if request.gate.value == "release" else "the sealed bytes"
    lines = [
        f"{request.repository}:{request.tag}  ({waybill.kind.value}, {format_bytes(waybill.size)})",
        f"  artifact  {request.artifact}",
        f"  from      {origin.name} ({origin.jurisdiction}, {origin.operator})",
        f"  to        {destination.name} ({destination.jurisdiction}, {destination.operator}), on lane {request.lane}",
        f"  asked by  {request.agent}, for {request.initiator or 'nobody named'}",
        f"  owners    {', '.join(request.owners) or 'nobody named'}",
        f"  declared  {', '.join(declared) or 'nothing'}",
        f"  leaves    {leaves}",
    ]
    lines += [f"  why held  {reason.text} (rule {reason.rule})" for reason in request.reasons]
    lines += [f"  said      {one.person} ({one.role}): {one.verdict.value} at {one.at}" for one in asked.tally.counted]
    missing = asked.tally.missing(request.needed)
    lines += [
        f"  missing   {described(missing) or 'nothing'}",
        f"  policy    {request.policy}",
        f"  waybill   {request.waybill}",
        f"  request   {request.digest}",
        f"  logged    entry {asked.log_index} of the log of {request.origin}",
        f"  until     {request.not_after}",
        f"  you       {signer.person.name}, as {signer.role}, with key {signer.key.public.keyid}",
    ]
    return [printable(line) for line in lines]
