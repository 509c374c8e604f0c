"""A key that may have left: what the site learns afterwards does not take it back by a state, and loses no receipt."""

import asyncio
from collections.abc import Callable

import pytest

from agent.push import Wait
from carnet.errors import Unavailable
from carnet.messages import TransferView
from gateway.commands.agents import _revoke
from gateway.inbound import Inbound
from gateway.offline import open_site
from gateway.records import DeliveryRecord
from gateway.unwrapping import Unwrapping
from tests.crossing.obliged import policy, push
from tests.crossing.officers import governed
from tests.crossing.sites import World
from tests.crossing.test_recheck import DEADLINE_S, until_state


@pytest.fixture
async def border(cold_world: World) -> World:
    return await governed(cold_world, policy)


async def test_a_sender_that_is_revoked_after_its_key_arrived_does_not_lose_the_receipt(
    border: World, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """The answer to the key is lost and the receipt is delayed, so the origin does not know that the key arrived."""
    passes = asyncio.Event()
    take_key, take_receipt = Unwrapping.take_key, Inbound._take_receipt

    async def answer_is_lost(self, *taken):
        await take_key(self, *taken)
        if not passes.is_set():
            raise Unavailable("E-BUSY", "the answer is lost")

    async def is_delayed(self, *taken):
        if not passes.is_set():
            raise Unavailable("E-BUSY", "the receipt is delayed")
        return await take_receipt(self, *taken)

    monkeypatch.setattr(Unwrapping, "take_key", answer_is_lost)
    monkeypatch.setattr(Inbound, "_take_receipt", is_delayed)
    await border.start()
    view = await push(border, tmp_path, wait=Wait.RECEIVED)
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "released", 60)
    await until_state(border.eu, view.transfer, "delivered")
    await _revoke(border.us.directory, "agent", "key-stolen")

    late = await delivery_once(border, view, lambda one: "the key may have left" in (one.error or ""))

    assert late.state == "released"
    passes.set()
    await delivery_once(border, view, lambda one: one.state == "delivered")


async def delivery_once(border: World, view: TransferView, is_so: Callable[[DeliveryRecord], bool]) -> DeliveryRecord:
    """Return the delivery as us keeps it, once it is so; the sender, who was revoked, can ask no more."""
    async with open_site(border.us.directory) as opened, asyncio.timeout(DEADLINE_S):
        while True:
            [found] = await opened.catalog.read(lambda tx: list(tx.deliveries(view.transfer)))
            if is_so(found):
                return found
            await asyncio.sleep(0.05)
