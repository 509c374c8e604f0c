"""A TLS connection on which tests write what no client of ours would."""

import asyncio
import json
from typing import ClassVar

from carnet.flow.tls import client_context
from tests.gateway.http.world import agent_id


class Wire:
    """One connection; the tests of this directory cut what they left open."""

    opened: ClassVar[list["Wire"]] = []

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.opened.append(self)

    @classmethod
    async def open(cls, world, credential=None, *, context=None):
        certificate, key = (credential.certificate, credential.key) if credential is not None else (None, None)
        found = context or client_context(certificate, key, world.pki.us.pem.decode())
        return cls(*await asyncio.open_connection("localhost", world.port, ssl=found))

    @classmethod
    async def agent(cls, world):
        return await cls.open(world, world.pki.client(world.pki.us, agent_id()))

    def send(self, text, body=b""):
        self.writer.write(text.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    async def answer(self):
        """Return status, headers and body of the next answer."""
        async with asyncio.timeout(60):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def problem(self):
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json"
        return status, json.loads(body)

    async def is_closed(self, timeout_s=5):
        try:
            async with asyncio.timeout(timeout_s):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True
