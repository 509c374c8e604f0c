"""T24: bytes on the wire that no client of ours would send are refused in 4xx, or the connection is closed; never 5xx."""

from pathlib import Path

from agent.identity import load_identity
from carnet.flow.tls import client_context
from tests.attacks.parties import noise
from tests.attacks.test_t1_network_in_the_middle import answer_of
from tests.crossing.sites import World

HOST = b"Host: localhost\r\nConnection: close\r\n"
TARGETS = (
    b"/v1/artifacts/team%2Fa:v1", b"//v1/transfers", b"/v1/../v1/transfers", b"/log/tile/../../keys/signing",
    b"/log/tile/0/..%2f..%2fcheckpoint", b"/log/tile/entries/000.p/..", b"/v1/transfers/" + b"0" * 32 + b"/segments/../x",
    b"/v1/artifacts/a/../../x:y", b"/v1/transfers\x00", b"/v1/transfers;x=1", b"/V1/transfers", b"*", b"/v1/artifacts/A:v1",
    b"/v1/artifacts/a:.x", b"/v1/artifacts/a:v1:v2", b"/v1/artifacts?after=nocolon", b"/v1/artifacts?after=a%00:b&limit=1",
    b"/v1/artifacts?repository=%27%20or%201=1", b"/v1/transfers?before=9999-12-31T23:59:59Z|x",
    b"/v1/transfers?before=x|y", b"/v1/transfers?state=%00", b"/v1/transfers?limit=99999999999999999999",
    b"/v1/transfers?limit=-1", b"/v1/transfers?limit=1e3",
    b"/v1/artifacts?repository=%ff%fe", b"/" + b"a" * 6_000,
)  # fmt: skip
NOTHING = (b'{"artifacts":[]}', b'{"transfers":[]}')
"""A listing after a cursor of odd characters, or of a state that there is not, is empty."""
DECLARE = b"POST /v1/transfers HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"


def declared(body: bytes) -> bytes:
    return DECLARE + b"Content-Length: %d\r\n\r\n" % len(body) + body


REQUESTS = {
    "two framings": DECLARE + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/trust HTTP/1.1\r\n\r\n",
    "two lengths": DECLARE + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a negative length": DECLARE + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": DECLARE + b"Content-Length: +5\r\n\r\nabcde",
    "a compressed body": DECLARE + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "a folded header": DECLARE + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "many headers": b"GET /v1/transfers/x HTTP/1.1\r\n" + HOST + b"".join(b"A%d: b\r\n" % n for n in range(300)) + b"\r\n",
    "a long header": b"GET /v1/transfers/x HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 9_000 + b"\r\n\r\n",
    "a chunk of a size that is none": DECLARE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a method that is none": b"BREW /v1/transfers HTTP/1.1\r\n" + HOST + b"\r\n",
    "deep JSON": declared(b"[" * 200_000),
    "NaN": declared(b"NaN"),
    "a key twice": declared(b'{"a":1,"a":2}'),
    "a huge integer": declared(b'{"a":' + b"9" * 5_000 + b"}"),
    "half a surrogate pair": declared(b'{"a":"\\ud800"}'),
    "no UTF-8": declared(b'{"a":"\xff"}'),
    "a byte order mark": declared(b"\xef\xbb\xbf{}"),
    "a list": declared(b"[]"),
    "nothing": declared(b""),
    "a body over its limit": DECLARE + b"Content-Length: 99999999999\r\n\r\n",
    "random bytes": bytes(range(256)) * 8 + b"\r\n\r\n",
}


async def test_malformed_requests_are_refused_and_the_site_works_on(world: World, tmp_path: Path) -> None:
    identity = world.us.agent.identity_dir
    context = client_context(identity / "tls.pem", None, load_identity(identity).authority_pem)
    sent = {f"GET {target[:40]!r}": b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n" for target in TARGETS} | REQUESTS
    for name, request in sent.items():
        answer = await answer_of(world.us, context, request)

        is_refused = not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert is_refused or answer.endswith(NOTHING), (name, answer[:200])
        assert b"Traceback" not in answer, name
        assert str(world.us.directory).encode() not in answer, name
        if b"application/problem+json" in answer:
            assert b'"code":"E-' in answer, name
            assert b'"remedy":"' in answer, name
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
