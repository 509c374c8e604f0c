"""P1: no byte leaves before the `offer` decision is under a checkpoint, no key before `release` is; counted on the wire."""

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.checkpoint import open_checkpoint
from carnet.decision import Gate as DecisionGate
from carnet.errors import Refused
from carnet.identifiers import TransferId
from carnet.messages import TransferView
from gateway import assembly, documents
from gateway.offline import open_site
from tests.crossing.sites import LiveSite, World, know_each_other
from tests.promises.border import Border

ROUNDS = 40
"""Questions and answers during which a held site would have sent, if it could."""
HEARTBEATS = 1_000
"""Bytes with which a site asks for revocations meanwhile, every two seconds; a declaration has more, segments have 2 MB."""


def noise(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


class Gate:
    """A step hook of the log: nothing is signed while it is shut."""

    def __init__(self) -> None:
        self._is_open = threading.Event()
        self._is_open.set()

    def __call__(self, name: str) -> None:
        if name == "staged":
            assert self._is_open.wait(60)

    def shut(self) -> None:
        self._is_open.clear()

    def open(self) -> None:
        self._is_open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Give the log of us, whenever it is started, a gate."""
    made = Gate()
    plain = assembly.TransparencyLog

    def build(catalog: Any, directory: Path, *, origin: str, key: Any) -> Any:
        hook = {"step": made} if "/site/us/" in origin else {}
        return plain(catalog, directory, origin=origin, key=key, **hook)

    monkeypatch.setattr(assembly, "TransparencyLog", build)
    yield made
    made.open()


async def ask_often(world: World, transfer: TransferId) -> TransferView:
    """Keep both sites busy with questions for a while; return the last answer."""
    async with open_session(world.us.agent, connections=1) as session:
        for _ in range(ROUNDS):
            view = await session.client.show(transfer)
            await session.client.list()
    return view


async def has_key(site: LiveSite, transfer: TransferId) -> bool:
    """Tell whether the site holds the artifact key; the catalog may be read beside the server."""
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: tx.artifact_key(transfer)) is not None


async def known_at(site: LiveSite, transfer: TransferId) -> bool:
    """Tell whether the site has heard of the transfer or keeps a byte of it."""
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: tx.transfer(transfer)) is not None or site.stored() != []


async def test_not_a_byte_crosses_while_the_offer_is_not_under_a_checkpoint(
    gate: Gate, cold_border: Border, tmp_path: Path
) -> None:
    border = cold_border
    await border.start()
    gate.shut()
    result = await border.world.push(f"file:{noise(tmp_path / 'a', 2_000_000)}", "eu:app:v1", wait=Wait.DECIDED)
    before = border.wires["eu"].up
    view = await ask_often(border.world, result.view.transfer)
    held = border.wires["eu"].up
    arrived = await known_at(border.eu, result.view.transfer)
    gate.open()
    await border.world.until(result.view.transfer, lambda one: one.deliveries[0].state == "delivered")

    assert view.deliveries[0].state == "sending"
    assert held - before < HEARTBEATS
    assert not arrived
    assert border.wires["eu"].up - held > 2_000_000


async def test_when_the_first_byte_crosses_the_published_log_has_the_offer(border: Border, tmp_path: Path) -> None:
    sizes: list[int] = []
    origin = border.us.settings.log_origin
    async with open_site(border.us.directory) as opened:
        key = opened.keyring().signing.public

    def look(_total: int) -> None:
        sizes.append(open_checkpoint((border.us.paths.log / "checkpoint").read_bytes(), origin=origin, key=key).size)

    border.wires["eu"].on_up = look
    result = await border.world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    async with open_site(border.us.directory) as opened:
        offer = await opened.catalog.read(
            lambda tx: int(documents.need(tx, result.view.transfer, documents.decision_index_name(DecisionGate.OFFER, "eu")))
        )

    assert sizes
    assert sizes[0] > offer


async def test_no_key_crosses_while_the_release_is_not_under_a_checkpoint(
    gate: Gate, cold_border: Border, tmp_path: Path
) -> None:
    border = cold_border
    await border.start()
    said = {"classification": "public", "purpose": "wait-at-release"}
    result = await border.world.push(f"file:{noise(tmp_path / 'a', 500_000)}", "eu:app:v1", declare=said)
    transfer = result.view.transfer
    waiting = result.view.deliveries[0].state, await has_key(border.eu, transfer)
    await border.us.stop()
    text = (border.us.paths.policy / "policy.yaml").read_text()
    border.us.set_policy(text.replace("purpose: wait-at-release", "purpose: nothing-of-the-kind"))
    await border.us.start()
    await know_each_other(border.world)

    gate.shut()
    async with open_session(border.us.agent, connections=1) as session:
        await session.client.retry(transfer)
        await session.client.wait(transfer, lambda one: one.deliveries[0].state == "released", 20)
    before = border.wires["eu"].up
    await ask_often(border.world, transfer)
    held, held_key = border.wires["eu"].up, await has_key(border.eu, transfer)
    gate.open()
    await border.world.until(transfer, lambda one: one.deliveries[0].state == "delivered")

    assert waiting == ("release-hold", False)
    assert (held, held_key) == (before, False)
    assert 0 < border.wires["eu"].up - held < 100_000  # the key alone: the content was there
    assert await has_key(border.eu, transfer)


async def test_a_key_denied_never_crosses(border: Border, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "no-key"}

    result = await border.world.push(f"file:{noise(tmp_path / 'a', 500_000)}", "eu:app:v1", declare=said)
    await ask_often(border.world, result.view.transfer)

    assert result.view.deliveries[0].state == "release-deny"
    assert not await has_key(border.eu, result.view.transfer)


@pytest.mark.parametrize(
    "said", [{"classification": "export-controlled"}, {"classification": "public", "purpose": "wait-at-offer"}]
)
async def test_what_is_denied_or_held_at_the_offer_sends_nothing(border: Border, tmp_path: Path, said: dict[str, str]) -> None:
    before = border.wires["eu"].up
    with contextlib.suppress(Refused):
        await border.world.push(f"file:{noise(tmp_path / 'a', 500_000)}", "eu:app:v1", declare={"purpose": "deploy", **said})
    async with open_session(border.us.agent, connections=1) as session:
        for _ in range(ROUNDS):
            await session.client.list()

    assert border.wires["eu"].up == before
