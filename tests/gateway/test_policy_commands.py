"""`carnet-gateway policy` as the author of a policy uses it, without a site: from a pack to a policy of one's own, tested."""

import json

import pytest

from carnet.flow.commandline import run
from gateway.cli import build_app
from gateway.packs import pack_names
from gateway.policies import PolicyBook


@pytest.fixture
def policy(tmp_path, monkeypatch, capsys):
    """Run a `policy` command in an empty directory; returns status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = run(build_app(), "carnet-gateway", ["policy", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def own(policy, tmp_path):
    """A copy of a pack for a lane of one's own, as docs/policy.md says."""
    for suffix, option in ((".yaml", ()), (".cases.yaml", ("--cases",))):
        text = policy("packs", "eu-us-ordinary", *option)[1]
        (tmp_path / f"border{suffix}").write_text(text.replace("eu-us,", "my-lane,").replace("lane: eu-us", "lane: my-lane"))
    return tmp_path / "border.yaml"


@pytest.mark.parametrize("name", pack_names())
def test_a_pack_is_tested_by_its_name_and_the_last_line_says_how_it_went(policy, name):
    status, out, err = policy("test", name)

    last = out.splitlines()[-1]
    rules, cases, passed = (int(word) for word in last.replace(",", "").split() if word.isdigit())
    assert (status, err) == (0, "")
    assert last == f"policy test {name}: {rules} rules, {cases} cases, {passed} passed"
    assert cases == passed >= 2 * rules


def test_the_packs_are_listed_with_what_they_are_for(policy):
    assert [line.split()[0] for line in policy("packs")[1].splitlines()] == list(pack_names())
    assert {one["name"] for one in json.loads(policy("packs", "--json")[1])["packs"]} == set(pack_names())


def test_a_copy_of_a_pack_checks_and_tests_and_a_site_reads_it_without_its_cases(policy, own):
    status, out, _ = policy("check", "border.yaml")

    assert status == 0
    assert "border.yaml: in order" in out
    assert policy("test", "border.yaml")[:2] == (0, "policy test border.yaml: 10 rules, 27 cases, 27 passed\n")
    assert PolicyBook(own.parent).digest


def test_a_case_that_fails_is_named_and_the_status_says_so(policy, own):
    own.write_text(own.read_text().replace("licence.assessment_days: {max: 365}", "licence.assessment_days: {max: 500}"))

    status, out, err = policy("test", "border.yaml")

    assert status != 0
    assert "case 'standard clauses with an assessment of 400 days are refused': allow by euus-900, not deny" in out
    assert out.splitlines()[-1] == "policy test border.yaml: 10 rules, 27 cases, 26 passed"
    assert "E-POLICY" in err
    assert "Traceback" not in err


def test_a_policy_without_cases_fails_its_test(policy, own):
    own.with_name("border.cases.yaml").unlink()

    status, out, _ = policy("test", "border.yaml")

    assert status != 0
    assert "rule euus-001: 0 cases ask it, 2 are the least" in out
    assert out.splitlines()[-1] == "policy test border.yaml: 10 rules, 0 cases, 0 passed"


def test_a_rule_that_is_taken_out_is_missed(policy, own):
    kept = [block for block in own.read_text().split("  - id: ") if not block.startswith("euus-031")]
    own.write_text("  - id: ".join(kept))

    out = policy("test", "border.yaml", "--json")[1]

    assert json.loads(out)["problems"] == ["case 'health data is refused': allow by euus-900, not deny"]


def test_a_case_is_explained_with_every_rule_and_what_it_read(policy):
    status, out, _ = policy("explain", "eu-us-ordinary", "a possible hit waits for two roles")

    assert status == 0
    assert out.splitlines()[1].startswith("hold at offer by policy sha256:")
    assert "  euus-010 (hold): a party may be on a list of sanctions" in out
    assert "    read screening.band is 'possible', declared by the case (so it is one of 'hit', 'possible')" in out
    assert "  approvals: 1 of role legal" in out


def test_a_case_that_there_is_not_is_refused(policy):
    status, _, err = policy("explain", "eu-us-ordinary", "nothing like it")

    assert status != 0
    assert "eu-us-ordinary has no case 'nothing like it'" in err


def test_two_policies_are_compared_by_rules_and_by_cases(policy, own):
    own.write_text(own.read_text().replace("scan.hours: {max: 24}", "scan.hours: {max: 48}"))

    same = policy("diff", "border.yaml", "border.yaml")
    out = policy("diff", "eu-us-ordinary", "border.yaml")[1]

    assert same[:2] == (0, "both say the same\n")
    assert "~ rule euus-040: unless, when changed" in out
    assert "case 'an old scan puts it aside' at receipt: deny by no-permit, then allow by euus-900" in out


@pytest.mark.parametrize("command", ["test", "explain"])
def test_what_is_neither_a_pack_nor_a_file_is_one_clear_line(policy, command):
    status, out, err = policy(command, "no-such-pack")

    assert (status != 0, out) == (True, "")
    assert "no-such-pack is neither a pack nor a file" in err
    assert "Traceback" not in err
