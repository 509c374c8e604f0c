"""Builds that are broken on purpose: each leaves out one thing that a promise rests on. The simulation must notice.

Each is a context manager that breaks the build while it lasts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from gateway import inbound, receive
from gateway.storage import durable, local
from gateway.translog.log import TransparencyLog


@contextmanager
def no_file_sync() -> Iterator[None]:
    """The store does not sync the bytes of a segment."""
    with mock.patch.object(local, "sync_file", return_value=None):
        yield


@contextmanager
def no_directory_sync() -> Iterator[None]:
    """The store does not sync the name of a segment."""
    with mock.patch.object(local, "sync_directory", return_value=None):
        yield


@contextmanager
def no_log_sync() -> Iterator[None]:
    """The log's files are not synced."""
    with mock.patch.object(durable, "sync_file", return_value=None):
        yield


@contextmanager
def acknowledged_before_commit() -> Iterator[None]:
    """A segment is acknowledged before the catalog has it."""
    import asyncio

    async def early(self: Any, _identity: Any, transfer: Any, segment: Any, data: Any, row: Any) -> bool:
        asyncio.get_running_loop().call_later(
            1.0, lambda: asyncio.ensure_future(kept(self, _identity, transfer, segment, data, row))
        )
        return True

    kept = receive.Receive.put_segment
    with mock.patch.object(receive.Receive, "put_segment", early):
        yield


@contextmanager
def no_offer_check() -> Iterator[None]:
    """A destination takes what is declared without checking the offer's decision and proof."""

    def believed(step: Any, **_asked: Any) -> Any:
        from carnet.decision import Decision
        from carnet.envelope import parse_envelope

        return Decision.read_unverified(parse_envelope(step.decision))

    with mock.patch.object(inbound, "verify_step", believed):
        yield


@contextmanager
def no_id_check() -> Iterator[None]:
    """The store takes a segment under any id."""
    with mock.patch.object(local, "check_segment", return_value=None):
        yield


@contextmanager
def no_checkpoint_wait() -> Iterator[None]:
    """What leaves does not wait until its entry is under a published checkpoint."""

    async def at_once(_self: Any, _index: int) -> None:
        return

    with mock.patch.object(TransparencyLog, "checkpointed", at_once):
        yield


MUTATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    broken.__name__.replace("_", "-"): broken
    for broken in (
        no_file_sync,
        no_directory_sync,
        no_log_sync,
        acknowledged_before_commit,
        no_offer_check,
        no_id_check,
        no_checkpoint_wait,
    )
}
