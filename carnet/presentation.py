"""How both commands tell a person about an error: the same lines, the same exit status.

It turns an error into text and a number and writes neither; the commands do.

Rules:      1. one line says what happened, with its code; one says what to do  2. no control character reaches a terminal
            3. the exit status is the family's
Spec:       DESIGN section 11 (exit statuses); docs/operations.md
Example:    >>> from carnet.errors import NotFound
            >>> error_lines("carnet", NotFound("E-ARTIFACT-UNKNOWN", "no artifact app:v9"))[0]
            'carnet: no artifact app:v9 [E-ARTIFACT-UNKNOWN]'
"""

import unicodedata

from carnet.encoding import JsonValue
from carnet.errors import CapacityError, CarnetError, Unavailable

_CHARS_MAX = 2_000
"""What was given may be repeated in a problem, and can be as long as an argument."""
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that move a cursor, hide text, start a line, or cannot be written at all."""
EXIT_USAGE = 2
"""Wrong arguments: found by the command's parser, before anything runs."""
EXIT_INTERRUPTED = 130
"""The person pressed Ctrl-C."""


def error_lines(program: str, error: CarnetError) -> tuple[str, ...]:
    """Return the lines for standard error: `<program>: <problem> [<code>]`, then `hint: <remedy>` if there is one."""
    lines = [f"{program}: {_bounded(printable(error.problem))} [{error.code}]"]
    if error.remedy:
        lines.append(f"hint: {_bounded(printable(error.remedy))}")
    return tuple(lines)


def _bounded(text: str) -> str:
    return text if len(text) <= _CHARS_MAX else f"{text[: _CHARS_MAX // 2]} ... {text[-_CHARS_MAX // 2 :]}"


def error_document(error: CarnetError) -> dict[str, JsonValue]:
    """Return the error as `--json` prints it."""
    document: dict[str, JsonValue] = {
        "error": error.code,
        "problem": error.problem,
        "remedy": error.remedy,
        "exit_status": error.exit_status,
    }
    if isinstance(error, Unavailable):
        document["retry_after_s"] = error.retry_after_s
    if isinstance(error, CapacityError):
        document["limit"] = error.limit
    return document


def printable(text: str) -> str:
    """Return `text` on one line, control and format characters replaced: part of it may come from a peer."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) in _UNPRINTABLE else char for char in text)
