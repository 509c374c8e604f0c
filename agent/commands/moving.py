"""`push`, `pull`, `inspect`: what a build server and a consumer run."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.progress_line import ProgressMode, format_bytes, shown
from agent.commands.terminal import get_config
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for

if TYPE_CHECKING:
    from agent.push import PushResult

_SUFFIXES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_TIME_SUFFIXES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Source = Annotated[str, typer.Argument(help="oci:PATH[:TAG], docker-archive:PATH, file:PATH, dir:PATH, or - for standard input.")]
Declared = Annotated[
    list[str] | None,
    typer.Option(
        "--declare",
        "-d",
        metavar="KEY=VALUE",
        help="Declare a fact: classification, data-category (repeat), export-number, licence, legal-basis, purpose, label.KEY.",
    ),
]
Lane = Annotated[str | None, typer.Option(help="The lane, when several lead to the site.")]
Kind = Annotated[str | None, typer.Option(help="Send a file as: file, patch or bundle.")]
Progressing = Annotated[ProgressMode, typer.Option("--progress", help="auto: a line on a terminal; json: JSON lines; none.")]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("push")(push)
    app.command("pull")(pull)
    app.command("inspect")(inspect)


def push(  # noqa: PLR0913 - a command's flags are its parameters
    source: Source,
    destination: Annotated[str, typer.Argument(metavar="[SITE:]REPOSITORY:TAG", help="Where to; without SITE, the home site.")],
    *,
    declare: Declared = None,
    lane: Lane = None,
    kind: Kind = None,
    initiator: Annotated[str | None, typer.Option(help="The person or job on whose behalf.")] = None,
    wait: Annotated[str, typer.Option(help="Wait until it is: received, decided (by the home site) or delivered.")] = "decided",
    timeout: Annotated[
        str | None, typer.Option(help="Stop waiting after this time, such as 90s or 30m; the work goes on.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=-5, max=19, help="Compression level; without it, chosen by what is new.")
    ] = None,
    limit_rate: Annotated[str | None, typer.Option(help="Most bytes a second, such as 50M.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, max=64, help="Connections.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what the site would decide.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not continue an interrupted push; begin again.")] = False,
    sealed: Annotated[bool, typer.Option("--sealed", help="Send only if the lane is sealed: this site cannot open it.")] = False,
    progress: Progressing = ProgressMode.AUTO,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Push an artifact to the home site, or over a lane to another site. Run again after an interruption, it continues."""
    from agent.commands.names import lane_to, parse_target
    from agent.commands.outcome import describe, exit_status
    from agent.push import PushOrder, Wait, check
    from agent.push import push as run_push
    from agent.session import open_session
    from agent.settings import load_settings
    from agent.sources import open_source
    from carnet.flow.progress import Progress

    terminal = Terminal(json, quiet, verbose)
    target = parse_target(destination)
    declarations = parse_declarations(declare or [])
    wait_for_state = parse_choice(wait, Wait, "--wait")
    timeout_s = parse_duration(timeout) if timeout else None
    rate = parse_rate(limit_rate) if limit_rate else None
    settings = load_settings(get_config())
    opened = open_source(source, kind=parse_kind(kind))

    async def work() -> int:
        connections = parallel or settings.parallel
        async with open_session(settings, connections=connections) as session:
            lane_name, destinations = lane_to(session.bundle, session.site, target.site, lane)
            order = PushOrder(
                lane=lane_name,
                destinations=destinations,
                repository=target.repository,
                tag=target.tag,
                declarations=declarations,
                initiator=initiator,
                wait=wait_for_state,
                timeout_s=timeout_s,
                level=level,
                parallel=connections,
                limit_rate=rate or settings.limit_rate,
                fresh=fresh,
                sealed=sealed,
            )
            if dry_run:
                answer = await check(session, opened, order)
                return show_advice(terminal, answer.advice, f"{target.repository}:{target.tag}", str(destinations[0]))
            counters = Progress()
            started = time.monotonic()
            async with shown(counters, ProgressMode.NONE if quiet else progress, "push"):
                result = await run_push(session, opened, order, counters)
            elapsed = time.monotonic() - started
            document = _document(result, elapsed)
            sent = (
                f"  {format_bytes(counters.done)} of content, {format_bytes(counters.wire_bytes)} sent, "
                f"{format_bytes(counters.saved)} were there already, {elapsed:.1f} s"
            )
            lines = describe(result.view, result.mode)
            if result.resumed:
                lines.append("  continued where an earlier push stopped")
            status = exit_status(result.view)
            if status:
                terminal.answer(document, lines)
            else:
                terminal.done(document, [*lines, sent])
            return status

    raise typer.Exit(wait_for(work()))


