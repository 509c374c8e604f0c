import asyncio
import ssl

import pytest

from carnet.errors import (
    FAMILIES,
    CapacityError,
    CarnetError,
    InternalError,
    NotAuthenticated,
    NotFound,
    PeerError,
    Unavailable,
)
from carnet.flow.client import PeerClient
from carnet.flow.link import Timeouts
from carnet.flow.tls import ClientContext
from carnet.identifiers import Repository, Tag
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.rowpage import SentRow
from gateway.http.bounds import Bounds
from gateway.records import StoredSegment
from tests.carnet import message_samples as samples
from tests.carnet.samples import EU, TRANSFER, US, segment
from tests.gateway.http.world import QUICK, agent_id, gateway_id, running

PATIENT = Timeouts(connect_s=5, read_s=5, send_s=5, retry_s=20)


@pytest.fixture
async def world(tmp_path):
    async with running(tmp_path) as found:
        yield found


async def test_every_request_of_an_agent_reaches_its_use_case(world):
    receive, transfers, artifacts = world.gateway.receive, world.gateway.transfers, world.gateway.artifacts
    me = agent_id()
    async with world.agent() as client:
        assert await client.declare(samples.declare_request()) == samples.declare_response()
        assert await client.commit(TRANSFER, samples.commit_request()) == samples.commit_response()
        assert await client.show(TRANSFER) == samples.transfer_view()
        assert await client.list(states=["held", "denied"], limit=7, before="a|b") == samples.transfer_list()
        assert await client.cancel(TRANSFER, "too late") == samples.transfer_view()
        assert await client.retry(TRANSFER) == samples.transfer_view()
        assert await client.approval_requests(TRANSFER) == samples.approval_requests()
        assert await client.approve(TRANSFER, samples.approve_request()) == samples.transfer_view()
        assert await client.artifacts(repository="team/*", limit=3, after="a:b") == samples.artifact_list()
        assert await client.artifact(Repository("a/b/c"), Tag("v1")) == samples.artifact_view()
        assert await client.artifact_release(Repository("a/b/c"), Tag("v1")) == samples.artifact_release()
        await client.delete_artifact(Repository("a/b/c"), Tag("v1"))
        assert await client.trust() == samples.trust_response()
        assert await client.renew(samples.renew_request()) == samples.renew_response()

    assert receive.calls == [
        ("declare", me, samples.declare_request()),
        ("commit", me, TRANSFER, samples.commit_request()),
    ]
    assert transfers.calls == [
        ("show", me, TRANSFER),
        ("list", me, ("held", "denied"), 7, "a|b"),
        ("cancel", me, TRANSFER, "too late"),
        ("retry", me, TRANSFER),
    ]
    assert world.gateway.approvals.calls == [
        ("requests", me, TRANSFER),
        ("take", me, TRANSFER, samples.approve_request()),
    ]
    assert artifacts.calls == [
        ("list", me, "team/*", 3, "a:b"),
        ("show", me, "a/b/c", "v1"),
        ("release", me, "a/b/c", "v1"),
        ("delete", me, "a/b/c", "v1"),
    ]


async def test_every_request_of_a_peer_reaches_its_use_case(world):
    inbound, peer = world.gateway.inbound, gateway_id(EU)
    async with world.peer() as client:
        assert await client.forward_declare(samples.forward_request()) == samples.forward_response()
        assert await client.put_segment(TRANSFER, segment(1), b"sealed", None)
        assert await client.forward_commit(TRANSFER) == samples.forward_response(missing=())
        await client.message(TRANSFER, samples.site_message())
        assert await client.show(TRANSFER) == samples.transfer_view()

    assert inbound.calls == [
        ("declare", peer, samples.forward_request()),
        ("put", peer, TRANSFER, segment(1), 6),
        ("commit", peer, TRANSFER),
        ("message", peer, TRANSFER, samples.site_message()),
    ]


async def test_enrolment_needs_no_certificate(world):
    async with world.client(None) as client:
        assert await client.enroll(samples.enroll_request()) == samples.enroll_response()


async def test_a_segment_arrives_whole_with_its_row_and_again_as_present(world):
    body, row = bytes(range(256)) * 4_800, b"r" * 2_500
    async with world.agent() as client:
        first = await client.put_segment(TRANSFER, segment(7), memoryview(body), row)
        second = await client.put_segment(TRANSFER, segment(7), body, row)

    assert (first, second) == (True, False)
    assert world.gateway.receive.segments[segment(7)] == body
    assert world.gateway.receive.calls[0] == ("put", agent_id(), TRANSFER, segment(7), len(body), row)


