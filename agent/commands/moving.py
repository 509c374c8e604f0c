"""`push`, `pull`, `inspect`: what a build server and a consumer run."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.connection import GiveUp, asking, connected, end_with
from agent.commands.progress_line import ProgressMode, format_bytes, shown
from agent.commands.terminal import get_config
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for

if TYPE_CHECKING:
    from agent.push import PushResult
    from carnet.errors import CarnetError

Source = Annotated[str, typer.Argument(help="oci:PATH[:TAG], docker-archive:PATH, file:PATH, dir:PATH, or - for standard input.")]
Declared = Annotated[
    list[str] | None,
    typer.Option(
        "--declare",
        "-d",
        metavar="KEY=VALUE",
        help="Declare a fact: classification, data-category (repeat), export-number, licence, legal-basis, purpose, "
        "party=ROLE:NAME[:COUNTRY] (repeat), value=AMOUNT:CURRENCY, label.KEY.",
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
        int | None,
        typer.Option(min=-5, max=19, help="Compression level; without it, chosen by what the link takes and what is new."),
    ] = None,
    limit_rate: Annotated[str | None, typer.Option(help="Most bytes a second, such as 50M.")] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, max=64, help="Segments on their way at once; else as the gateway's distance asks for.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what the site would decide.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not continue an interrupted push; begin again.")] = False,
    sealed: Annotated[bool, typer.Option("--sealed", help="Send only if the lane is sealed: this site cannot open it.")] = False,
    progress: Progressing = ProgressMode.AUTO,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Push an artifact to the home site, or over a lane to another site. Run again after an interruption, it continues."""
    from agent.amounts import parse_duration, parse_rate
    from agent.commands.names import lane_to, parse_target
    from agent.push import PushOrder, Wait, check
    from agent.push import push as run_push
    from agent.settings import load_settings
    from agent.sources import open_source
    from carnet.flow.progress import Progress

    terminal = Terminal(json, quiet, verbose)
    target = parse_target(destination)
    declarations = parse_declarations(declare or [])
    behalf = parse_initiator(initiator)
    wait_for_state = parse_choice(wait, Wait, "--wait")
    timeout_s = None if timeout is None else parse_duration(timeout)
    rate = None if limit_rate is None else parse_rate(limit_rate)
    settings = load_settings(get_config())
    opened = open_source(source, kind=parse_kind(kind))
    counters = Progress()

    async def work() -> "CarnetError | None":
        started = time.monotonic()
        mode = ProgressMode.NONE if quiet or dry_run else progress
        async with (
            shown(counters, mode, "push", terminal) as on_wait,
            connected(
                terminal,
                settings=settings,
                connections=parallel or settings.parallel,
                timeouts=asking(timeout) if dry_run else None,
                on_wait=on_wait,
            ) as session,
        ):
            lane_name, destinations = lane_to(session.bundle, session.site, target.site, lane)
            order = PushOrder(
                lane=lane_name,
                destinations=destinations,
                repository=target.repository,
                tag=target.tag,
                declarations=declarations,
                initiator=behalf,
                wait=wait_for_state,
                timeout_s=timeout_s,
                level=level,
                limit_rate=rate or settings.limit_rate,
                fresh=fresh,
                sealed=sealed,
            )
            if dry_run:
                answer = await check(session, opened, order)
                return show_advice(terminal, answer.advice, f"{target.repository}:{target.tag}", str(destinations[0]))
            result = await run_push(session, opened, order, counters)
        return _show_result(terminal, result, time.monotonic() - started)

    end_with(wait_for(work()))


def _show_result(terminal: Terminal, result: "PushResult", elapsed: float) -> "CarnetError | None":
    """Print what became of a push, and return the error that it is, if it is one."""
    from agent.commands.outcome import describe, failure

    document, counters = _document(result, elapsed), result.progress
    lines = describe(result.view, result.mode)
    if result.resumed:
        lines.append("  continued where an earlier push stopped")
    sent = (
        f"  {format_bytes(counters.done)} of content, {format_bytes(counters.wire_bytes)} sent, "
        f"{format_bytes(counters.saved)} were there already, {elapsed:.1f} s"
    )
    error = failure(result.view)
    if error is None:
        terminal.done(document, [*lines, sent])
    else:
        terminal.answer(document, lines)
    return error


