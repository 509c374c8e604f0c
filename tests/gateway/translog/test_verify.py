import random

import pytest

from carnet.checkpoint import Checkpoint, sign_checkpoint
from carnet.errors import IntegrityError
from carnet.keys import SigningKey
from gateway.translog.verify import verify_directory

ORIGIN = "acme.example/site/us/log"
KEY = SigningKey(bytes(range(32)))


def verify(site, **changes):
    return verify_directory(site.directory / "log", **{"origin": ORIGIN, "key": KEY.public, **changes})


def files_of(site):
    log = site.directory / "log"
    return sorted(path for path in log.rglob("*") if path.is_file())


async def test_a_flipped_bit_anywhere_in_a_published_log_is_detected(site):
    await site.fill(300)
    chance = random.Random(7)
    paths = files_of(site)
    assert len(paths) == 6

    for path in paths:
        good = path.read_bytes()
        for _ in range(25):
            bad = bytearray(good)
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            path.write_bytes(bad)
            with pytest.raises(IntegrityError) as failure:
                verify(site)
            assert failure.value.code == "E-LOG"
        path.write_bytes(good)
    assert verify(site).size == 300


async def test_a_file_that_is_missing_cut_or_longer_is_detected(site):
    await site.fill(300)

    for path in files_of(site):
        good = path.read_bytes()
        for bad in (good[:-1], good + b"\0", b""):
            path.write_bytes(bad)
            with pytest.raises(IntegrityError):
                verify(site)
        path.unlink()
        with pytest.raises(IntegrityError):
            verify(site)
        path.write_bytes(good)


async def test_the_entry_that_is_wrong_is_named(site):
    await site.fill(300)
    bundle = site.directory / "log" / "tile" / "entries" / "000"
    data = bundle.read_bytes()
    bundle.write_bytes(data.replace(b'"at":"2026', b'"at":"2025', 2))

    with pytest.raises(IntegrityError) as failure:
        verify(site)

    assert "entry 0 " in failure.value.problem


async def test_a_log_goes_on_from_every_checkpoint_it_signed(site):
    await site.log.start()
    signed = [site.log.checkpoint()[0]]
    for count in (1, 254, 1, 44):
        await site.append(count)
        await site.sequence()
        signed.append(site.log.checkpoint()[0])

    for previous in signed:
        assert verify(site, previous=previous).size == 300


async def test_another_history_of_the_same_size_is_detected(site, new_site):
    await site.fill(20)
    other = new_site("other").open()
    await other.fill(20)

    with pytest.raises(IntegrityError):
        verify(site, previous=other.log.checkpoint()[0])
    other.close()


async def test_a_log_that_became_shorter_is_detected(site):
    await site.fill(20)

    with pytest.raises(IntegrityError):
        verify(site, previous=Checkpoint(ORIGIN, 21, bytes(32)))


async def test_a_checkpoint_of_another_key_or_log_is_refused(site):
    await site.fill(5)

    with pytest.raises(IntegrityError):
        verify(site, key=SigningKey(bytes(32)).public)
    with pytest.raises(IntegrityError):
        verify(site, origin="acme.example/site/eu/log")


async def test_a_reader_with_an_older_checkpoint_can_still_verify_it(site):
    """Partial tiles are gone once the full one is there; its beginning stands for them."""
    await site.fill(100)
    older = sign_checkpoint(site.log.checkpoint()[0], KEY).encode()
    await site.append(200)
    await site.sequence()
    (site.directory / "log" / "checkpoint").write_bytes(older)

    assert verify(site).size == 100
