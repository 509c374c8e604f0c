"""The frame of both commands: how a command line is run, how results are printed, how every error ends.

Results go to standard output, as lines or as one JSON document; everything else goes to standard error.

Rules:      1. a failure is one line and a hint, never a traceback  2. the exit status is the error family's
            3. usage errors are found before anything runs and exit 2  4. `--json` prints one document: what the command found, or
            else its error
Spec:       DESIGN section 11; docs/operations.md section "Exit statuses"
"""

import asyncio
import errno
import json
import re
import signal
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.exceptions import Abort, TyperException

from carnet.flow.event_loop import new_event_loop

if TYPE_CHECKING:
    from carnet.errors import CarnetError

EXIT_BROKEN_PIPE = 1
_WRONG_PATH = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_TEMPORARY = re.compile(r"(?<![^/])\.([^/]+)\.tmp\Z")
"""How a file is called while it is written; a person knows it by its own name."""
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
            _print_document(document)
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
    """Run a coroutine to its end; Ctrl-C and SIGTERM cancel it, so temporary files go."""

    async def supervised() -> Result:
        current = asyncio.current_task()
        if current is not None and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
        return await work

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(supervised())
    except (asyncio.CancelledError, KeyboardInterrupt):
        # As an interruption itself it would end in the parser, which returns a bare 130.
        raise Abort from None


def run(app: typer.Typer, program: str, arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return the exit status; every error ends here."""
    _Output.has_document = False
    try:
        status = app(list(arguments), prog_name=program, standalone_mode=False)
    except TyperException as error:
        return _report_usage(error, program, arguments)
    except (Abort, KeyboardInterrupt):
        return _report_interruption(program, arguments)
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the one place where a defect becomes a line
        return _report(error, program, arguments)
    return status if isinstance(status, int) else 0


def _report_usage(error: TyperException, program: str, arguments: Sequence[str]) -> int:
    message = error.format_message()
    status: int = getattr(error, "exit_code", 2)
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)  # noqa: T201 - a group was named without a command
        return status
    context = getattr(error, "ctx", None)
    variable = _variable(error)
    if variable is not None:
        message = f"environment variable {variable}: {error.message}"
    problem = message.rstrip(".").replace("Value error, ", "")
    remedy = f"{context.command_path if context else f'{program} COMMAND'} --help"
    if "--json" in arguments:
        _print_document({"error": "E-USAGE", "problem": problem, "remedy": remedy, "exit_status": status})
    print(f"{program}: {problem} [E-USAGE]\nhint: {remedy}", file=sys.stderr)  # noqa: T201 - the error itself
    return status


def _variable(error: TyperException) -> str | None:
    """Return the variable of the environment that `error` is about: nobody wrote the flag that the parser would blame."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None or parameter.name is None:
        return None
    source = context.get_parameter_source(parameter.name)
    if source is None or source.name != "ENVIRONMENT":
        return None
    names = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
    return names[0] if names else f"{context.auto_envvar_prefix}_{parameter.name.upper()}"


def _report_interruption(program: str, arguments: Sequence[str]) -> int:
    from carnet.errors import CODES
    from carnet.presentation import EXIT_INTERRUPTED

    problem, remedy = "stopped before the end, by Ctrl-C or SIGTERM", CODES["E-INTERRUPTED"]
    if "--json" in arguments:
        _print_document({"error": "E-INTERRUPTED", "problem": problem, "remedy": remedy, "exit_status": EXIT_INTERRUPTED})
    print(f"{program}: {problem} [E-INTERRUPTED]\nhint: {remedy}", file=sys.stderr)  # noqa: T201 - the error itself
    return EXIT_INTERRUPTED


class _Output:
    """Whether this run has printed its document: a check that fails has, and its error then goes to standard error alone."""

    has_document = False


def _print_document(document: Mapping[str, Any]) -> None:
    if not _Output.has_document:
        _Output.has_document = True
        print(json.dumps(document, ensure_ascii=False, sort_keys=True))  # noqa: T201 - for the program that reads us


def _report(error: Exception, program: str, arguments: Sequence[str]) -> int:
    from carnet.errors import CarnetError, InternalError
    from carnet.presentation import error_document, error_lines

    cause = known_error(error) or _first_of(error)
    known = _path_error(cause) or cause
    if not isinstance(known, CarnetError):
        remedy = "run it again with --verbose, and report it"
        known = InternalError("E-INTERNAL", f"{type(cause).__name__}: {cause}", remedy=remedy)
    if "--json" in arguments:
        _print_document(error_document(known))
    for line in error_lines(program, known):
        print(line, file=sys.stderr)  # noqa: T201 - the error itself
    if not isinstance(cause, CarnetError) and {"-v", "--verbose"} & set(arguments):
        import traceback

        traceback.print_exception(error)
    return known.exit_status


def _path_error(error: Exception) -> "CarnetError | None":
    """Return what a path on this machine did wrong, where no command said it better; a full standard output has no path.

    An E-DISK for a path that does not exist or is closed is the caller's to put right, not the disk's.
    """
    from carnet.errors import CallerError, CarnetError, InternalError, Unavailable

    if isinstance(error, CarnetError) and error.code == "E-DISK" and isinstance(error.__cause__, _WRONG_PATH):
        error = error.__cause__
    if not isinstance(error, OSError):
        return None
    place, reason = (
        _TEMPORARY.sub(r"\1", str(error.filename or "standard output")),
        (error.strerror or "input/output error").lower(),
    )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            "E-DISK-FULL", f"cannot write {place}: {reason}", remedy="free space there and run the same command again"
        )
    if error.filename is not None and isinstance(error, _WRONG_PATH):
        return CallerError("E-USAGE", f"cannot use {place}: {reason}", remedy="check the path, and who may read and write there")
    if error.errno in (errno.EROFS, errno.EIO):
        return InternalError("E-DISK", f"cannot use {place}: {reason}", remedy="check the disk, and how it is mounted")
    return None


def _first_of(error: Exception) -> Exception:
    """Return what went wrong first, where a task group has wrapped it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def known_error(error: BaseException) -> "CarnetError | None":
    """Return the error of ours in `error`, which a task group may have wrapped."""
    from carnet.errors import CarnetError

    if isinstance(error, CarnetError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((known for inner in error.exceptions if (known := known_error(inner))), None)
    return None
