"""The frame of both commands: how a command line is run, how results are printed, how every error ends.

Results go to standard output, as lines or as one JSON document; everything else goes to standard error.

Rules:      1. a failure is one line and a hint, never a traceback  2. the exit status is the error family's
            3. usage errors are found before anything runs and exit 2
Spec:       DESIGN section 11; docs/operations.md section "Exit statuses"
"""

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.exceptions import Abort, TyperException

if TYPE_CHECKING:
    from carnet.errors import CarnetError

EXIT_BROKEN_PIPE = 1
Result = TypeVar("Result")

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


def new_app(text: str, *, environment_prefix: str | None = None) -> typer.Typer:
    """Return a group of commands; below a root with a prefix each flag has a variable `<PREFIX>_<COMMAND>_<FLAG>`.

    Groups below the root take prefix and help flags from it.
    """
    root = {"auto_envvar_prefix": environment_prefix, "help_option_names": ["-h", "--help"]}
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=root if environment_prefix is not None else {},
    )


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; Ctrl-C cancels it, so temporary files go."""
    return asyncio.run(work)


def run(app: typer.Typer, program: str, arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return the exit status; every error ends here."""
    try:
        status = app(list(arguments), prog_name=program, standalone_mode=False)
    except TyperException as error:
        print(_usage_text(error, program), file=sys.stderr)  # noqa: T201 - the error itself
        return getattr(error, "exit_code", 2)
    except (Abort, KeyboardInterrupt):
        from carnet.presentation import EXIT_INTERRUPTED

        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the one place where a defect becomes a line
        return _report(error, program, arguments)
    return status if isinstance(status, int) else 0


def _usage_text(error: TyperException, program: str) -> str:
    message = error.format_message()
    if message.startswith("Usage:"):
        return message
    return f"{program}: {message.rstrip('.')} [E-USAGE]\nhint: {program} COMMAND --help"


def _report(error: Exception, program: str, arguments: Sequence[str]) -> int:
    from carnet.errors import CarnetError, InternalError
    from carnet.presentation import error_document, error_lines

    known = known_error(error) or InternalError(
        "E-INTERNAL", f"{type(error).__name__}: {error}", remedy="run it again with --verbose, and report it"
    )
    if "--json" in arguments:
        print(json.dumps(error_document(known), ensure_ascii=False, sort_keys=True))  # noqa: T201 - for the program that reads us
    for line in error_lines(program, known):
        print(line, file=sys.stderr)  # noqa: T201 - the error itself
    if not isinstance(error, CarnetError | BaseExceptionGroup) and {"-v", "--verbose"} & set(arguments):
        import traceback

        traceback.print_exception(error)
    return known.exit_status


def known_error(error: BaseException) -> "CarnetError | None":
    """Return the error of ours in `error`, which a task group may have wrapped."""
    from carnet.errors import CarnetError

    if isinstance(error, CarnetError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((known for inner in error.exceptions if (known := known_error(inner))), None)
    return None
