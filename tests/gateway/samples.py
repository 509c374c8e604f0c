"""Records, clocks and an open catalog for the tests of what stores things."""

import asyncio
import hashlib
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from carnet.identifiers import Digest, LaneName, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.suites import segment_id
from gateway.catalog import migrate
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.row_seal import RowSeal
from gateway.records import DeliveryRecord, TransferRecord

START = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
AGENT = SpiffeId("spiffe://acme.example/site/us/agent/builder")
CONSUMER = SpiffeId("spiffe://acme.example/site/us/agent/cluster")
LANE = LaneName("us-eu")
APP = Repository("app")
SEAL = RowSeal(lambda: bytes(32))


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def pass_seconds(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Killed(BaseException):
    """Stands for the process being killed at a step; no handler of ours catches it."""


class Failpoint:
    """A step hook that kills at the `number`-th step; `seen` lists the steps passed."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.seen: list[str] = []

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if self.number is not None and len(self.seen) > self.number:
            raise Killed(name)


class Gate:
    """A step hook at which whoever comes to the step named waits, while it is shut."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._opened = threading.Event()
        self._opened.set()
        self._arrived = threading.Event()

    def __call__(self, name: str) -> None:
        if name == self._step and not self._opened.is_set():
            self._arrived.set()
            assert self._opened.wait(30)

    def shut(self) -> None:
        self._arrived.clear()
        self._opened.clear()

    def open(self) -> None:
        self._opened.set()

    async def reached(self) -> None:
        """Return once somebody waits at the gate."""
        assert await asyncio.to_thread(self._arrived.wait, 30)


def open_catalog(directory: Path, *, clock: ManualClock | None = None, **settings) -> SqliteCatalog:
    path = directory / "catalog.sqlite"
    migrate.upgrade(path, SEAL)
    return SqliteCatalog(path, clock=clock or ManualClock(), seal=SEAL, **settings)


def transfer_id(number: int) -> TransferId:
    return TransferId(f"{number:032x}")


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def segment_of(data: bytes) -> SegmentId:
    return segment_id(1, data)


def some_segment(number: int) -> SegmentId:
    return SegmentId("b3-" + hashlib.sha256(str(number).encode()).hexdigest())


def transfer(number: int = 1, **changes) -> TransferRecord:
    values = {
        "id": transfer_id(number),
        "role": "origin",
        "state": "declared",
        "state_at": START,
        "created_at": START + timedelta(microseconds=number),
        "expires_at": START + timedelta(days=7),
        "origin": SiteName("us"),
        "sender": AGENT,
        "agent": AGENT,
        "lane": LANE,
        "repository": APP,
        "tag": Tag("v1"),
        "kind": "image",
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "destinations": (SiteName("eu"),),
    }
    return TransferRecord(**{**values, **changes})


def delivery(number: int = 1, **changes) -> DeliveryRecord:
    values = {"transfer": transfer_id(number), "destination": SiteName("eu"), "state": "waiting", "state_at": START}
    return DeliveryRecord(**{**values, **changes})
