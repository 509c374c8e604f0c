"""What peers remember of our log: when a site must stop, and when it need not."""

import pytest

from carnet.checkpoint import Checkpoint, sign_checkpoint
from carnet.errors import IntegrityError, Unavailable
from carnet.identifiers import SiteName
from carnet.keys import SigningKey
from carnet.merkle import root_of
from carnet.messages import TrustResponse
from gateway.remembered import Remembered

KEY, OTHER = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)
ORIGIN, US, EU = "test.example/site/us/log", SiteName("us"), SiteName("eu")
LEAVES = [bytes([number]) * 32 for number in range(9)]


class Log:
    """A log of `size` entries."""

    def __init__(self, size):
        self.size = size

    def checkpoint(self):
        return Checkpoint(ORIGIN, self.size, root_of(LEAVES[: self.size])), ""

    async def root_at(self, size):
        return root_of(LEAVES[:size])


class Peer:
    """Answers what it remembers, or nothing at all."""

    def __init__(self, response):
        self.response = response

    async def trust(self):
        if self.response is None:
            raise Unavailable("E-UNREACHABLE", "away")
        return self.response

    async def close(self):
        self.response = None


def remembers(size, *, leaves=LEAVES, key=KEY):
    note = sign_checkpoint(Checkpoint(ORIGIN, size, root_of(leaves[:size])), key).encode().decode()
    return TrustResponse.model_construct(site=EU, bundle={}, kem_statements=(), checkpoints={"us": note}, proved={})


@pytest.mark.parametrize("size", [1, 4, 5])
async def test_a_peer_that_saw_as_much_as_there_is_or_less_is_no_reason_to_stop(size):
    await Remembered(US, Log(5), KEY.public).compare(EU, remembers(size))


async def test_a_log_that_is_behind_what_a_peer_saw_must_not_be_signed_onwards():
    with pytest.raises(IntegrityError, match="has 5 entries, but eu has seen 6") as refusal:
        await Remembered(US, Log(5), KEY.public).compare(EU, remembers(6))

    assert refusal.value.code == "E-LOG"


async def test_a_log_that_differs_from_what_a_peer_saw_must_not_be_signed_onwards():
    with pytest.raises(IntegrityError, match="at 4 entries the roots differ"):
        await Remembered(US, Log(5), KEY.public).compare(EU, remembers(4, leaves=LEAVES[::-1]))


async def test_a_larger_head_that_was_only_told_does_not_hide_the_one_that_proved_another_history():
    """A forked copy that met the peer first has told it a head of its own."""
    told = remembers(5)
    proved = remembers(4, leaves=LEAVES[::-1]).checkpoints

    with pytest.raises(IntegrityError, match="at 4 entries the roots differ"):
        await Remembered(US, Log(5), KEY.public).compare(EU, told.model_copy(update={"proved": proved}))


async def test_a_head_that_our_key_did_not_sign_stops_nobody():
    await Remembered(US, Log(5), KEY.public).compare(EU, remembers(8, key=OTHER))


async def test_a_site_that_was_not_restored_starts_without_its_peers():
    await Remembered(US, Log(5), KEY.public).ask_all([EU], lambda _: Peer(None), insist=False)


async def test_a_restored_site_signs_nothing_before_each_peer_answered():
    remembered = Remembered(US, Log(5), KEY.public)

    with pytest.raises(Unavailable, match="eu"):
        await remembered.ask_all([EU], lambda _: Peer(None), insist=True)

    await remembered.ask_all([EU], lambda _: Peer(remembers(5)), insist=True)
