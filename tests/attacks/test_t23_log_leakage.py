"""T23: logs and answers carry ids, sizes and codes; what a secret or content was does not come back in any of them."""

import json
import logging
import secrets
from pathlib import Path

import pytest

from agent.enroll import enroll
from agent.identity import load_identity
from agent.session import open_session
from carnet.encoding import encode_base64
from carnet.errors import CarnetError
from carnet.flow.tls import client_context
from tests.attacks.parties import new_agent, now
from tests.attacks.test_t1_network_in_the_middle import answer_of
from tests.crossing.sites import World, invite_agent

CANARY = "CANARY-9f2d-THIS-IS-SECRET"


async def test_a_secret_in_a_request_comes_back_in_no_answer_and_no_log(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    identity = world.us.agent.identity_dir
    context = client_context(identity / "tls.pem", None, load_identity(identity).authority_pem)
    invite = await invite_agent(world.us, "late")
    secret = encode_base64(invite.secret)
    bodies = [
        {"invite": invite.id, "secret": CANARY, "csr": "x", "signing_key": "00", "kem_key": "00"},
        {"invite": invite.id, "secret": secret, "csr": CANARY, "signing_key": CANARY, "kem_key": CANARY},
        {"invite": CANARY, "secret": secret, "unknown": CANARY},
        {"secret": [secret, CANARY]},
        {CANARY: secret},
    ]
    for body in bodies:
        data = json.dumps(body).encode()
        for path in ("/v1/enroll", "/v1/transfers", "/v1/renew"):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCarnet-Row: {CANARY}\r\n"
            answer = await answer_of(world.us, context, f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

            assert answer.startswith(b"HTTP/1.1 4"), body
            assert secret.encode() not in answer, path
            if CANARY not in body:
                assert CANARY.encode() not in answer, path
    await world.us.stop()
    said = "".join(capfd.readouterr()) + caplog.text

    assert CANARY not in said
    assert secret not in said


async def test_the_errors_of_an_agent_show_no_key_of_its_own(world: World, tmp_path: Path) -> None:
    """Every file of an identity is cut or spoilt in turn; what is said about it never quotes it."""
    agent = await new_agent(world.us, "canary", "push,pull:*@*")
    for path in sorted(agent.identity_dir.iterdir()):
        before = path.read_bytes()
        for data in (before[: len(before) // 2], before + secrets.token_bytes(8), before[::-1], b""):
            path.write_bytes(data)
            try:
                async with open_session(agent):
                    pass
            except CarnetError as error:
                said = f"{error} {error.remedy} {error!r}"
                pieces = [before[at : at + 24] for at in range(0, len(before) - 24, 24)]
                assert not [piece for piece in pieces if piece in said.encode() and b"-----" not in piece], path.name
        path.write_bytes(before)


async def test_an_invite_that_fails_is_not_shown(world: World, tmp_path: Path) -> None:
    invite = await invite_agent(world.us, "once")
    await enroll(invite, tmp_path / "first", now())
    with pytest.raises(CarnetError) as caught:
        await enroll(invite, tmp_path / "second", now())

    said = f"{caught.value} {caught.value.remedy} {invite!r}"
    assert invite.secret.hex() not in said
    assert encode_base64(invite.secret) not in said
