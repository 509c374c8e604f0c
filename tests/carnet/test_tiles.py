import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import IntegrityError, PeerError
from carnet.limits import LOG_ENTRY_BYTES_MAX
from carnet.merkle import (
    FrontierTree,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from carnet.tiles import (
    Tile,
    decode_entries,
    decode_tile,
    encode_entries,
    encode_tile,
    entries_tile,
    parse_tile_path,
    read_nodes,
    tile_at,
    tiles_changed,
)

ENTRIES = [number.to_bytes(3, "big") for number in range(1_400)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def level_hashes(level, size):
    """Return all hashes that tiles of `level` hold in a log of `size`: roots of full subtrees of 256**level leaves."""
    hashes = LEAVES[:size]
    for _ in range(8 * level):
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes) - 1, 2)]
    return hashes


def tile_bytes(tile, size):
    source = ENTRIES[:size] if tile.is_entries else level_hashes(tile.level, size)
    part = source[tile.index * 256 : tile.index * 256 + tile.width]
    return encode_entries(part) if tile.is_entries else encode_tile(part)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(63, 999), "tile/63/999"),
        (Tile(1, 1000, 17), "tile/1/x001/000.p/17"),
        (entries_tile(273, 112), "tile/entries/273.p/112"),
        (entries_tile(0), "tile/entries/000"),
    ],
)
def test_paths_are_those_of_tlog_tiles(tile, path):
    assert tile.path() == path
    assert parse_tile_path(path) == tile


@given(st.integers(-1, 63), st.integers(0, 2**53 - 1), st.integers(1, 256))
@settings(max_examples=60)
def test_a_path_names_one_tile(level, index, width):
    assert parse_tile_path(Tile(level, index, width).path()) == Tile(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "/tile/0/000",
        "tile/0/000/",
        "tile/64/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/../000",
        "tile/0/x999/x999/x999/x999/x999/999",
        "tile/0/\u0660\u0660\u0660",
        "tile/Entries/000",
    ],
)
def test_another_spelling_is_no_path(path):
    with pytest.raises(PeerError) as caught:
        parse_tile_path(path)

    assert caught.value.code == "E-FORMAT"


def test_a_log_of_70_000_has_the_tiles_that_the_specification_counts():
    tiles = tiles_changed(0, 70_000)

    hashes = [tile for tile in tiles if not tile.is_entries]
    assert [tile for tile in hashes if tile.level == 0] == [*(Tile(0, index) for index in range(273)), Tile(0, 273, 112)]
    assert [tile for tile in hashes if tile.level == 1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert [tile for tile in hashes if tile.level == 2] == [Tile(2, 0, 1)]
    assert [tile for tile in tiles if tile.is_entries] == [
        *(entries_tile(index) for index in range(273)),
        entries_tile(273, 112),
    ]
    assert tiles_changed(0, 256) == (entries_tile(0), Tile(0, 0), Tile(1, 0, 1))
    assert tiles_changed(0, 0) == ()


@given(st.integers(0, 200_000), st.integers(0, 1_000))
@settings(max_examples=60)
def test_changed_tiles_are_those_that_the_old_log_had_not(old, more):
    def existing(size):
        return {tile for level in (-1, 0, 1, 2) for tile in existing_level(level, size)}

    def existing_level(level, size):
        count = size >> (8 * max(level, 0))
        return {tile_at(level, index, size) for index in range((count + 255) // 256)}

    changed = tiles_changed(old, old + more)

    assert set(changed) == existing(old + more) - existing(old)
    assert len(set(changed)) == len(changed)


def test_a_log_does_not_shrink():
    with pytest.raises(ValueError):
        tiles_changed(5, 4)


@given(st.data())
@settings(max_examples=25)
def test_proofs_can_be_made_from_tiles_alone(data):
    size = data.draw(st.integers(1, 1_400))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    published = {tile: tile_bytes(tile, size) for tile in tiles_changed(0, size) if not tile.is_entries}
    read = read_nodes(size, published.__getitem__)

    assert tree_root(size, read) == root_of(LEAVES[:size])
    verify_inclusion(LEAVES[index], index, size, prove_inclusion(index, size, read), root_of(LEAVES[:size]))
    verify_consistency(old, root_of(LEAVES[:old]), size, root_of(LEAVES[:size]), prove_consistency(old, size, read))


def test_a_node_that_is_not_full_is_not_read():
    read = read_nodes(3, lambda tile: tile_bytes(tile, 3))

    assert read(1, 0) == node_hash(LEAVES[0], LEAVES[1])
    with pytest.raises(ValueError):
        read(1, 1)
    with pytest.raises(ValueError):
        read(8, 0)


def test_tiles_hold_the_nodes_that_appending_completes():
    tree, size = FrontierTree(), 600
    for leaf in LEAVES[:size]:
        for node in tree.append(leaf):
            if node.level == 8:
                assert decode_tile(tile_bytes(Tile(1, 0, 2), size), 2)[node.index] == node.hash


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256))
@settings(max_examples=40)
def test_a_bundle_gives_back_its_entries_and_refuses_every_other_length(entries):
    data = encode_entries(entries)

    assert decode_entries(data, len(entries)) == tuple(entries)
    for wrong, width in [(data + b"\0", len(entries)), (data, len(entries) + 1), (data[:-1], len(entries))]:
        with pytest.raises(IntegrityError) as caught:
            decode_entries(wrong, width)
        assert caught.value.code == "E-LOG"


def test_an_entry_has_a_bound_on_both_sides():
    with pytest.raises(ValueError):
        encode_entries([bytes(LOG_ENTRY_BYTES_MAX + 1)])
    with pytest.raises(IntegrityError):
        decode_entries((LOG_ENTRY_BYTES_MAX + 1).to_bytes(2, "big") + bytes(LOG_ENTRY_BYTES_MAX + 1), 1)


def test_a_tile_of_another_length_is_refused():
    assert decode_tile(bytes(64), 2) == (bytes(32), bytes(32))
    with pytest.raises(IntegrityError):
        decode_tile(bytes(63), 2)


@pytest.mark.parametrize("fields", [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257), (0, 2**53, 1)])
def test_impossible_tiles_cannot_be_named(fields):
    with pytest.raises(ValueError):
        Tile(*fields)


def test_the_full_tile_is_the_fallback_for_a_partial_one():
    assert Tile(0, 3, 7).is_partial
    assert Tile(0, 3, 7).full() == Tile(0, 3)
