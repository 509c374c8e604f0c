"""Names of files as text for people: a name may be any bytes, a terminal and a manifest take only some.

Rules:      1. any script is kept as it is, nothing is normalised  2. what controls a terminal never gets through
"""

import os
import unicodedata

from carnet.limits import TEXT_CHARS_MAX


def shown(name: str | bytes) -> str:
    """Return `name` for an error or a log: printable characters as they are, all others escaped as Python writes them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in os.fsdecode(name))


def display_title(name: str | bytes) -> str:
    """Return `name` as a title: `%XX` for control characters, surrogates and bytes that are not UTF-8; at most TEXT_CHARS_MAX.

    A title is not meant to be turned back into a name (`%` itself is kept): where content goes is its reader's choice.
    """
    parts = (
        char
        if unicodedata.category(char) not in ("Cc", "Cs")
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in os.fsdecode(name)
    )
    return "".join(parts)[:TEXT_CHARS_MAX]


def base_name(path: str) -> str:
    """Return the last component of `path`, also of `.` and of a path that ends in a slash."""
    return os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119 - names may be any bytes
