"""Writes copies of decisions to places of other regions: mounted storage, whose failure is no reason for the site to end."""

from pathlib import Path

from carnet.errors import InternalError
from gateway.storage.durable import SyncFailure, make_directory, write_durable


def write_copy(path: Path, data: bytes) -> None:
    """Put `data` under `path`, durable when this returns. Blocks.

    Raises:
        Unavailable: E-DISK-FULL. InternalError: E-DISK, also for a sync that failed: the copy counts as not written.
    """
    try:
        make_directory(path.parent)
        write_durable(path, data)
    except SyncFailure as failure:
        raise InternalError("E-DISK", f"a copy in {path.parent} could not be made durable: {failure.problem}") from None