def _document(result: "PushResult", elapsed: float) -> dict[str, Any]:
    """Return what became of a push, for `--json`."""
    return {
        "transfer": result.view.model_dump(mode="json"),
        "advice": result.advice.model_dump(mode="json"),
        "bytes_read": result.progress.bytes_read,
        "bytes_sent": result.progress.wire_bytes,
        "bytes_saved": result.progress.saved,
        "segments_sent": result.progress.segments_sent,
        "elapsed_ms": int(elapsed * 1000),
        "resumed": result.resumed,
        "lane_mode": result.mode.value,
    }


def pull(
    name: Annotated[str, typer.Argument(metavar="REPOSITORY:TAG", help="What, from the home site.")],
    sink: Annotated[
        str, typer.Argument(help="oci:PATH[:TAG], docker-archive:PATH, file:PATH, dir:PATH, or - for standard output.")
    ],
    *,
    parallel: Annotated[int | None, typer.Option(min=1, max=64, help="Connections.")] = None,
    progress: Progressing = ProgressMode.AUTO,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pull an artifact from the home site; every signature, proof and digest is checked before it is visible."""
    from datetime import timedelta

    from agent.commands.names import parse_name
    from agent.pull import pull as run_pull
    from agent.session import open_session
    from agent.settings import load_settings
    from agent.sinks import open_sink
    from carnet.errors import CallerError
    from carnet.flow.progress import Progress

    if json and sink in ("-", "file:-"):
        raise CallerError("E-USAGE", "standard output takes the content or the document, not both", remedy="leave out --json")
    terminal = Terminal(json, quiet, verbose)
    repository, tag = parse_name(name)
    settings = load_settings(get_config())

    async def work() -> None:
        grace = timedelta(hours=settings.pull_grace_hours)
        async with open_session(settings, connections=parallel or settings.parallel, grace=grace) as session:
            counters = Progress()
            started = time.monotonic()
            async with shown(counters, ProgressMode.NONE if quiet else progress, "pull"):
                granted = await run_pull(
                    session,
                    repository,
                    tag,
                    lambda kind: open_sink(sink, kind, tag=str(tag), name=f"{repository}:{tag}"),
                    counters,
                )
            elapsed = time.monotonic() - started
            view = granted.view
            document: dict[str, Any] = {
                "artifact": view.model_dump(mode="json"),
                "waybill": granted.waybill.digest,
                "bytes_written": counters.bytes_read,
                "bytes_fetched": counters.wire_bytes,
                "elapsed_ms": int(elapsed * 1000),
            }
            line = f"PULLED  {view.repository}:{view.tag}@{view.digest}  from {view.origin}"
            more = f"  {format_bytes(counters.bytes_read)} verified, {format_bytes(counters.wire_bytes)} fetched, {elapsed:.1f} s"
            if sink in {"-", "file:-"}:
                terminal.note(line)
            else:
                terminal.done(document, [line, more])

    wait_for(work())


def inspect(
    source: Source,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="[SITE:]REPOSITORY:TAG", help="Where it would go; without it, only the source is shown."),
    ] = None,
    *,
    declare: Declared = None,
    lane: Lane = None,
    kind: Kind = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Say what a source is, and what the home site would decide about it from what is declared."""
    from agent.commands.names import lane_to, parse_target
    from agent.push import PushOrder, check
    from agent.session import open_session
    from agent.settings import load_settings
    from agent.sources import open_source

    terminal = Terminal(json, quiet, verbose)
    declarations = parse_declarations(declare or [])
    opened = open_source(source, kind=parse_kind(kind))
    about: dict[str, Any] = {
        "kind": opened.kind,
        "media_type": opened.media_type,
        "title": opened.title,
        "digest": opened.digest,
        "size": opened.size_hint,
    }
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in about.items() if value is not None]
    if destination is None:
        terminal.answer({"source": about}, lines)
        return
    target = parse_target(destination)
    settings = load_settings(get_config())

    async def work() -> int:
        async with open_session(settings, connections=1) as session:
            lane_name, destinations = lane_to(session.bundle, session.site, target.site, lane)
            order = PushOrder(
                lane=lane_name,
                destinations=destinations,
                repository=target.repository,
                tag=target.tag,
                declarations=declarations,
            )
            answer = await check(session, opened, order)
            if not json:
                terminal.answer({}, lines)
            return show_advice(
                terminal, answer.advice, f"{target.repository}:{target.tag}", str(destinations[0]), {"source": about}
            )

    raise typer.Exit(wait_for(work()))