async def test_a_segment_is_fetched_whole(world):
    body = bytes(range(256)) * 4_800
    world.gateway.artifacts.segments[segment(3)] = body
    async with world.agent() as client:
        assert await client.segment(segment(3)) == body
        with pytest.raises(NotFound, match="E-SEGMENT-UNKNOWN"):
            await client.segment(segment(4))


async def test_segments_sent_over_several_connections_keep_their_own_bytes(world):
    bodies = {segment(number): bytes([number]) * (200_000 + number) for number in range(24)}
    async with world.agent(connections=6) as client, asyncio.TaskGroup() as group:
        for name, body in bodies.items():
            group.create_task(client.put_segment(TRANSFER, name, body))

    assert world.gateway.receive.segments == bodies


async def test_rows_come_page_by_page(world):
    rows = [SentRow(segment(number), number + 1, f"row {number}".encode()) for number in range(1_100)]
    world.gateway.receive.rows_there = [StoredSegment(id=sent.segment, size=sent.size, row=sent.row) for sent in rows]
    async with world.agent() as client:
        found = [item async for item in client.rows(TRANSFER)]
        later = [item async for item in client.rows(TRANSFER, after=segment(1_098))]

    assert found == rows
    assert later == rows[-1:]
    assert len(world.gateway.receive.calls) == 4


async def test_log_files_are_read_and_their_absence_is_not_found(world):
    (world.gateway.log.directory / "checkpoint").write_text("origin\n1\nhash\n")
    (world.gateway.log.directory / "tile" / "0" / "000").write_bytes(b"t" * 8_192)
    async with world.agent() as client:
        assert await client.log_file("checkpoint") == b"origin\n1\nhash\n"
        assert await client.log_file("tile/0/000") == b"t" * 8_192
        with pytest.raises(NotFound, match="E-PATH-UNKNOWN"):
            await client.log_file("tile/0/001")


async def test_changes_yields_the_view_and_then_every_other_one(world):
    transfers = world.gateway.transfers
    seen = []
    async with world.agent() as client:
        async for view in client.changes(TRANSFER, timeout_s=20):
            seen.append(view.state)
            if view.state == "cancelled":
                break
            await asyncio.sleep(0)
            transfers.state = {"admitted": "held", "held": "cancelled"}[view.state]
            transfers.change.set()

    assert seen == ["admitted", "held", "cancelled"]


async def test_waiting_ends_with_a_timeout_of_its_own_code(world):
    async with world.agent() as client:
        with pytest.raises(Unavailable, match="E-TIMEOUT"):
            await client.wait(TRANSFER, lambda view: view.state == "delivered", timeout_s=0.2)


def _errors():
    for name, family in FAMILIES.items():
        extra = {"limit": "segments_max"} if issubclass(family, CapacityError) else {}
        extra |= {"retry_after_s": 7} if issubclass(family, Unavailable) else {}
        code = "E-BUSY" if issubclass(family, Unavailable) else "E-STATE"
        yield pytest.param(family(code, f"something about {name}", remedy=f"do {name}", **extra), id=name)


@pytest.mark.parametrize("error", list(_errors()))
async def test_an_error_arrives_as_it_was_raised(world, error):
    error.reasons = (samples.REASON,)
    world.gateway.transfers.failure = error
    async with world.agent() as client:
        with pytest.raises(CarnetError) as caught:
            await client.show(TRANSFER)

    got = caught.value
    assert (type(got), got.code, got.problem, got.remedy, got.reasons) == (
        type(error),
        error.code,
        error.problem,
        error.remedy,
        (samples.REASON,),
    )
    assert getattr(got, "limit", None) == getattr(error, "limit", None)
    assert getattr(got, "retry_after_s", None) == getattr(error, "retry_after_s", None)
    assert len(got.request) == 16


async def test_a_defect_of_the_server_tells_nothing_but_the_request_id(world, capsys):
    world.gateway.transfers.failure = RuntimeError("secret detail")
    async with world.agent() as client:
        with pytest.raises(InternalError) as caught:
            await client.show(TRANSFER)

    assert caught.value.code == "E-INTERNAL"
    assert "secret detail" not in str(caught.value)
    assert caught.value.request in caught.value.problem


async def test_a_busy_gateway_is_asked_again_after_the_time_it_named(world):
    transfers = world.gateway.transfers
    transfers.failure = Unavailable("E-BUSY", "not now", retry_after_s=1)
    loop = asyncio.get_running_loop()
    async with world.agent(timeouts=PATIENT) as client:
        started = loop.time()
        loop.call_later(0.3, setattr, transfers, "failure", None)
        await client.show(TRANSFER)

    assert loop.time() - started >= 1
    assert len(transfers.calls) == 2


