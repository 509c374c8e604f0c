"""Verification of a log directory, offline: the files, the log's key, nothing else.

Rules:      1. all checking is `carnet.logcheck`'s; this only reads files, each within its bound
"""

from pathlib import Path

from carnet.checkpoint import Checkpoint
from carnet.keys import VerifyingKey
from carnet.logcheck import LogReport, verify_log
from gateway.translog.files import read_log_file


def verify_directory(directory: Path, *, origin: str, key: VerifyingKey, previous: Checkpoint | None = None) -> LogReport:
    """Return the report on the log in `directory`; blocks for as long as the log is long.

    Raises:
        IntegrityError: E-LOG naming the checkpoint, the entry or the tile that is wrong or missing.
    """
    return verify_log(lambda path: read_log_file(directory, path), origin=origin, key=key, previous=previous)
