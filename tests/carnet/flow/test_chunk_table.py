"""The table of chunk ids does what a dictionary would do, and stops learning at its capacity."""

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from carnet.flow.chunk_table import ChunkTable

IDS = st.integers(0, 40).map(lambda number: number.to_bytes(8, "big") + bytes(8)) | st.binary(min_size=16, max_size=16)

ABSENT = 2**64 - 1


@given(st.lists(st.tuples(IDS, st.integers(0, 2**63)), max_size=200))
def test_the_first_place_of_each_id_is_found(pairs: list[tuple[bytes, int]]) -> None:
    table, model = ChunkTable(), {}
    for identifier, place in pairs:
        assert table.find_or_add(identifier, place) == model.setdefault(identifier, place)

    assert {identifier: table.find_or_add(identifier, ABSENT) for identifier in model} == model
    assert len(table) == len(model)


def test_it_grows_past_its_first_slots() -> None:
    table = ChunkTable()
    chunks = [blake3(number.to_bytes(4, "big")).digest(length=16) for number in range(10_000)]
    for number, chunk in enumerate(chunks):
        assert table.find_or_add(chunk, number) == number

    assert [table.find_or_add(chunk, ABSENT) for chunk in chunks] == list(range(10_000))
    assert table.find_or_add(bytes([255]) * 16, ABSENT) == ABSENT


def test_a_full_table_stops_learning_and_still_finds() -> None:
    table = ChunkTable(capacity=2)
    for number in range(3):
        table.find_or_add(bytes([number]) * 16, number)

    assert [table.find_or_add(bytes([number]) * 16, ABSENT) for number in range(3)] == [0, 1, ABSENT]
    assert len(table) == 2