async def test_a_wait_that_would_pass_the_budget_is_not_begun(world):
    world.gateway.transfers.failure = Unavailable("E-BUSY", "not now", retry_after_s=30)
    loop = asyncio.get_running_loop()
    async with world.agent(timeouts=Timeouts(retry_s=1)) as client:
        started = loop.time()
        with pytest.raises(Unavailable, match="E-BUSY"):
            await client.show(TRANSFER)

    assert loop.time() - started < 5
    assert len(world.gateway.transfers.calls) == 1


async def test_a_gateway_that_says_it_is_busy_is_asked_for_longer_than_one_that_says_nothing(world):
    transfers = world.gateway.transfers
    transfers.failure = Unavailable("E-BUSY", "not now", retry_after_s=1)
    loop = asyncio.get_running_loop()
    async with world.agent(timeouts=Timeouts(retry_s=1, busy_s=60)) as client:
        loop.call_later(2.5, setattr, transfers, "failure", None)
        await client.show(TRANSFER)

    assert len(transfers.calls) >= 3


async def test_a_client_that_may_have_fewer_connections_than_it_would_sends_all_over_those(tmp_path):
    """Each connection beyond the share is refused before the body is sent: nothing is sent twice, and nothing is lost."""
    async with (
        running(tmp_path, bounds=Bounds(connections_per_identity_max=1)) as world,
        world.agent(timeouts=PATIENT) as client,
    ):
        bodies = {segment(number): bytes([number]) * 1_000_000 for number in range(1, 9)}
        await asyncio.gather(*(client.put_segment(TRANSFER, one, body) for one, body in bodies.items()))

        assert world.gateway.receive.segments == bodies


async def test_a_body_is_sent_unasked_where_nobody_answers_the_question(world, monkeypatch):
    """As RFC 9110 section 10.1.1 wants it: something in between may not pass on what says that the body is welcome."""
    monkeypatch.setattr("carnet.flow.link._UNHEARD_S", 0.2)
    monkeypatch.setattr("gateway.http.bodies._continue", _say_nothing)
    async with world.agent(timeouts=PATIENT) as client:
        bodies = {segment(number): bytes([number]) * 1_000_000 for number in range(1, 4)}
        for one, body in bodies.items():
            assert await client.put_segment(TRANSFER, one, body)

    assert world.gateway.receive.segments == bodies


async def _say_nothing(request):
    del request


@pytest.mark.parametrize("family", [NotFound, PeerError, InternalError, NotAuthenticated])
async def test_only_temporary_failures_are_asked_again(world, family):
    world.gateway.transfers.failure = family("E-STATE", "no")
    async with world.agent(timeouts=PATIENT) as client:
        with pytest.raises(family):
            await client.show(TRANSFER)

    assert len(world.gateway.transfers.calls) == 1


async def test_a_segment_whose_connection_breaks_in_the_middle_is_sent_again(world):
    connections = 0

    async def pump(source, target, bytes_max):
        passed = 0
        while passed < bytes_max and (data := await source.read(65_536)):
            passed += len(data)
            target.write(data)
            await target.drain()
        target.close()

    async def relay(reader, writer):
        nonlocal connections
        connections += 1
        bytes_max = 300_000 if connections == 1 else 10_000_000
        upstream, onward = await asyncio.open_connection("127.0.0.1", world.port)
        await asyncio.gather(pump(reader, onward, bytes_max), pump(upstream, writer, bytes_max), return_exceptions=True)
        writer.close()

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    credential = world.pki.client(world.pki.us, agent_id())
    context = ClientContext(credential.certificate, credential.key, world.pki.us.pem.decode())
    url = f"https://localhost:{proxy.sockets[0].getsockname()[1]}"
    body = bytes(1_000_000)
    async with PeerClient([url], context, gateway=gateway_id(US), timeouts=PATIENT) as client:
        assert await client.put_segment(TRANSFER, segment(1), body)
    proxy.close()

    assert connections == 2
    assert world.gateway.receive.segments == {segment(1): body}


async def test_an_unreachable_gateway_is_named_with_the_request(world, unused_tcp_port):
    context = ClientContext(None, None, world.pki.us.pem.decode())
    url = f"https://localhost:{unused_tcp_port}"
    async with PeerClient([url], context, gateway=gateway_id(US), timeouts=QUICK) as client:
        with pytest.raises(Unavailable, match="E-UNREACHABLE") as caught:
            await client.trust()

    assert f"GET /v1/trust at {url}" in caught.value.problem