def show_advice(terminal: Terminal, advice: Any, name: str, destination: str, more: dict[str, Any] | None = None) -> int:
    """Print what the site would decide, and return the exit status that a push would have."""
    from agent.commands.outcome import reason_lines

    status = {"allow": 0, "hold": 3, "quarantine": 4, "deny": 4}[advice.outcome]
    lines = [f"{advice.outcome.upper()}  {name} -> {destination}", *reason_lines(advice.reasons)]
    terminal.answer({**(more or {}), "advice": advice.model_dump(mode="json")}, lines)
    return status


def parse_kind(text: str | None) -> Any:
    """Return the artifact kind that `--kind` names, or None."""
    from carnet.oci import ArtifactKind

    return None if text is None else parse_choice(text, ArtifactKind, "--kind")


def parse_choice(text: str, choices: Any, flag: str) -> Any:
    """Return the member of the enumeration that `text` names; raise `CallerError` E-USAGE listing them."""
    from carnet.errors import CallerError

    try:
        return choices(text)
    except ValueError:
        known = ", ".join(str(choice) for choice in choices)
        raise CallerError("E-USAGE", f"{flag} {ascii(text)[:60]} is not one of: {known}") from None


def parse_declarations(pairs: list[str]) -> Any:
    """Return the declarations of `--declare KEY=VALUE` flags; raise `CallerError` E-USAGE naming the first that is wrong."""
    from pydantic import ValidationError

    from carnet.errors import CallerError
    from carnet.waybill import Declarations

    single = {"classification", "export-number", "licence", "legal-basis", "purpose"}
    fields = {"export-number": "export_control_number"}
    values: dict[str, Any] = {"data_categories": [], "labels": {}}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise CallerError("E-USAGE", f"--declare {ascii(pair)[:80]} is not KEY=VALUE")
        if key in single:
            values[fields.get(key, key.replace("-", "_"))] = value
        elif key == "data-category":
            values["data_categories"].append(value)
        elif key.startswith("label."):
            values["labels"][key.removeprefix("label.")] = value
        else:
            known = ", ".join(sorted(single | {"data-category", "label.KEY"}))
            raise CallerError("E-USAGE", f"--declare {ascii(key)[:60]} is not one of: {known}")
    try:
        return Declarations.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(piece) for piece in first["loc"])
        raise CallerError("E-USAGE", f"--declare {path}: {first['msg']}") from None


def parse_rate(text: str) -> int:
    """Return bytes a second of `50M`, `800k`, `1Gi`; raise `CallerError` E-USAGE otherwise."""
    from carnet.errors import CallerError

    number = text.rstrip("kKmMgGiI")
    suffix = text[len(number) :].lower()
    if not number.isascii() or not number.isdigit() or suffix not in _SUFFIXES or int(number) == 0:
        raise CallerError("E-USAGE", f"not a rate: {ascii(text)[:40]}", remedy="write bytes a second, as in 50M or 800k")
    return int(number) * _SUFFIXES[suffix]


def parse_duration(text: str) -> float:
    """Return seconds of `90`, `90s`, `30m`, `2h`; raise `CallerError` E-USAGE otherwise."""
    from carnet.errors import CallerError

    number = text.rstrip("smhd")
    suffix = text[len(number) :]
    if not number.isascii() or not number.isdigit() or suffix not in _TIME_SUFFIXES:
        raise CallerError("E-USAGE", f"not a time: {ascii(text)[:40]}", remedy="write it as in 90s, 30m or 2h")
    return int(number) * _TIME_SUFFIXES[suffix]
