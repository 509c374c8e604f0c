import asyncio
import json
import ssl
from datetime import timedelta

import pytest

from carnet.flow.link import Timeouts
from carnet.identifiers import SiteName
from carnet.limits import REQUEST_JSON_BYTES_MAX, SEGMENT_BYTES_MAX
from carnet.paths import transfer, transfer_action, transfer_segment
from gateway.http.admission import SEGMENT_COST_BYTES
from gateway.http.bounds import Bounds
from tests.carnet import message_samples as samples
from tests.carnet.samples import EU, TRANSFER, US, segment
from tests.gateway.http.wire import Wire
from tests.gateway.http.world import agent_id, gateway_id, running

SEGMENT_PATH = transfer_segment(TRANSFER, segment(1))


@pytest.fixture
async def world(tmp_path):
    async with running(tmp_path) as found:
        yield found


async def refused(world, credential):
    """Return the problem that a request with this certificate is answered with, or None if TLS itself refuses."""
    try:
        wire = await Wire.open(world, credential)
        wire.send(f"GET {transfer(TRANSFER)} HTTP/1.1\nHost: localhost")
        return (await wire.problem())[1]
    except (OSError, asyncio.IncompleteReadError):
        return None


async def test_tls_1_2_is_refused(world):
    context = ssl.create_default_context(cadata=world.pki.us.pem.decode())
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Wire.open(world, context=context)


async def test_a_request_without_a_certificate_is_told_so_and_its_body_is_not_read(world):
    wire = await Wire.open(world)
    wire.send(f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nContent-Length: 1000000")
    status, problem = await wire.problem()

    assert (status, problem["code"]) == (401, "E-NO-CERTIFICATE")
    assert await wire.is_closed()


async def test_a_certificate_of_an_unknown_ca_is_refused(world):
    assert await refused(world, world.pki.client(world.pki.nobody, agent_id())) is None
    assert world.gateway.transfers.calls == []


async def test_an_expired_certificate_is_refused(world):
    then = world.clock.now() - timedelta(days=2)
    assert await refused(world, world.pki.client(world.pki.us, agent_id(), at=then)) is None
    assert world.gateway.transfers.calls == []


async def test_a_revoked_identity_reads_why_and_its_open_connections_are_closed_others_stay(world):
    revoked, other = agent_id(), agent_id(name="build-2")
    request = f"GET {transfer(TRANSFER)} HTTP/1.1\nHost: localhost"
    wires = [await Wire.open(world, world.pki.client(world.pki.us, identity)) for identity in (revoked, other)]
    for wire in wires:
        wire.send(request)
        await wire.answer()

    world.gateway.trust.revocations.revoked.add(revoked)

    assert await wires[0].reader.read() == b""
    again = await Wire.open(world, world.pki.client(world.pki.us, revoked))
    again.send(request)
    status, problem = await again.problem()
    assert (status, problem["code"]) == (401, "E-REVOKED")
    wires[1].send(request)
    assert (await wires[1].answer())[0] == 200


async def test_an_open_connection_does_not_outlive_its_certificate(world):
    wire = await Wire.open(world, world.pki.client(world.pki.us, agent_id(), life_s=3_600))
    request = f"GET {transfer(TRANSFER)} HTTP/1.1\nHost: localhost"
    wire.send(request)
    first, _, _ = await wire.answer()
    world.clock.ahead = timedelta(hours=2)
    wire.send(request)
    second, problem = await wire.problem()

    assert (first, second, problem["code"]) == (200, 401, "E-CERTIFICATE")


async def test_a_peers_ca_cannot_vouch_for_our_identities(world):
    problem = await refused(world, world.pki.client(world.pki.eu, agent_id(US)))
    assert problem["code"] == "E-CERTIFICATE"
    assert "not issued by the CA of site us" in problem["detail"]


async def test_our_ca_cannot_vouch_for_a_peer(world):
    problem = await refused(world, world.pki.client(world.pki.us, gateway_id(EU)))
    assert "not issued by the CA of site eu" in problem["detail"]


async def test_a_peer_that_left_the_trust_bundle_is_refused_though_tls_still_knows_its_ca(world):
    credential = world.pki.client(world.pki.eu, gateway_id(EU))
    sites = tuple(known for known in world.gateway.trust.current.sites if known.name != EU)
    world.gateway.trust.current = world.gateway.trust.current.model_copy(update={"sites": sites})
    problem = await refused(world, credential)

    assert "site eu is not in the trust bundle" in problem["detail"]


@pytest.mark.parametrize("identity", [agent_id(EU), gateway_id(SiteName("us")), gateway_id(SiteName("mars"))])
async def test_identities_without_an_account_here_are_refused(world, identity):
    authority = world.pki.us if identity.site == US else world.pki.eu
    problem = await refused(world, world.pki.client(authority, identity))
    assert problem["code"] == "E-CERTIFICATE"


async def test_a_site_that_is_new_in_the_trust_bundle_can_connect_without_a_restart(world):
    mars = SiteName("mars")
    added = world.gateway.trust.current.sites[0].model_copy(update={"name": mars, "tls_ca": world.pki.nobody.pem.decode()})
    sites = (*world.gateway.trust.current.sites, added)
    world.gateway.trust.current = world.gateway.trust.current.model_copy(update={"sites": sites})
    client = world.client(world.pki.client(world.pki.nobody, gateway_id(mars)), timeouts=Timeouts(retry_s=10))
    async with client:
        await client.show(TRANSFER)

    assert world.gateway.transfers.calls[0][1] == gateway_id(mars)


async def test_a_renewed_server_certificate_is_used_without_a_restart(world):
    before = (await Wire.open(world)).writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    renewed = world.pki.gateway(world.pki.us, gateway_id(US))
    renewed.certificate.replace(world.server.certificate)
    renewed.key.replace(world.server.key)
    async with asyncio.timeout(60):
        while (await Wire.open(world)).writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == before:
            await asyncio.sleep(0.02)


async def test_half_a_renewal_leaves_the_server_working(world):
    world.pki.gateway(world.pki.us, gateway_id(US)).certificate.replace(world.server.certificate)
    await asyncio.sleep(0.15)
    async with world.agent() as client:
        await client.show(TRANSFER)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2/",
        "/v1/transfers/xyz",
        f"{transfer(TRANSFER)}/approval",
        "/v1/artifacts/..%2f..%2fetc:passwd",
        "/log/tile/0/../../keys",
        "/log/tile/0/000.p/256",
        "/log/../gateway.toml",
        "//healthz",
    ],
)
async def test_an_unknown_path_is_not_found(world, path):
    wire = await Wire.agent(world)
    wire.send(f"GET {path} HTTP/1.1\nHost: localhost")
    status, problem = await wire.problem()

    assert (status, problem["code"]) == (404, "E-PATH-UNKNOWN")


