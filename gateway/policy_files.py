"""Reads one file of rules, groups or cases: bounded, UTF-8, and named in one clear line if it cannot be read.

Rules:      1. at most `POLICY_BYTES_MAX` are read, whatever the file's size
"""

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO

from carnet.errors import CallerError
from carnet.limits import POLICY_BYTES_MAX


def read_policy_file(path: Path | Traversable, name: str) -> str:
    """Return the text of the file; raise `CallerError` E-POLICY with `name` if it is missing, unreadable, longer or not text."""
    try:
        with path.open("rb") as file:
            return read_policy_text(file, name)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise CallerError("E-POLICY", f"{name}: cannot be read: {reason}", remedy="name a file that exists") from None


def read_policy_text(file: IO[bytes], name: str) -> str:
    """Return the text that `file` holds; raise `CallerError` E-POLICY with `name` if it is longer, or not text."""
    data = file.read(POLICY_BYTES_MAX + 1)
    if len(data) > POLICY_BYTES_MAX:
        raise CallerError(
            "E-POLICY", f"{name}: longer than {POLICY_BYTES_MAX} bytes (POLICY_BYTES_MAX)", remedy="divide it into several files"
        )
    return decode_text(data, name)


def decode_text(data: bytes, name: str) -> str:
    """Return the text exactly; raise `CallerError` E-POLICY with `name` and the line of the first byte that is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CallerError("E-POLICY", f"{name}: line {line}: not UTF-8 text", remedy=f"save {name} as UTF-8") from None
