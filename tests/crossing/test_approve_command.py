"""`carnet approve` and `carnet reject`, as people and scripts run them."""

import asyncio
import json
import os
import pty
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.settings import encode_settings
from carnet.keys import encode_private_key
from tests.crossing.officers import KEYS, appoint_both, request_of
from tests.crossing.officers import asked as open_request
from tests.crossing.sites import World, know_each_other
from tests.promises.kills import noise

CARNET = Path(sys.executable).parent / "carnet"


@dataclass
class Ran:
    """What a command came to."""

    status: int
    out: str
    err: str


@dataclass
class Desk:
    """A machine at us with the keys of the officers."""

    world: World
    directory: Path

    def key(self, name: str) -> Path:
        """Return the file with a person's key."""
        path = self.directory / f"{name}.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(encode_private_key(KEYS[name]))
        return path

    async def run(self, *arguments: str | Path, stdin: int = asyncio.subprocess.DEVNULL) -> Ran:
        """Run `carnet` with these arguments."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARNET_")}
        process = await asyncio.create_subprocess_exec(
            CARNET,
            *("--config", str(self.directory / "carnet.toml"), *map(str, arguments)),
            env=environment,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def at_a_terminal(self, said: str, *arguments: str | Path) -> Ran:
        """Run `carnet` with a terminal as standard input, on which a person types `said`."""
        typed, terminal = pty.openpty()
        try:
            os.write(typed, said.encode())
            return await self.run(*arguments, stdin=terminal)
        finally:
            os.close(typed)
            os.close(terminal)


@pytest.fixture
async def desk(cold_world, tmp_path):
    """Both sites with the officers appointed, and a desk at us."""
    world = cold_world
    await appoint_both(world)
    await world.eu.start()
    await world.us.start()
    await know_each_other(world)
    directory = tmp_path / "desk"
    directory.mkdir()
    settings = encode_settings(world.us.settings.url, world.us.name, world.us.agent.identity_dir)
    (directory / "carnet.toml").write_text(f'{settings}person_key = "carol.key"\n')
    made = Desk(world, directory)
    made.key("carol")
    return made


async def held(desk, tmp_path):
    return (await desk.world.push(f"file:{noise(tmp_path / 'a', 5000)}", "eu:app:v1")).view.transfer


async def test_two_people_approve_and_the_artifact_arrives(desk, tmp_path):
    transfer = await held(desk, tmp_path)
    digest = request_of(await open_request(desk.world, transfer)).digest

    shown = await desk.run("transfer", "show", transfer)
    assert f"carnet approve {transfer} --to eu" in shown.out
    assert "needs 1 of security: ada, bob, dora, olga" in shown.out

    listed = await desk.run("transfer", "list", "--waiting")
    assert "needs 1 of export-control: ada, carol, dora, olga" in listed.out

    first = await desk.run("approve", transfer, "--yes", "--reason", "licence EAR99", "--json")
    assert first.status == 0, first.err
    document = json.loads(first.out)
    assert (document["request_digest"], document["request"]["destination"]) == (digest, "eu")
    (tmp_path / "approval.json").write_text(json.dumps(document["approval"]))
    checked = await desk.run("verify", tmp_path / "approval.json")
    assert "approval by carol (export-control), signed by carol" in checked.out

    shown = await desk.run("transfer", "show", transfer)
    assert "approve by carol (export-control)" in shown.out
    assert "of export-control" not in shown.out.split("why:")[0]

    second = await desk.run("approve", transfer, "--key", desk.key("bob"), "--to", "eu", "--yes")
    assert second.status == 0, second.err
    for line in ("app:v1  (file", "to        eu (DE, Example eu)", "declared  classification internal", f"request   {digest}"):
        assert line in second.err
    assert "said      carol (export-control): approve" in second.err
    await desk.world.until(transfer, lambda view: view.deliveries[0].state == "delivered")
    assert (await desk.run("transfer", "list", "--waiting")).out == ""
    assert transfer in (await desk.run("transfer", "list")).out


async def test_a_person_reads_what_they_sign_and_nothing_is_signed_unless_they_say_yes(desk, tmp_path):
    transfer = await held(desk, tmp_path)

    no = await desk.at_a_terminal("n\n", "approve", transfer)
    assert no.status == 1
    assert "you       carol, as export-control" in no.err
    assert "nothing was signed" in no.err
    assert (await open_request(desk.world, transfer)).approvals == ()

    yes = await desk.at_a_terminal("y\n", "approve", transfer)
    assert yes.status == 0, yes.err
    assert len((await open_request(desk.world, transfer)).approvals) == 1


@pytest.mark.full
async def test_a_script_has_to_say_that_it_asks_nobody(desk, tmp_path):
    transfer = await held(desk, tmp_path)

    for arguments in (("approve", transfer), ("approve", transfer, "--json"), ("reject", transfer, "--reason", "no")):
        ran = await desk.run(*arguments)
        assert ran.status == 2
        assert "--yes" in ran.err
    assert (await open_request(desk.world, transfer)).approvals == ()


async def test_a_rejection_needs_a_reason_and_says_it_to_everybody(desk, tmp_path):
    transfer = await held(desk, tmp_path)

    assert (await desk.run("reject", transfer, "--yes")).status == 2
    ran = await desk.run("reject", transfer, "--reason", "wrong consignee", "--yes")
    assert ran.status == 0, ran.err
    await desk.world.until(transfer, lambda view: view.deliveries[0].state == "release-deny")
    shown = await desk.run("transfer", "show", transfer)
    assert "rejected by carol (export-control): wrong consignee" in shown.out


@pytest.mark.full
async def test_keys_and_roles_that_do_not_fit_are_told_in_one_line(desk, tmp_path):
    transfer = await held(desk, tmp_path)
    strange, loose = tmp_path / "strange.key", tmp_path / "loose.key"
    assert (await desk.run("key", "new", strange)).status == 0
    loose.write_text(encode_private_key(KEYS["bob"]))
    loose.chmod(0o644)

    for arguments, status, text in (
        (("approve", transfer, "--key", strange), 7, "is nobody's in trust bundle"),
        (("approve", transfer, "--key", loose), 2, "open to others"),
        (("approve", transfer, "--key", tmp_path / "none"), 2, "cannot be read"),
        (("approve", transfer, "--key", desk.key("dora")), 2, "could answer as export-control or security"),
        (("approve", transfer, "--key", desk.key("bob"), "--role", "export-control"), 7, "cannot answer as export-control"),
        (("approve", transfer, "--to", "us"), 1, "towards us waits for approval"),
        (("approve", "0" * 32), 8, "no transfer"),
    ):
        ran = await desk.run(*arguments, "--yes")
        assert (ran.status, text in ran.err, ran.err.count("\n")) == (status, True, 2), ran.err
    assert (await desk.run("approve", transfer, "--key", desk.key("dora"), "--role", "security", "--yes")).status == 0
