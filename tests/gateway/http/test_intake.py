"""Intake: the body of a segment goes past the parser, and not a byte more; what follows it is a request again."""

import random

import pytest

from carnet.paths import HEALTH
from gateway.http.connections import READ_BUFFER_BYTES
from tests.carnet.samples import TRANSFER, segment
from tests.gateway.http.wire import Wire
from tests.gateway.http.world import running

LARGE = random.Random(1).randbytes(2_000_000)


@pytest.fixture
async def world(tmp_path):
    async with running(tmp_path) as started:
        yield started


def put(number, length, *more):
    lines = [f"PUT /v1/transfers/{TRANSFER}/segments/{segment(number)} HTTP/1.1", "Host: a", f"Content-Length: {length}", *more]
    return "\n".join(lines)


def taken(world):
    return list(world.gateway.receive.segments.values())


@pytest.mark.parametrize("length", [1, READ_BUFFER_BYTES, 4 * READ_BUFFER_BYTES + 1, len(LARGE)])
async def test_a_body_arrives_whole_whatever_the_parser_had_of_it(world, length):
    wire = await Wire.agent(world)
    for number in (1, 2):
        wire.send(put(number, length), LARGE[:length])
        assert (await wire.answer())[0] == 201

    assert taken(world) == [LARGE[:length]] * 2


async def test_requests_that_follow_a_body_in_the_same_bytes_are_answered_in_turn(world):
    wire = await Wire.agent(world)
    for number, length in enumerate((len(LARGE), 5, 300_000), start=1):
        wire.send(put(number, length), LARGE[:length])
    wire.send(f"GET {HEALTH} HTTP/1.1\nHost: a")

    assert [(await wire.answer())[0] for _ in range(4)] == [201, 201, 201, 200]
    assert taken(world) == [LARGE, LARGE[:5], LARGE[:300_000]]


async def test_a_body_that_looks_like_requests_is_a_body(world):
    body = (
        f"PUT /v1/transfers/{TRANSFER}/segments/{segment(9)} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" * 4000
    ).encode()
    wire = await Wire.agent(world)
    wire.send(put(1, len(body)), body)

    assert (await wire.answer())[0] == 201
    assert taken(world) == [body]


async def test_bytes_beyond_the_length_are_the_next_request_and_no_part_of_the_body(world):
    wire = await Wire.agent(world)
    wire.send(put(1, 1_000_000), LARGE[:1_000_000] + b"more than was announced\r\n\r\n")

    assert (await wire.answer())[0] == 201
    assert (await wire.problem())[0] == 400
    assert taken(world) == [LARGE[:1_000_000]]


async def test_a_body_that_comes_in_small_pieces_arrives_whole(world):
    wire = await Wire.agent(world)
    wire.send(put(1, 300_000))
    for start in range(0, 300_000, 7_001):
        wire.writer.write(LARGE[start : min(start + 7_001, 300_000)])
        await wire.writer.drain()

    assert (await wire.answer())[0] == 201
    assert taken(world) == [LARGE[:300_000]]


async def test_a_client_that_asked_first_sends_its_body_past_the_parser_too(world):
    wire = await Wire.agent(world)
    wire.send(put(1, len(LARGE), "Expect: 100-continue"))
    assert (await wire.answer())[0] == 100
    wire.writer.write(LARGE)

    assert (await wire.answer())[0] == 201
    assert taken(world) == [LARGE]
