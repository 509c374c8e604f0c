"""The far link: what leaves it is what went in, as late as the distance says, as fast as the rate allows, less what is lost."""

import random

from benchmarks.far_link import Direction, Link


def direction(*, loss: float = 0.0, bytes_per_s: float = 1e6, buffer_bytes: float = 1e6) -> Direction:
    link = Link(one_way_s=0.1, bytes_per_s=bytes_per_s, loss=loss, buffer_bytes=buffer_bytes)
    return Direction(link, random.Random(1))


def test_a_packet_is_there_after_its_time_on_the_way_and_not_before():
    way = direction()
    way.send(bytes(1_000), 5.0)

    assert list(way.arrived(5.1)) == []
    assert way.next_at == 5.101
    assert list(way.arrived(5.101)) == [bytes(1_000)]
    assert way.next_at == float("inf")


def test_packets_leave_one_after_the_other_in_their_order():
    way = direction()
    for number in range(3):
        way.send(bytes([number]) * 1_000, 5.0)

    assert [packet[0] for packet in way.arrived(5.1025)] == [0, 1]
    assert [packet[0] for packet in way.arrived(6.0)] == [2]


def test_what_the_router_has_no_room_for_is_dropped():
    way = direction(buffer_bytes=2_500)
    for number in range(10):
        way.send(bytes([number]) * 1_000, 5.0)

    assert [packet[0] for packet in way.arrived(9.0)] == [0, 1, 2]
    way.send(bytes([99]) * 1_000, 9.0)
    assert [packet[0] for packet in way.arrived(10.0)] == [99]


def test_about_as_many_are_lost_as_were_asked_for():
    way = direction(loss=0.1, buffer_bytes=1e9)
    for number in range(2_000):
        way.send(bytes(100), float(number))

    assert 1_700 < len(list(way.arrived(1e9))) < 1_900
