"""The command line of `carnet`: every failure is one line with a code, a hint, and the exit status of its family."""

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli import build_app
from carnet.flow.commandline import run
from tests.agent.layouts import blobs_of, simple_image

BIN = Path(sys.executable).parent


ENDINGS = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: endings, version: 1, owner: the tests}
rules:
"""
ENDING = """
  - id: end-{0}
    at: [receipt]
    when: {{artifact.repository: {0}}}
    effect: {0}
    reason: the repository asks for it
    remedy: choose another repository
"""


def start(directory: Path) -> tuple["subprocess.Popen[str]", dict[str, str]]:
    process = subprocess.Popen(
        [BIN / "carnet-gateway", "dev", directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def announced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A site for trying out, as its first line of output describes it; what is pushed to `hold`, `quarantine`, `deny` ends so."""
    directory = tmp_path_factory.mktemp("dev") / "site"
    stop(start(directory)[0])
    endings = ENDINGS + "".join(map(ENDING.format, ("hold", "quarantine", "deny")))
    (directory / "policy" / "endings.yaml").write_text(endings)
    process, announced = start(directory)
    first = directory.parent / "first.bin"
    first.write_bytes(b"there from the start")
    subprocess.run(
        [BIN / "carnet", "--config", announced["config"], "push", f"file:{first}", "there:v1", "-q"], check=True, timeout=60
    )
    yield announced
    stop(process)


