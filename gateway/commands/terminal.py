"""What every command of `carnet-gateway` has in common: its flags, its output, and how an error ends it.

Results go to standard output, as lines or as one JSON document; everything else goes to standard error.

Rules:      1. a failure is one line and a hint, never a traceback  2. the exit status is the error family's
            3. usage errors are found before anything runs and exit 2
"""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.exceptions import Abort, TyperException

if TYPE_CHECKING:
    from carnet.errors import CarnetError

PROGRAM = "carnet-gateway"
Result = TypeVar("Result")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The site directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, on standard error.")]


@dataclass(frozen=True)
class Terminal:
    """Where a command writes."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def answer(self, document: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Print what was asked for: the document with `--json`, else the lines."""
        if self.json:
            print(json.dumps(document, ensure_ascii=False, sort_keys=True))  # noqa: T201 - the result of the command
        else:
            for line in lines:
                print(line)  # noqa: T201 - the result of the command

    def done(self, document: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Say what was done, unless told to be quiet; with `--json` the document is always printed."""
        if self.json or not self.quiet:
            self.answer(document, lines)

    def note(self, line: str) -> None:
        """Say on standard error what a person may want to know."""
        if not self.quiet:
            print(line, file=sys.stderr)  # noqa: T201 - for the person at the terminal

    def detail(self, line: str) -> None:
        """Say on standard error what only `--verbose` asks for."""
        if self.verbose:
            self.note(line)


def new_app(text: str, *, is_root: bool = False) -> typer.Typer:
    """Return a group of commands; each flag also has an environment variable `CARNET_GATEWAY_<COMMAND>_<FLAG>`.

    Groups below the root take prefix and help flags from it.
    """
    root = {"auto_envvar_prefix": "CARNET_GATEWAY", "help_option_names": ["-h", "--help"]}
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=root if is_root else {},
    )


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return the exit status; every error ends here."""
    try:
        status = app(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except TyperException as error:
        print(_usage_text(error), file=sys.stderr)  # noqa: T201 - the error itself
        return getattr(error, "exit_code", 2)
    except (Abort, KeyboardInterrupt):
        from carnet.presentation import EXIT_INTERRUPTED

        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:  # noqa: BLE001 - the one place where a defect becomes a line
        return _report(error, arguments)
    return status if isinstance(status, int) else 0


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, as every command does that touches the catalog."""
    return asyncio.run(work)


def serve_until_stopped(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `serve` under uvloop where there is one; the event it is given is set by SIGTERM or SIGINT."""

    async def supervise() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(stop)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(supervise())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _usage_text(error: TyperException) -> str:
    message = error.format_message()
    return (
        message if message.startswith("Usage:") else f"{PROGRAM}: {message.rstrip('.')} [E-USAGE]\nhint: {PROGRAM} COMMAND --help"
    )


def _report(error: Exception, arguments: Sequence[str]) -> int:
    from carnet.errors import CarnetError, InternalError
    from carnet.presentation import error_document, error_lines

    known = _as_known(error) or InternalError(
        "E-INTERNAL", f"{type(error).__name__}: {error}", remedy="run it again with --verbose, and report it"
    )
    if "--json" in arguments:
        print(json.dumps(error_document(known), ensure_ascii=False, sort_keys=True))  # noqa: T201 - for the program that reads us
    for line in error_lines(PROGRAM, known):
        print(line, file=sys.stderr)  # noqa: T201 - the error itself
    if not isinstance(error, CarnetError | BaseExceptionGroup) and {"-v", "--verbose"} & set(arguments):
        import traceback

        traceback.print_exception(error)
    return known.exit_status


def _as_known(error: BaseException) -> "CarnetError | None":
    """Return the error of ours in `error`, which a task group may have wrapped."""
    from carnet.errors import CarnetError

    if isinstance(error, CarnetError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((known for inner in error.exceptions if (known := _as_known(inner))), None)
    return None