async def test_whoever_asked_is_told_once_that_a_gateway_is_waited_for_and_once_that_it_answers(world, unused_tcp_port):
    told = []
    credential = world.pki.client(world.pki.us, agent_id())
    context = ClientContext(credential.certificate, credential.key, world.pki.us.pem.decode())
    url, timeouts = f"https://localhost:{unused_tcp_port}", Timeouts.within(2)
    async with PeerClient([url], context, gateway=gateway_id(US), timeouts=timeouts, on_wait=told.append) as client:
        await asyncio.gather(*(client.trust() for _ in range(3)), return_exceptions=True)
        with pytest.raises(Unavailable):
            await client.trust()

    [waiting] = told
    assert (waiting.gateway, waiting.problem) == (f"localhost:{unused_tcp_port}", "connection refused")
    assert 0 < waiting.left_s <= 2


async def test_one_lost_connection_is_told_to_nobody(world, unused_tcp_port):
    told = []
    credential = world.pki.client(world.pki.us, agent_id())
    context = ClientContext(credential.certificate, credential.key, world.pki.us.pem.decode())
    urls = [f"https://localhost:{unused_tcp_port}", world.url]
    async with PeerClient(urls, context, gateway=gateway_id(US), timeouts=PATIENT, on_wait=told.append) as client:
        await client.show(TRANSFER)

    assert told == []


async def test_another_url_is_tried_when_one_cannot_be_reached(world, unused_tcp_port):
    credential = world.pki.client(world.pki.us, agent_id())
    context = ClientContext(credential.certificate, credential.key, world.pki.us.pem.decode())
    urls = [f"https://localhost:{unused_tcp_port}", world.url]
    async with PeerClient(urls, context, gateway=gateway_id(US), timeouts=PATIENT) as client:
        assert await client.show(TRANSFER) == samples.transfer_view()


async def test_a_gateway_whose_ca_is_not_the_sites_is_refused(world):
    credential = world.pki.client(world.pki.us, agent_id())
    context = ClientContext(credential.certificate, credential.key, world.pki.eu.pem.decode())
    async with PeerClient([world.url], context, gateway=gateway_id(EU), timeouts=PATIENT) as client:
        with pytest.raises(NotAuthenticated, match="E-CERTIFICATE"):
            await client.show(TRANSFER)

    assert world.gateway.transfers.calls == []


async def test_a_gateway_of_another_name_is_refused_before_anything_is_sent(world):
    async with world.client(world.pki.client(world.pki.us, agent_id()), gateway=gateway_id(EU), timeouts=PATIENT) as client:
        with pytest.raises(NotAuthenticated, match=f"expected {gateway_id(EU)}"):
            await client.show(TRANSFER)

    assert world.gateway.transfers.calls == []


async def test_an_agent_certificate_cannot_serve_as_a_gateway(tmp_path, world):
    """TLS itself refuses it: the certificate is not for servers."""
    impostor = world.pki.client(world.pki.us, agent_id())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(impostor.certificate, impostor.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusting = ClientContext(None, None, world.pki.us.pem.decode())
    async with PeerClient([f"https://localhost:{port}"], trusting, gateway=gateway_id(US), timeouts=QUICK) as client:
        with pytest.raises(NotAuthenticated, match="E-CERTIFICATE"):
            await client.trust()
    server.close()


async def test_a_certificate_of_an_unknown_ca_is_refused_with_a_hint(world):
    async with world.client(world.pki.client(world.pki.nobody, agent_id())) as client:
        with pytest.raises(Unavailable, match="does not know this certificate's CA"):
            await client.show(TRANSFER)

    assert world.gateway.transfers.calls == []


async def test_a_renewed_certificate_is_used_by_the_next_new_connection(world):
    credential = world.pki.client(world.pki.us, agent_id())
    async with world.client(credential) as client:
        await client.show(TRANSFER)
        renewed = world.pki.client(world.pki.us, agent_id(name="build-2"))
        renewed.certificate.replace(credential.certificate)
        renewed.key.replace(credential.key)
        await client.show(TRANSFER)

    assert [call[1] for call in world.gateway.transfers.calls] == [agent_id(), agent_id(name="build-2")]


async def test_half_a_renewal_leaves_the_old_certificate_in_use(world):
    credential = world.pki.client(world.pki.us, agent_id())
    async with world.client(credential) as client:
        await client.show(TRANSFER)
        world.pki.client(world.pki.us, agent_id()).certificate.replace(credential.certificate)
        await client.show(TRANSFER)

    assert len(world.gateway.transfers.calls) == 2


async def test_an_answer_longer_than_its_bound_is_refused(world):
    world.gateway.artifacts.segments[segment(3)] = bytes(SEGMENT_BYTES_MAX + 1)
    async with world.agent() as client:
        with pytest.raises(PeerError, match="E-REQUEST"):
            await client.segment(segment(3))