class Carnet:
    """Runs `carnet` in this process and keeps what it printed."""

    def __init__(self, config: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        self._capsys.readouterr()
        status = run(build_app(), "carnet", ["--config", self._config, *map(str, arguments)])
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self, *arguments: str | Path) -> Any:
        assert self(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def carnet(announced: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Carnet:
    return Carnet(announced["config"], capsys)


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    path = tmp_path / "patch.bin"
    path.write_bytes(random.Random(str(tmp_path)).randbytes(50_000))
    return path


def test_push_and_pull_work_with_what_dev_prints(carnet: Carnet, patch: Path, tmp_path: Path) -> None:
    assert carnet("push", f"file:{patch}", "app:v1") == 0
    assert carnet.out.startswith("ADMITTED  ")
    assert "-> dev: delivered" in carnet.out
    assert carnet("pull", "app:v1", f"file:{tmp_path / 'out'}") == 0

    assert (tmp_path / "out").read_bytes() == patch.read_bytes()


def test_an_image_survives_push_and_pull_with_every_blob(carnet: Carnet, tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "layout")

    assert carnet("push", f"oci:{layout.path}", "img:v1") == 0
    assert carnet("pull", "img:v1", f"oci:{tmp_path / 'out'}") == 0

    assert blobs_of(tmp_path / "out") == blobs_of(layout.path)


FAILURES = [
    (("push", "file:/nowhere/at/all", "app:v1"), 2, "E-SOURCE"),
    (("push", "nonsense", "app:v1"), 2, "E-SOURCE"),
    (("push", "docker://x/y", "app:v1"), 2, "E-SOURCE"),
    (("push", "PATCH", "UPPER:v1"), 2, "E-NAME"),
    (("push", "PATCH", "noтag"), 2, "E-USAGE"),
    (("push", "PATCH", "a:b:c:d"), 2, "E-USAGE"),
    (("push", "PATCH", "mars:app:v1"), 8, "E-LANE-UNKNOWN"),
    (("push", "PATCH", "app:v1", "--wait", "someday"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--limit-rate", "fast"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--timeout", "soon"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--kind", "novel"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "-d", "colour=blue"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "-d", "nothing"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--parallel", "0"), 2, "E-USAGE"),
    (("push", "PATCH"), 2, "E-USAGE"),
    (("pull", "app:never-pushed", "file:OUT"), 8, "E-ARTIFACT-UNKNOWN"),
    (("pull", "there:v1", "nonsense"), 2, "E-SINK"),
    (("artifact", "show", "app:never-pushed"), 8, "E-ARTIFACT-UNKNOWN"),
    (("artifact", "delete", "app:never-pushed"), 8, "E-ARTIFACT-UNKNOWN"),
    (("transfer", "show", "0" * 32), 8, "E-TRANSFER-UNKNOWN"),
    (("transfer", "cancel", "0" * 32), 8, "E-TRANSFER-UNKNOWN"),
    (("recall", "0" * 32, "--reason", "x"), 8, "E-TRANSFER-UNKNOWN"),
    (("recall", "app:never-pushed", "--reason", "x"), 8, "E-ARTIFACT-UNKNOWN"),
    (("recall", "sha256:" + "0" * 64, "--reason", "x"), 8, "E-ARTIFACT-UNKNOWN"),
    (("recall", "app", "--reason", "x"), 2, "E-USAGE"),
    (("recall", "app:v1"), 2, "E-USAGE"),
    (("recall", "there:v1", "--reason", "two\nlines"), 2, "E-USAGE"),
    (("transfer", "show", "xyz"), 2, "E-NAME"),
    (("verify", "/nowhere/at/all"), 2, "E-SOURCE"),
    (("log", "verify", "/nowhere/at/all"), 2, "E-SOURCE"),
    (("enroll", "carnet1.nonsense"), 2, "E-INVITE"),
    (("log", "verify", "--root-fingerprint", "sha256:" + "0" * 64), 2, "E-USAGE"),
    (("pull", "there:v1", "-", "--json"), 2, "E-USAGE"),
    (("no-such-command",), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--lane", "nowhere"), 2, "E-USAGE"),
    (("push", "PATCH", "dev:app:v1", "--lane", "nowhere"), 8, "E-LANE-UNKNOWN"),
    (("push", "PATCH", "app:v1", "-d", "licence=a", "-d", "licence=b"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "-d", "label.a=1", "-d", "label.a=2"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "-d", "label.NO SUCH=1"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--initiator", ""), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--initiator", "two\nlines"), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--initiator", "x" * 5_000), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--timeout", ""), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--timeout", "9" * 40), 2, "E-USAGE"),
    (("push", "PATCH", "app:v1", "--limit-rate", ""), 2, "E-USAGE"),
    (("push", "file:", "app:v1"), 2, "E-SOURCE"),
    (("pull", "there:v1", "oci:"), 2, "E-SINK"),
    (("push", "PATCH", "deny:v1"), 4, "E-DENIED"),
    (("push", "PATCH", "deny:v1", "-q"), 4, "E-DENIED"),
    (("transfer", "cancel", "0" * 32, "--reason", "x" * 5_000), 2, "E-USAGE"),
    (("verify", "LETTER"), 2, "E-SOURCE"),
    (("log", "verify", "--since", "LETTER"), 2, "E-SOURCE"),
    (("log", "verify", "LOG", "--trust", "LETTER", "--root-fingerprint", "sha256:" + "0" * 64), 2, "E-SOURCE"),
    (("log", "verify", "--trust", "LETTER"), 2, "E-USAGE"),
    (("reject", "0" * 32, "--reason", "x" * 5_000), 2, "E-USAGE"),
]


@pytest.mark.parametrize(("arguments", "status", "code"), FAILURES, ids=[" ".join(one[0])[:40] for one in FAILURES])
def test_a_failure_has_one_line_a_hint_and_its_status(
    carnet: Carnet, announced: dict[str, str], patch: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, code: str
) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    log = Path(announced["config"]).parent.parent / "log"
    places = {"PATCH": f"file:{patch}", "OUT": str(tmp_path / "out"), "LETTER": str(tmp_path / "letter.txt"), "LOG": str(log)}
    given = list(arguments)
    for word, place in places.items():
        given = [one.replace(word, place) for one in given]

    assert carnet(*given) == status

    lines = carnet.err.splitlines()
    assert lines[0].startswith("carnet: ")
    assert lines[0].endswith(f"[{code}]")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2
    assert not carnet.out or json.loads(carnet.out)["error"] == code


def test_a_file_that_is_no_document_is_named_with_what_would_be_one(carnet: Carnet, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")

    assert carnet("verify", tmp_path / "letter.txt") == 2

    line, hint = carnet.err.splitlines()
    assert line.startswith(f"carnet: {tmp_path / 'letter.txt'} holds nothing that can be verified")
    assert "receipt" in hint


@pytest.mark.parametrize("sink", ["file:", "dir:", "oci:", "docker-archive:"])
def test_a_sink_without_a_path_is_not_taken_for_a_path(carnet: Carnet, sink: str) -> None:
    assert carnet("pull", "there:v1", sink) == 2

    assert carnet.err.startswith(f"carnet: no path follows {sink} [E-SINK]")
    assert f"{sink}{sink}" not in carnet.err


def test_a_name_that_breaks_the_grammar_is_answered_with_the_grammar(carnet: Carnet) -> None:
    assert carnet("artifact", "show", "UPPER:v1") == 2
    assert "hint: write lower-case letters, digits" in carnet.err


def test_sizes_add_up_and_are_those_of_what_was_sent(carnet: Carnet, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"content")
    image = simple_image(tmp_path / "layout").path
    (tmp_path / "plain").write_bytes(bytes(100_000))
    for number, source in enumerate((f"file:{tmp_path / 'plain'}", f"dir:{tmp_path / 'tree'}", f"oci:{image}")):
        size = carnet.json("inspect", source)["source"]["size"]
        pushed = carnet.json("push", source, f"sizes:v{number}", "--progress", "json")
        shown = json.loads(carnet.err.splitlines()[-1])
        artifact = carnet.json("artifact", "show", f"sizes:v{number}")["artifact"]
        pulled = carnet.json("pull", f"sizes:v{number}", f"oci:{tmp_path / f'out{number}'}")
        again = carnet.json("push", source, f"sizes:again{number}")

        assert (shown["bytes_done"], shown["bytes_total"]) == (size, size)
        assert {pushed["bytes_done"], pushed["transfer"]["size"], artifact["size"], pulled["bytes_written"]} == {size}
        assert (shown["bytes_sent"], shown["bytes_saved"]) == (pushed["bytes_sent"], pushed["bytes_saved"])
        assert pushed["bytes_sent"] >= pushed["transfer"]["bytes_received"] > 0
        assert pushed["bytes_saved"] <= size
        assert again["bytes_saved"] <= again["transfer"]["size"] == size


def test_a_failure_with_json_is_a_document_on_standard_output(carnet: Carnet) -> None:
    assert carnet("artifact", "show", "app:never-pushed", "--json") == 8

    document = json.loads(carnet.out)
    assert (document["error"], document["exit_status"]) == ("E-ARTIFACT-UNKNOWN", 8)
    assert document["remedy"]


@pytest.mark.parametrize("arguments", [("pull", "app:v1"), ("transfer", "list", "--limit", "0"), ("no-such-command",)])
def test_a_usage_error_with_json_is_a_document_too(carnet: Carnet, arguments: tuple[str, ...]) -> None:
    assert carnet(*arguments, "--json") == 2

    document = json.loads(carnet.out)
    assert (document["error"], document["exit_status"]) == ("E-USAGE", 2)


def test_a_directory_whose_parent_is_missing_is_refused_as_a_sink(carnet: Carnet, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert carnet("push", f"dir:{tmp_path / 'tree'}", "tree:v1") == 0

    assert carnet("pull", "tree:v1", f"dir:{tmp_path / 'missing' / 'out'}") == 2
    assert "[E-SINK]" in carnet.err


def test_no_variable_of_the_environment_asks_for_the_version(carnet: Carnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARNET_VERSION", "1")

    assert carnet("artifact", "show", "app:never-pushed") == 8


@pytest.mark.parametrize("site", ["us", "elsewhere"])
def test_a_bundle_is_not_verified_as_the_word_of_one_site(carnet: Carnet, announced: dict[str, str], site: str) -> None:
    bundle = Path(announced["config"]).parent / "identity" / "trust.dsse"

    assert carnet("verify", bundle) == 0
    assert carnet("verify", bundle, "--site", site) == 2
    assert "[E-USAGE]" in carnet.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_push_that_is_told_to_stop_says_so_with_its_status(announced: dict[str, str], tmp_path: Path, number: int) -> None:
    source = tmp_path / "large"
    source.write_bytes(random.Random(number).randbytes(3_000_000))
    # What a shell runs in the background ignores Ctrl-C, and so would its children.
    listens = ["env", "--default-signal=INT"]
    command = [*listens, BIN / "carnet", "--config", announced["config"], "push", f"file:{source}", f"stopped:v{int(number)}"]
    with subprocess.Popen(
        [*command, "--limit-rate", "100000", "--progress", "json", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert process.stderr.readline()  # its first progress
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130
    assert "[E-INTERRUPTED]" in err
    assert json.loads(out)["error"] == "E-INTERRUPTED"


def test_what_would_be_let_go_exits_with_0(carnet: Carnet, patch: Path) -> None:
    assert carnet("push", f"file:{patch}", "app:v1", "--dry-run") == 0
    assert carnet.out.startswith("ALLOW  app:v1 -> dev")
    assert carnet.err == ""


@pytest.mark.parametrize(("ending", "status", "code"), [("hold", 3, "E-HELD"), ("quarantine", 4, "E-QUARANTINED")])
def test_what_is_held_or_refused_says_so_once_on_standard_error_too(
    carnet: Carnet, patch: Path, ending: str, status: int, code: str
) -> None:
    assert carnet("push", f"file:{patch}", f"{ending}:v1", "--wait", "delivered", "-q") == status
    transfer = carnet.out.split()[1]
    line, hint = carnet.err.splitlines()
    assert line.startswith(f"carnet: {ending}:v1 is ")
    assert line.endswith(f"the repository asks for it [{code}]")
    assert hint == f"hint: choose another repository; `carnet transfer show {transfer}` shows more"

    assert carnet("transfer", "wait", transfer, "-q") == status
    assert (carnet.out, carnet.err.count(f"[{code}]"), carnet.err.count("\n")) == ("", 1, 2)
    assert carnet("transfer", "wait", transfer, "--json") == status
    assert json.loads(carnet.out)["transfer"]["transfer"] == transfer
    assert carnet.err.count(f"[{code}]") == 1


def test_what_was_recalled_is_a_failure_for_whoever_waits(carnet: Carnet, patch: Path) -> None:
    transfer = carnet.json("push", f"file:{patch}", "waited-for:v1")["transfer"]["transfer"]
    assert carnet("recall", transfer, "--reason", "no longer wanted", "--wait") == 0
    assert carnet.err == ""

    assert carnet("transfer", "wait", transfer) == 4
    assert carnet.err.splitlines()[0].endswith("[E-RECALLED]")
    assert carnet.err.count("\n") == 2


def test_no_settings_means_not_enrolled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CARNET_CONFIG", raising=False)

    assert run(build_app(), "carnet", ["artifact", "list"]) == 2
    assert "[E-NOT-ENROLLED]" in capsys.readouterr().err


def test_a_gateway_that_is_not_there_is_a_temporary_failure(
    announced: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.session import open_session
    from agent.settings import load_settings
    from carnet.errors import Unavailable
    from carnet.flow.link import Timeouts

    settings = load_settings(Path(announced["config"])).model_copy(update={"url": "https://localhost:1"})

    async def attempt() -> None:
        async with open_session(settings, timeouts=Timeouts(retry_s=0)) as _session:
            raise AssertionError("nobody listens there")

    with pytest.raises(Unavailable) as caught:
        asyncio.run(attempt())
    assert (caught.value.code, caught.value.exit_status) == ("E-UNREACHABLE", 5)


@pytest.fixture
def gone(announced: dict[str, str], tmp_path: Path, unused_tcp_port: int) -> Path:
    """Settings of an agent whose gateway does not run."""
    config = Path(announced["config"])
    text = config.read_text().replace(announced["url"], f"https://localhost:{unused_tcp_port}")
    path = tmp_path / "gone.toml"
    path.write_text(text.replace('"identity"', json.dumps(str(config.parent / "identity"))))
    return path


QUESTIONS = [("artifact", "list"), ("transfer", "list"), ("artifact", "show", "app:v1"), ("transfer", "show", "0" * 32)]


@pytest.mark.parametrize("question", [*QUESTIONS, ("inspect", "PATCH", "app:v1"), ("push", "PATCH", "app:v1", "--dry-run")])
def test_a_question_to_a_gateway_that_is_not_there_says_that_it_waits_and_gives_up(
    gone: Path, patch: Path, capsys: pytest.CaptureFixture[str], question: tuple[str, ...]
) -> None:
    given = [one.replace("PATCH", f"file:{patch}") for one in question]

    assert run(build_app(), "carnet", ["--config", str(gone), *given, "--timeout", "2s"]) == 5

    waiting, line, hint = capsys.readouterr().err.splitlines()
    assert waiting.startswith("waiting for localhost:")
    assert "connection refused; trying again until" in waiting
    assert line.endswith("connection refused [E-UNREACHABLE]")
    assert hint.startswith("hint: ")


def test_the_doctor_ends_with_the_status_of_what_it_found(gone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(build_app(), "carnet", ["--config", str(gone), "doctor", "--timeout", "1s", "--json"]) == 5

    out, err = capsys.readouterr()
    assert {one["what"]: one["code"] for one in json.loads(out)["findings"]}["connection"] == "E-UNREACHABLE"
    assert err.splitlines()[0].endswith("connection refused [E-UNREACHABLE]")


def test_a_push_to_a_gateway_that_is_not_there_yet_says_that_it_waits_and_goes_through(
    announced: dict[str, str], gone: Path, patch: Path, unused_tcp_port: int
) -> None:
    command = [BIN / "carnet", "--config", gone, "push", f"file:{patch}", "late:v1", "--progress", "json"]

    async def push_and_start() -> tuple[list[dict[str, object]], int | None]:
        process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stderr is not None
        events = [json.loads(await process.stderr.readline())]
        while events[-1]["type"] != "waiting":
            events.append(json.loads(await process.stderr.readline()))

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, onward = await asyncio.open_connection("localhost", int(announced["url"].rpartition(":")[2]))
            await asyncio.gather(pump(reader, onward), pump(there, writer))

        async with await asyncio.start_server(pass_on, "localhost", unused_tcp_port):
            rest = (await process.communicate())[1]
        return events + [json.loads(line) for line in rest.splitlines()], process.returncode

    events, status = asyncio.run(push_and_start())

    assert status == 0
    assert [one["type"] for one in events if one["type"] != "progress"] == ["waiting", "answering"]
    waiting = next(one for one in events if one["type"] == "waiting")
    assert (waiting["gateway"], waiting["problem"]) == (f"localhost:{unused_tcp_port}", "connection refused")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


def test_standard_input_and_output_are_a_source_and_a_sink(announced: dict[str, str], patch: Path) -> None:
    command = [BIN / "carnet", "--config", announced["config"]]

    pushed = subprocess.run(
        [*command, "push", "-", "stream:v1", "-q"], input=patch.read_bytes(), capture_output=True, check=False
    )
    pulled = subprocess.run([*command, "pull", "stream:v1", "-"], capture_output=True, check=False)

    assert (pushed.returncode, pushed.stdout, pushed.stderr) == (0, b"", b"")
    assert pulled.stdout == patch.read_bytes()


def test_transfers_and_artifacts_are_listed_shown_and_deleted(carnet: Carnet, patch: Path) -> None:
    pushed = carnet.json("push", f"file:{patch}", "listed:v1")
    transfer = pushed["transfer"]["transfer"]

    assert transfer in [one["transfer"] for one in carnet.json("transfer", "list")["transfers"]]
    assert carnet.json("transfer", "show", transfer)["transfer"]["state"] == "admitted"
    assert carnet.json("transfer", "wait", transfer)["transfer"]["deliveries"][0]["state"] == "delivered"
    assert carnet.json("artifact", "show", "listed:v1")["artifact"]["digest"] == pushed["transfer"]["digest"]
    assert [one["tag"] for one in carnet.json("artifact", "list", "--repository", "listed")["artifacts"]] == ["v1"]
    assert carnet("artifact", "delete", "listed:v1") == 0
    assert carnet.json("artifact", "list", "--repository", "listed")["artifacts"] == []


def test_a_receipt_saved_from_a_transfer_verifies_offline_and_a_changed_one_does_not(
    carnet: Carnet, patch: Path, tmp_path: Path
) -> None:
    transfer = carnet.json("push", f"file:{patch}", "receipts:v1")["transfer"]
    receipt = transfer["deliveries"][0]["delivered_receipt"]
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    (tmp_path / "forged.json").write_text(json.dumps({**receipt, "payload": receipt["payload"][:-4] + "AAAA"}))

    assert carnet("verify", tmp_path / "receipt.json") == 0
    assert "VERIFIED  receipt of dev, signed by site dev" in carnet.out
    assert carnet("verify", tmp_path / "forged.json") in {1, 6}


def test_a_recall_withdraws_says_so_and_leaves_documents_that_verify_offline(carnet: Carnet, patch: Path, tmp_path: Path) -> None:
    transfer = carnet.json("push", f"file:{patch}", "gone:v1")["transfer"]["transfer"]

    [view] = carnet.json("recall", "gone:v1", "--reason", "wrong branch", "--wait", "--timeout", "60s")["transfers"]

    assert (view["transfer"], view["state"]) == (transfer, "recalled")
    for name, what in (("statement", "recall of dev"), ("receipt", "receipt of dev")):
        (tmp_path / name).write_text(json.dumps(view["recall"][name]))
        assert carnet("verify", tmp_path / name) == 0
        assert f"VERIFIED  {what}, signed by site dev" in carnet.out
    assert carnet("pull", "gone:v1", f"file:{tmp_path / 'out'}") == 4
    assert "wrong branch [E-RECALLED]" in carnet.err
    assert carnet("transfer", "show", transfer) == 0
    assert "acknowledged at" in carnet.out
    assert "why: dev recalled it: wrong branch" in carnet.out


def test_a_recall_repeated_changes_nothing_and_one_of_several_asks_which(carnet: Carnet, patch: Path) -> None:
    pushed = [carnet.json("push", f"file:{patch}", f"twice:{tag}")["transfer"] for tag in ("v1", "v2")]
    digest = pushed[0]["digest"]

    assert carnet("recall", digest, "--reason", "because") == 2
    assert "--all" in carnet.err
    assert all(one["transfer"] in carnet.err for one in pushed)
    first = carnet.json("recall", digest, "--reason", "because", "--all", "--wait")["transfers"]
    again = carnet.json("recall", pushed[0]["transfer"], "--reason", "another", "--wait")["transfers"]

    assert len(first) == 2
    assert again[0]["recall"]["reason"] == "because"


def test_the_log_verifies_online_and_only_grows(carnet: Carnet, patch: Path) -> None:
    first = carnet.json("log", "verify")
    carnet.json("push", f"file:{patch}", "grown:v1")
    second = carnet.json("log", "verify")

    assert second["size"] > first["size"]
    assert second["compared_with_size"] == first["size"]
    # The gateway works on after the push, so that the log may be longer by now.
    assert carnet.json("log", "show", "--limit", "3")["entries"][-1]["index"] >= second["size"] - 1


def test_a_new_key_is_private_and_never_overwritten(carnet: Carnet, tmp_path: Path) -> None:
    assert carnet("key", "new", tmp_path / "me.key") == 0
    assert (tmp_path / "me.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "me.key.pub").read_text().startswith("carnet-signing-public-1:")
    assert carnet("key", "new", tmp_path / "me.key") == 2
    assert "[E-SINK]" in carnet.err


def test_doctor_finds_nothing_wrong_with_a_site_that_is_well(carnet: Carnet) -> None:
    assert carnet("doctor") == 0
    assert "FAIL" not in carnet.out


def test_doctor_and_push_show_the_mode_of_a_lane(carnet: Carnet, patch: Path) -> None:
    assert carnet("doctor") == 0
    assert "home to dev (inspected)" in carnet.out
    assert carnet.json("push", f"file:{patch}", "app:mode")["lane_mode"] == "inspected"
    assert carnet("push", f"file:{patch}", "app:mode") == 0
    assert "on lane home (inspected)" in carnet.out


def test_a_push_that_insists_on_a_sealed_lane_is_refused_with_one_line_on_any_other(
    carnet: Carnet, patch: Path, announced: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert carnet("push", "--sealed", f"file:{patch}", "app:sealed") == 2
    assert "[E-NOT-PINNED]" in carnet.err
    identity = json.loads((Path(announced["config"]).parent / "identity" / "identity.json").read_text())
    monkeypatch.setenv("CARNET_ROOT_FINGERPRINT", identity["roots"])
    assert carnet("push", "--sealed", f"file:{patch}", "app:sealed") == 2
    assert "lane home is inspected" in carnet.err
    assert "[E-LANE-MODE]" in carnet.err
    assert carnet("artifact", "show", "app:sealed") == 8


def test_inspect_says_what_a_source_is_and_what_would_be_decided(carnet: Carnet, patch: Path) -> None:
    document = carnet.json("inspect", f"file:{patch}", "app:v9", "--kind", "patch")

    assert document["source"]["kind"] == "patch"
    assert document["advice"]["outcome"] == "allow"


def test_a_sink_that_is_taken_is_refused_before_anything_is_fetched(carnet: Carnet, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    assert carnet("pull", "there:v1", f"file:{tmp_path / 'taken'}") == 2
    assert "[E-SINK]" in carnet.err
