"""`init`, `serve`, `dev`: a site is made, a site runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for
from carnet.flow.starting import quick_imports
from gateway.commands.terminal import Directory, harden_process, serve_until_stopped
from gateway.memory import give_back_early
from gateway.priority import go_first

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("init")(init)
    app.command("serve")(serve)
    app.command("dev")(dev)


def init(  # noqa: PLR0913 - a command's flags are its parameters
    directory: Directory,
    *,
    site: Annotated[str, typer.Option(help="The site's name in the trust bundle: a-z, 0-9, -.")],
    jurisdiction: Annotated[str, typer.Option(help="Country whose law applies: ISO 3166-1 (DE) or 3166-2 (US-VA).")],
    operator: Annotated[str, typer.Option(help="The legal person that runs the site.")],
    trust_domain: Annotated[str, typer.Option(help="The organisation's trust domain, the same at all its sites.")],
    url: Annotated[str, typer.Option(help="Where agents and peers reach the site: https://host:port.")],
    listen: Annotated[list[str] | None, typer.Option(help="Address to listen on, host:port; else the url's port.")] = None,
    dns: Annotated[list[str] | None, typer.Option(help="Further name or address for the certificate; may be repeated.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a new site in DIR: keys, certificate authority, catalog, first policy, settings.

    Its site-card.json is what you hand to the holders of the root keys. The site serves nobody until a trust bundle that names it
    is imported with `carnet-gateway trust import`.
    """
    from datetime import UTC, datetime

    from gateway.offline import create_site
    from gateway.settings import listening, make_settings
    from gateway.sitedir import SitePaths, first_policy

    values = {"site": site, "jurisdiction": jurisdiction, "operator": operator, "trust_domain": trust_domain, "url": url}
    settings = make_settings({**values, "hosts": tuple(dns or ()), "listen": tuple(listen or listening(url))})
    root = directory.absolute()
    key = wait_for(create_site(root, settings, first_policy(), datetime.now(UTC)))
    card = SitePaths(root).card
    Terminal(json, quiet, verbose).done(
        {"site": settings.site, "directory": str(root), "card": str(card), "signing_key": key.hex},
        [f"site {settings.site} is made in {root}", f"signing key  {key.hex}", f"hand out     {card}"],
    )


def serve(directory: Directory, *, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Serve the site in DIR until SIGTERM or Ctrl-C; requests in flight may finish. Logs go to standard error."""
    from datetime import UTC, datetime

    with quick_imports():
        from gateway.assembly import serve as serve_site
        from gateway.settings import load_settings
        from gateway.sitedir import SitePaths, hold_site, load_authority, renew_own_certificate

    harden_process()
    give_back_early()
    go_first()
    settings = load_settings(directory)
    paths = SitePaths(settings.data_dir)
    settings = _with_log_level(settings, quiet=quiet, verbose=verbose)
    terminal = Terminal(quiet=quiet, verbose=verbose)

    def ready(port: int) -> None:
        terminal.note(f"site {settings.site} serves {settings.url} (port {port})")

    with hold_site(paths):
        # Here, not only in the server's upkeep: a pair that is over or torn could not be loaded to begin with.
        renew_own_certificate(paths, settings, load_authority(paths, settings.credentials_dir), datetime.now(UTC))
        serve_until_stopped(lambda stop: serve_site(settings, ready=ready, stop=stop))


def dev(
    directory: Directory,
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on loopback; 0 is any free one.")] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Serve one ready-to-use site for trying out, on loopback only; DIR is made if it is absent and kept if it is not.

    Prints one line of JSON once it accepts connections: url, registry, console, ca, cert and key (a person with every role but
    approver), person (that person's signing key), config (for `carnet --config`). Ends within three seconds of SIGTERM.
    """
    with quick_imports():
        from gateway.assembly import serve as serve_site
        from gateway.dev import prepare
        from gateway.settings import FILE_NAME
        from gateway.sitedir import SitePaths, check_vacant, hold_site
        from gateway.storage.durable import make_directory

    harden_process()
    give_back_early()
    go_first()
    root = directory.absolute()
    paths = SitePaths(root)
    if not (root / FILE_NAME).exists() and not paths.keys.exists():
        check_vacant(paths)  # before the lock is made in it
    make_directory(root)
    with hold_site(paths):
        made = wait_for(prepare(root, port))
        settings = _with_log_level(made.settings, quiet=quiet, verbose=verbose)
        if unanswered := _unanswered():
            Terminal(quiet=quiet, verbose=verbose).note(f"nothing answers yet at {' and '.join(unanswered)}")
        serve_until_stopped(lambda stop: serve_site(settings, ready=lambda _: _announce(made.announcement), stop=stop))


def _with_log_level(settings: "GatewaySettings", *, quiet: bool, verbose: bool) -> "GatewaySettings":
    """Return the settings with the log as terse or as talkative as the flags say."""
    if not quiet and not verbose:
        return settings
    return settings.model_copy(update={"log_level": "debug" if verbose else "warning"})


def _unanswered() -> list[str]:
    """Return the keys of the announcement whose paths this version does not serve."""
    from gateway.http.routes import ROUTES

    served = [route.pattern.pattern for route in ROUTES]
    paths = {"registry": "/v2", "console": "/console"}
    return [key for key, path in paths.items() if not any(pattern.startswith(path) for pattern in served)]


def _announce(announcement: dict[str, str]) -> None:
    import json

    print(json.dumps(announcement), flush=True)  # noqa: T201 - the line that a starter waits for