async def test_an_unknown_path_needs_a_certificate_like_any_other(world):
    wire = await Wire.open(world)
    wire.send("GET /v1/secret HTTP/1.1\nHost: localhost")
    assert (await wire.problem())[0] == 401


@pytest.mark.parametrize("action", ["messages"])
async def test_an_agent_may_not_speak_as_a_site(world, action):
    wire = await Wire.agent(world)
    wire.send(f"POST {transfer_action(TRANSFER, action)} HTTP/1.1\nHost: localhost\nContent-Length: 2", b"{}")
    status, problem = await wire.problem()

    assert (status, problem["code"]) == (403, "E-NOT-ALLOWED")


async def test_a_site_may_not_read_artifacts_as_an_agent(world):
    wire = await Wire.open(world, world.pki.client(world.pki.eu, gateway_id(EU)))
    wire.send("GET /v1/artifacts HTTP/1.1\nHost: localhost")
    assert (await wire.problem())[0] == 403


async def test_health_needs_no_certificate(world):
    wire = await Wire.open(world)
    for path, word in (("/healthz", b"alive"), ("/readyz", b"ready")):
        wire.send(f"GET {path} HTTP/1.1\nHost: localhost")
        status, _, body = await wire.answer()
        assert status == 200
        assert word in body


@pytest.mark.parametrize(
    ("method", "path", "length"),
    [
        ("POST", "/v1/transfers", REQUEST_JSON_BYTES_MAX + 1),
        ("PUT", SEGMENT_PATH, SEGMENT_BYTES_MAX + 1),
        ("POST", "/v1/renew", REQUEST_JSON_BYTES_MAX + 1),
    ],
)
async def test_a_body_over_its_limit_is_refused_before_it_is_read(world, method, path, length):
    wire = await Wire.agent(world)
    wire.send(f"{method} {path} HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {length}")
    status, problem = await wire.problem()

    assert (status, problem["code"], problem["limit"]) == (413, "E-LIMIT", "request_body_bytes_max")
    assert await wire.is_closed()


async def test_a_client_that_asks_first_is_told_to_continue_only_if_the_body_is_welcome(world):
    head = "PUT {} HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: {}"
    wire = await Wire.agent(world)
    wire.send(head.format(SEGMENT_PATH, 4))
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    wire.writer.write(b"body")
    assert (await wire.answer())[0] == 201

    wire.send(head.format(SEGMENT_PATH, SEGMENT_BYTES_MAX + 1))
    assert (await wire.problem())[0] == 413


