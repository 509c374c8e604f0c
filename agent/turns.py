"""Remembers the newest turn of each tag that this machine pulled, so that its site cannot hand out an older artifact again.

One small file in the identity directory. A runner that starts without it learns anew; what it can do is ask for a turn.
"""

from pathlib import Path

from agent.identity import save_files
from carnet.encoding import JsonValue, canonical, parse_object
from carnet.errors import IntegrityError
from carnet.limits import MIB
from carnet.waybill import Waybill

_NAME = "turns.json"
_TAGS_MAX = 10_000


def check_turn(directory: Path, waybill: Waybill) -> None:
    """Return if the waybill is the newest seen for its tag from its origin; raise `IntegrityError` E-ROLLBACK if it is older."""
    known = _read(directory).get(_key(waybill))
    if known is None:
        return
    turn, digest = known
    name = f"{waybill.repository}:{waybill.tag}"
    if waybill.turn < turn or (waybill.turn == turn and waybill.digest != digest):
        raise IntegrityError(
            "E-ROLLBACK",
            f"the site answers with turn {waybill.turn} of {name}; this machine has seen turn {turn}",
            remedy="ask the operator why an older artifact is served; nothing was written",
        )


def remember_turn(directory: Path, waybill: Waybill) -> None:
    """Keep the waybill's turn for its tag, durably; the tags seen longest ago go when there are too many."""
    turns = _read(directory)
    turns.pop(_key(waybill), None)
    turns[_key(waybill)] = (waybill.turn, waybill.digest)
    kept: list[JsonValue] = [[key, turn, digest] for key, (turn, digest) in list(turns.items())[-_TAGS_MAX:]]
    save_files(directory, {_NAME: canonical({"turns": kept, "v": 1})})


def _read(directory: Path) -> dict[str, tuple[int, str]]:
    path = directory / _NAME
    if not path.is_file():
        return {}
    rows = parse_object(path.read_bytes(), bytes_max=4 * MIB).get("turns")
    found: dict[str, tuple[int, str]] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and isinstance(row[1], int):  # noqa: PLR2004
            found[row[0]] = (row[1], str(row[2]))
    return found


def _key(waybill: Waybill) -> str:
    return f"{waybill.origin.site}/{waybill.repository}:{waybill.tag}"