def _document(result: "PushResult", elapsed: float) -> dict[str, Any]:
    """Return what became of a push, for `--json`."""
    return {
        "transfer": result.view.model_dump(mode="json"),
        "advice": result.advice.model_dump(mode="json"),
        "bytes_done": result.progress.done,
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
    parallel: Annotated[
        int | None, typer.Option(min=1, max=64, help="Segments on their way at once; else as the gateway's distance asks for.")
    ] = None,
    progress: Progressing = ProgressMode.AUTO,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pull an artifact from the home site; every signature, proof and digest is checked before it is visible."""
    from datetime import timedelta

    from agent.commands.names import parse_name
    from agent.pull import pull as run_pull
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
        started, counters = time.monotonic(), Progress()
        grace = timedelta(hours=settings.pull_grace_hours)
        async with (
            shown(counters, ProgressMode.NONE if quiet else progress, "pull", terminal) as on_wait,
            connected(
                terminal, settings=settings, connections=parallel or settings.parallel, on_wait=on_wait, grace=grace
            ) as session,
        ):
            granted = await run_pull(
                session,
                repository,
                tag,
                lambda kind: open_sink(sink, kind, tag=str(tag), name=f"{repository}:{tag}"),
                counters,
            )
        elapsed, view = time.monotonic() - started, granted.view
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


def inspect(  # noqa: PLR0913 - a command's flags are its parameters
    source: Source,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="[SITE:]REPOSITORY:TAG", help="Where it would go; without it, only the source is shown."),
    ] = None,
    *,
    declare: Declared = None,
    lane: Lane = None,
    kind: Kind = None,
    timeout: GiveUp = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Say what a source is, what the home site would decide about it from what is declared, and what is missing."""
    from agent.commands.names import lane_to, parse_target
    from agent.push import PushOrder, check
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

    async def work() -> "CarnetError | None":
        async with connected(terminal, timeouts=asking(timeout)) as session:
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

    end_with(wait_for(work()))


def show_advice(
    terminal: Terminal, advice: Any, name: str, destination: str, more: dict[str, Any] | None = None
) -> "CarnetError | None":
    """Print what the site would decide, and return the error that a push would end with, if it would."""
    from agent.commands.outcome import advice_lines, advised

    lines = [f"{advice.outcome.upper()}  {name} -> {destination}", *advice_lines(advice)]
    terminal.answer({**(more or {}), "advice": advice.model_dump(mode="json")}, lines)
    return advised(advice, name, destination)


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


_DIGITS_MAX = 20
_REPEATED = {"data-category", "party"}
_FLAG_OF = {"data_categories": "data-category", "labels": "label", "parties": "party", "currency": "value"}


def _party(value: str) -> dict[str, str]:
    """Return the party that ROLE:NAME or ROLE:NAME:COUNTRY names; what is wrong with it is found with the rest."""
    role, _, name = value.partition(":")
    known, colon, country = name.rpartition(":")
    return {"role": role, "name": known, "country": country} if colon else {"role": role, "name": name}


def parse_declarations(pairs: list[str]) -> Any:
    """Return the declarations of `--declare KEY=VALUE` flags; raise `CallerError` E-USAGE naming the first that is wrong."""
    from pydantic import ValidationError

    from carnet.errors import CallerError
    from carnet.waybill import Declarations

    single = {"classification", "export-number", "licence", "legal-basis", "purpose"}
    fields = {"export-number": "export_control_number"}
    values: dict[str, Any] = {"data_categories": [], "labels": {}, "parties": []}
    given: set[str] = set()
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise CallerError("E-USAGE", f"--declare {ascii(pair)[:80]} is not KEY=VALUE")
        if key not in _REPEATED and key in given:
            raise CallerError("E-USAGE", f"--declare {ascii(key)[:60]} is given twice", remedy="give it once")
        given.add(key)
        if key in single:
            values[fields.get(key, key.replace("-", "_"))] = value
        elif key == "data-category":
            values["data_categories"].append(value)
        elif key == "party":
            values["parties"].append(_party(value))
        elif key == "value":
            amount, _, currency = value.partition(":")
            values |= {
                "value": int(amount) if amount.isdecimal() and len(amount) < _DIGITS_MAX else amount,
                "currency": currency or None,
            }
        elif key.startswith("label."):
            values["labels"][key.removeprefix("label.")] = value
        else:
            known = ", ".join(sorted(single | _REPEATED | {"value", "label.KEY"}))
            raise CallerError("E-USAGE", f"--declare {ascii(key)[:60]} is not one of: {known}")
    try:
        return Declarations.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        flags = {name: flag for flag, name in fields.items()} | _FLAG_OF
        field, *rest = (str(piece) for piece in first["loc"] or ("value",))
        key = ".".join([flags.get(field, field.replace("_", "-")), *(piece for piece in rest[:1] if field == "labels")])
        raise CallerError("E-USAGE", f"--declare {ascii(key)[:80]}: {first['msg'].removeprefix('Value error, ')}") from None


def parse_initiator(text: str | None) -> str | None:
    """Return the text of `--initiator` if a waybill can carry it; raise `CallerError` E-USAGE otherwise."""
    from pydantic import TypeAdapter, ValidationError

    from carnet.errors import CallerError
    from carnet.statement import ShortText

    try:
        return None if text is None else TypeAdapter(ShortText).validate_python(text)
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise CallerError("E-USAGE", f"--initiator: {said}", remedy="name a person or a job, in one line") from None