async def test_a_chunked_body_is_bounded_too(world):
    wire = await Wire.agent(world)
    wire.send("POST /v1/transfers HTTP/1.1\nHost: localhost\nContent-Type: application/json\nTransfer-Encoding: chunked")
    piece = b"10000\r\n" + bytes(65_536) + b"\r\n"
    for _ in range(17):
        wire.writer.write(piece)
    status, problem = await wire.problem()

    assert (status, problem["limit"]) == (413, "request_body_bytes_max")


async def test_a_segment_needs_a_content_length(world):
    wire = await Wire.agent(world)
    wire.send(f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n")
    assert (await wire.problem())[1]["code"] == "E-REQUEST"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("GET /v1/trust HTTP/1.1\nHost: localhost\nContent-Length: 2", b"{}"),
        ("POST /v1/renew HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 2", b"{}"),
        ("POST /v1/renew HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 2", b"{}"),
        ("POST /v1/renew HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 2", b"[]"),
        (
            "POST /v1/renew HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Encoding: gzip\nContent-Length: 2",
            b"{}",
        ),
        (f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nCarnet-Row: !!\nContent-Length: 2", b"ab"),
        (f"GET {transfer(TRANSFER)}?wait=61 HTTP/1.1\nHost: localhost", b""),
        (f"GET {transfer(TRANSFER)}?wait=-1 HTTP/1.1\nHost: localhost", b""),
        (f"GET {transfer(TRANSFER)}?wait=1&wait=2 HTTP/1.1\nHost: localhost", b""),
        (f"GET {transfer(TRANSFER)}?surprise=1 HTTP/1.1\nHost: localhost", b""),
        ("GET /v1/transfers?limit=1001 HTTP/1.1\nHost: localhost", b""),
        ("GET /v1/artifacts/a..b:v1 HTTP/1.1\nHost: localhost", b""),
        ("NOT HTTP", b""),
        ("GET /v1/trust HTTP/1.1\nHost: localhost\nContent-Length: x", b""),
    ],
)
async def test_a_request_that_breaks_the_protocol_is_refused_with_400(world, head, body):
    wire = await Wire.agent(world)
    wire.send(head, body)
    assert (await wire.problem())[0] == 400


async def test_headers_over_their_limit_are_refused(world):
    wire = await Wire.agent(world)
    wire.send("GET /v1/trust HTTP/1.1\nHost: localhost\n" + "\n".join(f"X-{number}: {'x' * 4_000}" for number in range(5)))
    status, problem = await wire.problem()
    assert (status, problem["limit"]) == (413, "header_bytes_max")

    wire = await Wire.agent(world)
    wire.send("GET /v1/trust HTTP/1.1\nHost: localhost\nX: " + "x" * 9_000)
    status, problem = await wire.problem()
    assert (status, problem["limit"]) == (413, "header_bytes_max")


async def test_answers_carry_the_request_id_that_the_problem_names(world):
    wire = await Wire.agent(world)
    wire.send("GET /nowhere HTTP/1.1\nHost: localhost")
    _, headers, body = await wire.answer()

    assert headers["carnet-request"] == json.loads(body)["request"] != ""


async def test_a_refused_small_request_keeps_the_connection(world):
    wire = await Wire.agent(world)
    for _ in range(2):
        wire.send("GET /nowhere HTTP/1.1\nHost: localhost")
        assert (await wire.answer())[0] == 404


async def test_a_long_poll_answers_when_the_transfer_changes(world):
    transfers = world.gateway.transfers
    wire = await Wire.agent(world)
    wire.send(f"GET {transfer(TRANSFER)} HTTP/1.1\nHost: localhost")
    _, headers, _ = await wire.answer()
    wire.send(f"GET {transfer(TRANSFER)}?wait=60 HTTP/1.1\nHost: localhost\nIf-None-Match: {headers['etag']}")
    await transfers.entered.wait()
    transfers.state = "held"
    transfers.change.set()
    status, later, body = await wire.answer()

    assert (status, json.loads(body)["state"]) == (200, "held")
    assert later["etag"] != headers["etag"]


async def test_a_long_poll_without_a_change_ends_with_304(world):
    wire = await Wire.agent(world)
    wire.send(f"GET {transfer(TRANSFER)} HTTP/1.1\nHost: localhost")
    _, headers, _ = await wire.answer()
    started = asyncio.get_running_loop().time()
    wire.send(f"GET {transfer(TRANSFER)}?wait=1 HTTP/1.1\nHost: localhost\nIf-None-Match: {headers['etag']}")
    status, later, body = await wire.answer()

    assert (status, later["etag"], body) == (304, headers["etag"], b"")
    assert 0.9 < asyncio.get_running_loop().time() - started < 5


