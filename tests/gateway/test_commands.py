"""`carnet-gateway` as an operator uses it: results on standard output, one line for a failure, a true exit status."""

import json
import os
import stat

import pytest

from carnet.errors import CallerError
from carnet.flow.commandline import run
from gateway.cli import build_app
from gateway.proposals import parse_lane


@pytest.fixture
def gateway(tmp_path, monkeypatch, capsys):
    """Run a command in an empty directory; returns status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = run(build_app(), "carnet-gateway", [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


INIT = (
    "--site", "us", "--jurisdiction", "US", "--operator", "Example Corp", "--trust-domain", "example.com",
    "--url", "https://localhost:8443",
)  # fmt: skip


def init(gateway, site, jurisdiction="US", port=8443):
    return gateway(
        "init", site, "--site", site, "--jurisdiction", jurisdiction, "--operator", "Example Corp",
        "--trust-domain", "example.com", "--url", f"https://localhost:{port}",
    )  # fmt: skip


def import_bundle(gateway, *sites, lane=()):
    assert gateway("trust", "new-root", "root.key")[0] == 0
    cards = [piece for site in sites for piece in ("--site", f"{site}/site-card.json")]
    assert gateway("trust", "propose", "bundle.json", "--root", "root.key.pub", *cards, *lane)[0] == 0
    assert gateway("trust", "sign", "bundle.json", "--key", "root.key")[0] == 0
    for site in sites:
        assert gateway("trust", "import", site, "bundle.json")[0] == 0


def assert_failed(outcome, status, code):
    """One line that says what, one that says what to do, nothing else, nothing on standard output."""
    found, out, err = outcome
    lines = err.splitlines()
    assert found == status, err
    assert out == ""
    assert len(lines) == 2, err
    assert lines[0].startswith("carnet-gateway: ")
    assert lines[0].endswith(f"[{code}]")
    assert lines[1].startswith("hint: ")


def test_a_site_for_trying_out_takes_no_directory_that_holds_something_else(gateway, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear reader")

    for command in (("dev", "mine"), ("init", "mine", *INIT)):
        assert_failed(gateway(*command), 2, "E-CONFIG")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


SLIPS = [
    (("init", "new", *INIT, "--dns", "not a name"), 2, "E-USAGE", "not a host name"),
    (("trust", "sign", "nofile", "--key", "root.key"), 2, "E-CONFIG", "nofile cannot be read"),
    (("trust", "sign", "bundle.json", "--key", "nofile"), 2, "E-CONFIG", "trust new-root"),
    (("trust", "import", "us", "letter.txt"), 2, "E-CONFIG", "letter.txt is not a trust bundle"),
    (("trust", "import", "us", "bundle.json"), 6, "E-SIGNATURE", "trust sign bundle.json"),
    (("trust", "new-root", "nowhere/root.key"), 2, "E-USAGE", "nowhere/root.key: no such file"),
    (("trust", "propose", "b.json", "--from", "bundle.json", "--without", "ghost"), 2, "E-USAGE", "'ghost'"),
    (("trust", "propose", "b.json", "--from", "bundle.json", "--person", "ann=ann.key.pub:securty"), 2, "E-USAGE", "--new-role"),
    (("trust", "propose", "b.json", "--from", "bundle.json", "--person", "ann=root.key.pub:legal"), 2, "E-USAGE", "ann too"),
    (("trust", "propose", "b.json", "--root", "x" * 50_000), 2, "E-CONFIG", "file name too long"),
    (("trust", "propose", "b.json", "--from", "bundle.json", "--lane", "out=us:us:inspected:sg@ox"), 2, "E-USAGE", "'ox'"),
    (("key", "rotate", "us", "nope"), 2, "E-USAGE", "': 'nope' is not one of"),
]


def test_slips_of_an_operator_are_told_with_what_to_do(gateway, tmp_path):
    init(gateway, "us")
    (tmp_path / "letter.txt").write_text("dear reader")
    for key in ("root.key", "ann.key"):
        gateway("trust", "new-root", key)
    gateway("trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json")

    for arguments, status, code, said in SLIPS:
        outcome = gateway(*arguments)
        assert_failed(outcome, status, code)
        assert said in outcome[2]
        assert len(outcome[2]) < 3_000


def test_a_floor_that_nobody_can_meet_is_said_when_it_is_proposed(gateway):
    init(gateway, "us")
    init(gateway, "eu", "DE", 8444)
    gateway("trust", "new-root", "root.key")

    status, _, err = gateway(
        "trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json", "--site", "eu/site-card.json",
        "--lane", "out=us:eu", "--floor", "out=legal:1",
    )  # fmt: skip

    assert (status, err) == (
        0,
        "lane out asks for 1 of legal, a role that 0 of the bundle hold: its keys wait until a bundle names more\n",
    )


def test_no_variable_of_the_environment_asks_for_the_version(gateway, monkeypatch):
    monkeypatch.setenv("CARNET_GATEWAY_VERSION", "1")

    assert_failed(gateway("agent", "list", "nowhere"), 2, "E-CONFIG")


def test_a_variable_of_the_environment_is_blamed_for_itself(gateway, monkeypatch):
    monkeypatch.setenv("CARNET_GATEWAY_INVITE_MINUTES", "x")

    outcome = gateway("invite", "us", "ci")

    assert_failed(outcome, 2, "E-USAGE")
    assert "environment variable CARNET_GATEWAY_INVITE_MINUTES:" in outcome[2]


def test_two_sites_come_to_trust_each_other(gateway):
    init(gateway, "us")
    init(gateway, "eu", "DE", 8444)
    import_bundle(gateway, "us", "eu", lane=("--lane", "out=us:eu"))

    status, out, _ = gateway("trust", "show", "us")

    assert status == 0
    assert "lane    out  us -> eu  inspected" in out
    assert gateway("lane", "list", "eu")[1] == "lane    out  us -> eu  inspected\n"


def test_an_unsigned_bundle_is_not_imported(gateway):
    init(gateway, "us")
    gateway("trust", "new-root", "root.key")
    gateway("trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json")

    assert_failed(gateway("trust", "import", "us", "bundle.json"), 6, "E-SIGNATURE")


def test_the_first_import_tells_which_roots_it_pinned(gateway):
    init(gateway, "us")
    gateway("trust", "new-root", "root.key")
    gateway("trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json")
    gateway("trust", "sign", "bundle.json", "--key", "root.key")

    assert "pinned roots sha256:" in gateway("trust", "import", "us", "bundle.json")[2]
    assert gateway("trust", "import", "us", "bundle.json")[2] == ""


def test_a_wrong_root_fingerprint_stops_the_import(gateway):
    init(gateway, "us")
    gateway("trust", "new-root", "root.key")
    gateway("trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json")
    gateway("trust", "sign", "bundle.json", "--key", "root.key")

    outcome = gateway("trust", "import", "us", "bundle.json", "--root-fingerprint", "sha256:" + "0" * 64)

    assert_failed(outcome, 6, "E-TRUST")


def test_an_invite_is_one_line_alone_on_standard_output(gateway):
    init(gateway, "us")
    import_bundle(gateway, "us")

    status, out, err = gateway("invite", "us", "ci", "--grant", "push:app/*@*")

    assert status == 0
    assert out.startswith("carnet1.")
    assert out.count("\n") == 1
    assert "carnet1." not in err


def test_a_site_without_a_bundle_says_what_to_do(gateway):
    init(gateway, "us")

    assert_failed(gateway("invite", "us", "ci"), 6, "E-TRUST")
    assert gateway("agent", "list", "us")[1] == "nobody is enrolled\n"


def test_sites_and_lanes_gather_in_one_pending_proposal_that_is_signed_and_imported(gateway):
    init(gateway, "us")
    import_bundle(gateway, "us")
    init(gateway, "eu", "DE", 8444)

    gateway("site", "add", "us", "eu/site-card.json")
    gateway("lane", "add", "us", "out=us:eu")

    assert "(proposed, not signed)" in gateway("lane", "list", "us")[1]
    assert gateway("trust", "sign", "us/trust/proposal.json", "--key", "root.key")[0] == 0
    assert gateway("trust", "import", "us", "us/trust/proposal.json")[0] == 0
    assert gateway("lane", "list", "us")[1] == "lane    out  us -> eu  inspected\n"
    assert not os.path.exists("us/trust/proposal.json")


def test_a_root_key_is_for_its_owner_and_is_never_overwritten(gateway, tmp_path):
    gateway("trust", "new-root", "root.key")

    assert stat.S_IMODE((tmp_path / "root.key").stat().st_mode) == 0o600
    assert_failed(gateway("trust", "new-root", "root.key"), 2, "E-USAGE")


def test_a_root_key_that_others_can_read_does_not_sign(gateway, tmp_path):
    init(gateway, "us")
    import_bundle(gateway, "us")
    (tmp_path / "root.key").chmod(0o644)

    assert_failed(gateway("trust", "sign", "bundle.json", "--key", "root.key"), 2, "E-CONFIG")


def test_checks_of_a_new_site_find_nothing(gateway):
    init(gateway, "us")

    for arguments in (
        ("db", "check", "us"),
        ("store", "check", "us"),
        ("store", "check", "us", "--read-data"),
        ("db", "upgrade", "us"),
    ):
        assert gateway(*arguments)[0] == 0, arguments
    assert gateway("policy", "check", "us/policy/policy.yaml")[1] == "us/policy/policy.yaml: in order\n"


def test_a_site_listens_on_the_port_of_its_url(gateway, tmp_path):
    assert init(gateway, "us", port=9443)[0] == 0

    assert 'listen = ["0.0.0.0:9443"]' in (tmp_path / "us" / "gateway.toml").read_text()


def test_a_proposal_never_replaces_a_file_that_may_hold_signatures(gateway, tmp_path):
    init(gateway, "us")
    import_bundle(gateway, "us")
    signed = (tmp_path / "bundle.json").read_bytes()

    assert_failed(
        gateway("trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json"), 2, "E-USAGE"
    )
    assert (tmp_path / "bundle.json").read_bytes() == signed


def test_a_check_that_fails_prints_one_document(gateway, tmp_path):
    (tmp_path / "bad.yaml").write_text("rules: []\n")

    status, out, err = gateway("policy", "check", "bad.yaml", "--json")

    assert status == 2
    assert json.loads(out)["findings"]
    assert "[E-POLICY]" in err


def test_a_lost_catalog_is_not_replaced_by_an_empty_one(gateway, tmp_path):
    init(gateway, "us")
    (tmp_path / "us" / "catalog.sqlite").unlink()

    assert_failed(gateway("db", "upgrade", "us"), 2, "E-DATABASE")
    assert not (tmp_path / "us" / "catalog.sqlite").exists()


def test_a_place_that_is_no_directory_is_the_callers_mistake(gateway, tmp_path):
    (tmp_path / "letter").write_text("dear")

    assert_failed(gateway("trust", "new-root", "missing/root.key"), 2, "E-USAGE")
    assert_failed(init(gateway, "letter/us"), 2, "E-USAGE")


def test_a_policy_with_a_mistake_fails_its_check_and_names_the_line(gateway, tmp_path):
    (tmp_path / "bad.yaml").write_text("apiVersion: carnet/policy/v1\nrules: []\n")

    status, out, err = gateway("policy", "check", "bad.yaml")

    assert status == 2
    assert "line 1" in out
    assert "[E-POLICY]" in err


def test_a_log_that_was_never_published_does_not_verify(gateway):
    init(gateway, "us")

    assert_failed(gateway("log", "verify", "us"), 6, "E-LOG")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("frobnicate",), 2, "E-USAGE"),
        (("invite", "us"), 2, "E-USAGE"),
        (("db", "check", "nowhere"), 2, "E-CONFIG"),
        (("trust", "show", "nofile"), 2, "E-CONFIG"),
        (("trust", "propose", "out.json"), 2, "E-USAGE"),
        (("trust", "propose", "out.json", "--lane", "nonsense"), 2, "E-USAGE"),
        (("dev", "site", "--port", "99999"), 2, "E-USAGE"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(gateway, arguments, status, code):
    assert_failed(gateway(*arguments), status, code)


def test_a_wrong_value_for_a_new_site_is_named_and_nothing_is_made(gateway, tmp_path):
    outcome = gateway(
        "init", "us", "--site", "US!", "--jurisdiction", "US", "--operator", "x", "--trust-domain", "e", "--url", "https://h:1"
    )

    assert_failed(outcome, 2, "E-USAGE")
    assert not (tmp_path / "us").exists()


def test_with_json_the_result_and_the_failure_are_documents(gateway):
    assert init(gateway, "us")[0] == 0

    status, out, _ = gateway("trust", "show", "us", "--json")
    assert (status, json.loads(out)["error"]) == (6, "E-TRUST")
    import_bundle(gateway, "us")
    assert json.loads(gateway("trust", "show", "us", "--json")[1])["bundle"]["version"] == 1
    assert json.loads(gateway("lane", "list", "us", "--json")[1]) == {"lanes": [], "proposed": []}


def test_quiet_leaves_results_only(gateway):
    init(gateway, "us")
    import_bundle(gateway, "us")

    assert gateway("db", "check", "us", "-q")[1:] == ("", "")
    status, out, err = gateway("invite", "us", "ci", "-q")
    assert (status, out.count("\n"), err) == (0, 1, "")


def test_each_flag_has_an_environment_variable(gateway, monkeypatch):
    init(gateway, "us")
    import_bundle(gateway, "us")
    monkeypatch.setenv("CARNET_GATEWAY_INVITE_URL", "https://elsewhere:1")
    monkeypatch.setenv("CARNET_GATEWAY_TRUST_SHOW_JSON", "1")

    from carnet.invite import Invite

    assert Invite.parse(gateway("invite", "us", "ci")[1]).url == "https://elsewhere:1"
    assert json.loads(gateway("trust", "show", "us")[1])["bundle"]["version"] == 1


def _commands(app, prefix=()):
    for command in app.registered_commands:
        yield (*prefix, command.name)
    for group in app.registered_groups:
        yield from _commands(group.typer_instance, (*prefix, group.name))


@pytest.mark.parametrize("command", sorted(_commands(build_app())), ids=" ".join)
def test_every_command_explains_itself(gateway, command):
    status, out, _ = gateway(*command, "--help")

    assert status == 0
    assert out.startswith("Usage: carnet-gateway " + " ".join(command))
    assert len(out.splitlines()) > 5


def test_a_lane_that_names_a_destination_twice_is_refused_in_words():
    with pytest.raises(CallerError, match="appears twice"):
        parse_lane("us-eu=us:eu,eu")


def test_an_agent_a_site_and_a_lane_are_shown(gateway):
    init(gateway, "us")
    init(gateway, "eu", "DE", 8444)
    import_bundle(gateway, "us", "eu", lane=("--lane", "out=us:eu"))
    gateway("invite", "us", "ci", "--grant", "push:team/*@out")

    agent = json.loads(gateway("agent", "show", "us", "ci", "--json")[1])
    site = json.loads(gateway("site", "show", "us", "eu", "--json")[1])
    lane = json.loads(gateway("lane", "show", "us", "out", "--json")[1])
    assert (agent["identity"], len(agent["open_invites"])) == ("spiffe://example.com/site/us/agent/ci", 1)
    assert (agent["unfinished"], agent["unfinished_bytes"], agent["revoked"]) == ([], 0, None)
    assert (site["jurisdiction"], site["lanes"], site["log_entries_seen"]) == ("DE", ["out"], None)
    assert (lane["mode"], lane["suites"], lane["ready"]) == ("inspected", [1], {"eu": False})
    assert [one["site"] for one in json.loads(gateway("site", "list", "us", "--json")[1])["sites"]] == ["us", "eu"]
    for arguments in (
        ("agent", "show", "us", "ci"),
        ("site", "show", "us", "eu"),
        ("lane", "show", "us", "out"),
        ("site", "list", "us"),
    ):
        status, out, _ = gateway(*arguments)
        assert (status, "None" in out) == (0, False), out


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("agent", "show", "us", "nobody"), 2, "E-USAGE"),
        (("agent", "show", "us", "No Name"), 2, "E-NAME"),
        (("site", "show", "us", "eu"), 8, "E-SITE-UNKNOWN"),
        (("lane", "show", "us", "out"), 8, "E-LANE-UNKNOWN"),
        (("invite", "us", "ci", "--url", "http://x"), 2, "E-USAGE"),
        (("invite", "us", "ci", "--url", "https://x:1/path"), 2, "E-USAGE"),
        (("store", "check", "us", "--subset", "3/2"), 2, "E-USAGE"),
        (("store", "check", "us", "--subset", "0/2"), 2, "E-USAGE"),
        (("store", "check", "us", "--subset", "x"), 2, "E-USAGE"),
    ],
)
def test_what_is_not_there_is_one_line_and_a_hint(gateway, arguments, status, code):
    init(gateway, "us")
    import_bundle(gateway, "us")

    assert_failed(gateway(*arguments), status, code)


def test_a_wrong_value_in_the_environment_is_not_blamed_on_the_file(gateway, monkeypatch):
    init(gateway, "us")
    for name, value in (
        ("LOG_LEVEL", "x"),
        ("LIMITS__CONNECTIONS_MAX", "0"),
        ("LISTEN", "nonsense"),
        ("LIMITS", "{"),
        ("SITE", ""),
    ):
        monkeypatch.setenv(f"CARNET_GATEWAY_{name}", value)
        outcome = gateway("db", "check", "us")
        monkeypatch.delenv(f"CARNET_GATEWAY_{name}")

        assert_failed(outcome, 2, "E-CONFIG")
        assert f"environment variable CARNET_GATEWAY_{name}" in outcome[2], outcome[2]
        assert "gateway.toml" not in outcome[2]


def test_a_catalog_that_is_no_database_names_the_backup(gateway, tmp_path):
    init(gateway, "us")
    (tmp_path / "us" / "catalog.sqlite").write_bytes(b"this is no database" * 100)
    (tmp_path / "us" / "catalog.sqlite-wal").unlink(missing_ok=True)
    outcome = gateway("db", "check", "us")

    assert_failed(outcome, 1, "E-DATABASE")
    assert "backup" in outcome[2].splitlines()[1]
