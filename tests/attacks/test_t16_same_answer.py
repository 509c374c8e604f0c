"""T16: what one may not see and what does not exist are answered alike, byte for byte but for what was asked."""

import json
import re
from pathlib import Path

from agent.identity import load_identity
from agent.settings import AgentSettings
from carnet.flow.tls import client_context
from tests.attacks.parties import new_agent, noise
from tests.attacks.test_t1_network_in_the_middle import answer_of
from tests.crossing.sites import World


async def asked(world: World, agent: AgentSettings, method: str, path: str, body: bytes = b"") -> tuple[bytes, dict[str, object]]:
    """Return head and problem, without what differs in any two answers: request id, date."""
    context = client_context(agent.identity_dir / "tls.pem", None, load_identity(agent.identity_dir).authority_pem)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = await answer_of(world.us, context, head.encode() + body)
    head_bytes, _, document = answer.partition(b"\r\n\r\n")
    problem = json.loads(document)
    problem.pop("request")
    kept = re.sub(rb"(Carnet-Request|Date|Content-Length): [^\r]*", b"", head_bytes)
    return kept, problem


async def test_unknown_and_forbidden_are_answered_alike(world: World, tmp_path: Path) -> None:
    theirs = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "secret/app:v1")
    mallory = await new_agent(world.us, "mallory", "push,pull,delete:team/*@*")
    transfer, segment = str(theirs.view.transfer), world.us.stored()[0].name
    nobody, nothing = "0" * 32, "b3-" + "0" * 64
    reads = [
        ("GET", "/v1/transfers/{}", transfer, nobody),
        ("POST", "/v1/transfers/{}/cancel", transfer, nobody),
        ("POST", "/v1/transfers/{}/retry", transfer, nobody),
        ("GET", "/v1/transfers/{}/rows", transfer, nobody),
        ("GET", "/v1/segments/{}", segment, nothing),
        ("GET", "/v1/artifacts/{}", "secret/app:v1", "secret/nil:v1"),
        ("GET", "/v1/artifacts/{}?view=summary", "secret/app:v1", "secret/nil:v1"),
        ("DELETE", "/v1/artifacts/{}", "secret/app:v1", "secret/nil:v1"),
    ]
    for method, path, there, absent in reads:
        forbidden_head, forbidden = await asked(world, mallory, method, path.format(there))
        unknown_head, unknown = await asked(world, mallory, method, path.format(absent))

        assert forbidden["status"] == 404, (method, path, forbidden)
        assert forbidden_head == unknown_head, (method, path)
        assert json.dumps(forbidden).replace(there, "?") == json.dumps(unknown).replace(absent, "?"), (method, path)