async def test_log_files_say_how_long_they_may_be_kept(world):
    (world.gateway.log.directory / "checkpoint").write_text("origin\n")
    (world.gateway.log.directory / "tile" / "0" / "000").write_bytes(b"t")
    wire = await Wire.agent(world)
    found = {}
    for path in ("/log/checkpoint", "/log/tile/0/000"):
        wire.send(f"GET {path} HTTP/1.1\nHost: localhost")
        _, headers, _ = await wire.answer()
        found[path] = headers["cache-control"]

    assert found == {"/log/checkpoint": "no-cache", "/log/tile/0/000": "public, max-age=31536000, immutable"}


async def test_segments_wait_for_a_buffer_and_are_told_to_come_back(tmp_path):
    bounds = Bounds(bytes_in_flight_per_identity_max=SEGMENT_COST_BYTES, buffer_wait_s=0.2)
    async with running(tmp_path, bounds=bounds) as world:
        receive = world.gateway.receive
        receive.may_finish.clear()
        first, second = await Wire.agent(world), await Wire.agent(world)
        put = f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nContent-Length: 4"
        first.send(put, b"body")
        await receive.entered.wait()
        second.send(put, b"body")
        status, problem = await second.problem()
        receive.may_finish.set()

        assert (status, problem["code"], problem["limit"]) == (429, "E-BUSY", "bytes_in_flight_per_identity_max")
        assert problem["retry_after_s"] == 1
        assert (await first.answer())[0] == 201


async def test_draining_finishes_a_segment_whose_body_is_still_coming(world):
    wire = await Wire.agent(world)
    wire.send(f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nContent-Length: 8", b"half")
    idle = await Wire.agent(world)
    idle.send("GET /v1/trust HTTP/1.1\nHost: localhost")
    await idle.answer()
    world.stop.set()
    await asyncio.sleep(0.1)
    with pytest.raises(OSError):
        await Wire.agent(world)
    idle.send("GET /v1/trust HTTP/1.1\nHost: localhost")
    late, problem = await idle.problem()
    wire.writer.write(b"done")
    status, headers, _ = await wire.answer()
    await world.task

    assert (late, problem["code"]) == (503, "E-BUSY")
    assert (status, headers["connection"]) == (201, "close")
    assert world.gateway.receive.segments == {segment(1): b"halfdone"}


async def test_draining_ends_long_polls_at_once(world):
    wire = await Wire.agent(world)
    wire.send(f"GET {transfer(TRANSFER)} HTTP/1.1\nHost: localhost")
    _, headers, _ = await wire.answer()
    wire.send(f"GET {transfer(TRANSFER)}?wait=60 HTTP/1.1\nHost: localhost\nIf-None-Match: {headers['etag']}")
    await world.gateway.transfers.entered.wait()
    started = asyncio.get_running_loop().time()
    world.stop.set()
    status, _, _ = await wire.answer()
    await world.task

    assert status == 304
    assert asyncio.get_running_loop().time() - started < 1.5


async def test_draining_cuts_what_does_not_finish_in_time(tmp_path):
    async with running(tmp_path, bounds=Bounds(drain_s=0.2)) as world:
        world.gateway.receive.may_finish.clear()
        wire = await Wire.agent(world)
        wire.send(f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nContent-Length: 4", b"body")
        await world.gateway.receive.entered.wait()
        started = asyncio.get_running_loop().time()
        world.stop.set()
        await world.task

        assert asyncio.get_running_loop().time() - started < 2.5
        assert await wire.is_closed()


async def test_a_segment_in_a_pooled_buffer_does_not_show_the_one_before(world):
    async with world.agent(connections=1) as client:
        await client.put_segment(TRANSFER, segment(1), b"x" * 300_000)
        await client.put_segment(TRANSFER, segment(2), b"y" * 10)

    assert world.gateway.receive.segments[segment(2)] == b"y" * 10


async def test_a_cancel_without_a_body_has_no_reason(world):
    wire = await Wire.agent(world)
    wire.send(f"POST {transfer_action(TRANSFER, 'cancel')} HTTP/1.1\nHost: localhost\nContent-Length: 0")
    assert (await wire.answer())[0] == 200
    assert world.gateway.transfers.calls == [("cancel", agent_id(), TRANSFER, "")]
    assert samples.transfer_view().state == "admitted"


async def test_no_answer_tells_what_the_server_is_made_of(world):
    wire = await Wire.agent(world)
    for request in ("GET /v1/trust", "GET /nowhere", "POST /v1/transfers"):
        wire.send(f"{request} HTTP/1.1\nHost: localhost")
        _, headers, _ = await wire.answer()
        assert headers["server"] == "carnet", request
    wire.writer.write(b"nonsense\r\n\r\n")
    _, headers, _ = await wire.answer()

    assert headers["server"] == "carnet"
