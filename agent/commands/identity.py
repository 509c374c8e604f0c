"""`enroll`, `verify`, `key new`, `doctor`: who this machine is, and whether what it holds is right."""

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.commands.connection import GiveUp, asking, end_with
from agent.commands.terminal import get_config
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for


def add_commands(app: typer.Typer) -> None:
    """Add these commands, and the group `key`, to the root."""
    app.command("enroll")(enroll)
    app.command("verify")(verify)
    app.command("doctor")(doctor)
    group = new_app("Keys of people.")
    group.callback()(_group)
    group.command("new")(new_key)
    app.add_typer(group, name="key")


def _group() -> None:
    """Keys of people."""


def enroll(
    invite: Annotated[str, typer.Argument(help="The line that `carnet-gateway invite` printed; - reads it from standard input.")],
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where to keep settings and identity; without it, beside the settings file.")
    ] = None,
    root_fingerprint: Annotated[str | None, typer.Option(help="The roots that the site's bundle must be signed by.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Enrol this machine at a site with a one-time invite: makes keys, gets a certificate, writes the settings."""
    import sys

    from agent.enroll import enroll as run_enroll
    from agent.identity import check_private
    from agent.session import now
    from agent.settings import FILE_NAME, encode_settings, user_settings_file
    from carnet.errors import CallerError
    from carnet.identifiers import Digest
    from carnet.invite import Invite

    text = sys.stdin.readline().strip() if invite == "-" else invite
    parsed = Invite.parse(text)
    roots = None if root_fingerprint is None else Digest(root_fingerprint)
    home = directory.absolute() if directory is not None else (get_config() or user_settings_file()).absolute().parent
    target = home / "identity"
    if (target / "identity.json").exists():
        raise CallerError("E-CONFIG", f"{target} holds an identity already", remedy="name another place with --dir, or remove it")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = wait_for(run_enroll(parsed, target, now(), root_fingerprint=roots))
    check_private(target)
    settings = home / FILE_NAME
    settings.write_text(encode_settings(parsed.url, identity.id.site, Path("identity"), roots), encoding="utf-8")
    Terminal(json, quiet, verbose).done(
        {"identity": identity.id, "config": str(settings), "roots": identity.trust.pinned},
        [f"ENROLLED  {identity.id}", f"  settings  {settings}", f"  roots     {identity.trust.pinned}"],
    )


def verify(
    file: Annotated[Path, typer.Argument(help="A receipt, decision, statement, trust bundle or log proof, as a file.")],
    *,
    site: Annotated[str | None, typer.Option(help="The site that must have signed it; without it, the one it names.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check a signed document or a log proof against the trust bundle, offline."""
    from agent.identity import load_identity
    from agent.settings import load_settings
    from agent.verify import verify_document
    from carnet.identifiers import SiteName

    settings = load_settings(get_config())
    identity = load_identity(settings.identity_dir, root_fingerprint=settings.root_fingerprint)
    found = verify_document(file, identity, None if site is None else SiteName(site))
    lines = [f"VERIFIED  {found.what}, signed by {found.signer}"]
    lines += [f"  {key}: {value}" for key, value in found.document.items() if isinstance(value, str | int)]
    document: dict[str, Any] = {"what": found.what, "signer": found.signer, "document": found.document}
    Terminal(json, quiet, verbose).answer(document, lines)


def new_key(
    file: Annotated[Path, typer.Argument(help="Where to write the private key; FILE.pub gets the public one.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a person's signing key; its public half goes into the trust bundle."""
    import os
    import secrets

    from agent.identity import write_new_private
    from carnet.keys import SigningKey, encode_private_key, encode_public_key
    from carnet.suites import KEY_BYTES

    key = SigningKey(secrets.token_bytes(KEY_BYTES))
    write_new_private(file, encode_private_key(key).encode("ascii"))
    public = file.with_name(file.name + ".pub")
    public.write_text(encode_public_key(key.public), encoding="ascii")
    Terminal(json, quiet, verbose).done(
        {"key": os.fspath(file), "public": os.fspath(public), "key_id": key.public.keyid},
        [f"key {key.public.keyid}", f"  private  {file}", f"  public   {public}"],
    )


def doctor(*, timeout: GiveUp = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Look at settings, identity, certificate, clock, trust and connection; say what is wrong and how to put it right."""
    from agent.doctor import examine

    findings = wait_for(examine(get_config(), asking(timeout)))
    lines = []
    for finding in findings:
        lines.append(f"{'FAIL' if finding.error else 'ok  '}  {finding.what}: {finding.said}")
        if finding.error:
            lines.append(f"      fix: {finding.error.remedy}")
    document = {
        "findings": [
            {
                "what": one.what,
                "ok": one.error is None,
                "said": one.said,
                "code": one.error.code if one.error else None,
                "fix": one.error.remedy if one.error else None,
            }
            for one in findings
        ]
    }
    Terminal(json, quiet, verbose).answer(document, lines)
    end_with(next((finding.error for finding in findings if finding.error), None))
