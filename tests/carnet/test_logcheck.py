"""The pure check over logs held in a dictionary; flips in real directories are in tests/gateway/translog/test_verify.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.checkpoint import Checkpoint, sign_checkpoint
from carnet.entries import CommittedEntry, EntryType, LogEvent, commit_event
from carnet.errors import IntegrityError
from carnet.keys import SigningKey
from carnet.logcheck import verify_log
from carnet.merkle import leaf_hash, root_of
from carnet.tiles import TILE_HEIGHT, TILE_WIDTH, encode_entries, encode_tile, tiles_changed

ORIGIN = "acme.example/site/us/log"
KEY = SigningKey(bytes(range(32)))
ENTRIES = [
    commit_event(LogEvent(kind, "2026-11-24T12:00:00Z", {"number": number}), lambda: bytes(32))
    for number, kind in enumerate([EntryType.TRANSFER_DECLARED, EntryType.TRANSFER_RECEIVED] * 400)
]


def files(size, entries=ENTRIES):
    """Build the files of a log straight from the definition of a tile: no code of the sequencer."""
    leaves = [entry.leaf_hash for entry in entries[:size]]
    found = {"checkpoint": sign_checkpoint(Checkpoint(ORIGIN, size, root_of(leaves)), KEY).encode()}
    for tile in tiles_changed(0, size):
        places = range(tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width)
        if tile.is_entries:
            found[tile.path()] = encode_entries([entries[place].entry for place in places])
        else:
            span = 1 << (TILE_HEIGHT * tile.level)
            found[tile.path()] = encode_tile([root_of(leaves[place * span : (place + 1) * span]) for place in places])
    return found


def verify(read, **changes):
    return verify_log(read, **{"origin": ORIGIN, "key": KEY.public, **changes})


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 800])
def test_a_whole_log_is_reported_with_its_entries_by_type(size):
    report = verify(files(size).get)

    assert report.size == size
    assert report.root == root_of([entry.leaf_hash for entry in ENTRIES[:size]])
    assert sum(report.entries_by_type.values()) == size
    assert report.entries_by_type.get("transfer-received", 0) == size // 2


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 600), data=st.data())
def test_any_changed_byte_of_any_file_is_found(size, data):
    log = files(size)
    path = data.draw(st.sampled_from(sorted(log)))
    changed = bytearray(log[path])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    log[path] = bytes(changed)

    with pytest.raises(IntegrityError) as failure:
        verify(log.get)

    assert failure.value.code == "E-LOG"


@settings(max_examples=40, deadline=None)
@given(garbage=st.binary(max_size=400))
def test_garbage_instead_of_any_file_is_refused_and_never_crashes(garbage):
    log = files(3)
    for path in log:
        if log[path] != garbage:
            with pytest.raises(IntegrityError):
                verify({**log, path: garbage}.get)


@given(old=st.integers(0, 300), new=st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_a_log_holds_exactly_those_earlier_checkpoints_that_are_its_prefixes(old, new):
    previous = Checkpoint(ORIGIN, old, root_of([entry.leaf_hash for entry in ENTRIES[:old]]))
    if old <= new:
        assert verify(files(new).get, previous=previous).size == new
    else:
        with pytest.raises(IntegrityError):
            verify(files(new).get, previous=previous)


def test_a_rewritten_past_under_a_valid_signature_is_found_by_whoever_kept_a_checkpoint():
    previous = Checkpoint(ORIGIN, 2, root_of([entry.leaf_hash for entry in ENTRIES[:2]]))
    rewritten = [ENTRIES[1], ENTRIES[0], *ENTRIES[2:]]

    assert verify(files(5, rewritten).get).size == 5
    with pytest.raises(IntegrityError) as failure:
        verify(files(5, rewritten).get, previous=previous)

    assert "first 2 entries" in failure.value.problem


def test_an_entry_that_is_in_the_tree_but_not_canonical_is_refused():
    odd = ENTRIES[0].entry.replace(b'{"at"', b'{ "at"')
    entries = [ENTRIES[0], CommittedEntry(odd, leaf_hash(odd), {})]

    with pytest.raises(IntegrityError) as failure:
        verify(files(2, entries).get)

    assert "entry 1" in failure.value.problem


@pytest.mark.full
def test_a_log_with_a_full_tile_above_the_leaves_is_checked_on_every_level():
    many = [ENTRIES[number % len(ENTRIES)] for number in range(65_536 + 300)]
    log = files(len(many), many)
    assert "tile/2/000.p/1" in log

    assert verify(log.get).size == len(many)
    log["tile/2/000.p/1"] = bytes(32)
    with pytest.raises(IntegrityError):
        verify(log.get)
