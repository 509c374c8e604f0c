"""`carnet-gateway policy` as the author of a policy uses it, without a site: from a pack to a policy of one's own, tested."""

import errno
import json
from pathlib import Path

import pytest

from carnet.errors import CallerError
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
    assert "~ rule euus-040: unless" in out
    assert "case 'an old scan puts it aside' at receipt: deny by no-permit, then allow by euus-900" in out


@pytest.mark.parametrize("command", ["test", "explain"])
def test_what_is_neither_a_pack_nor_a_file_is_one_clear_line(policy, command):
    status, out, err = policy(command, "no-such-pack")

    assert (status != 0, out) == (True, "")
    assert "no-such-pack is neither a pack nor a file" in err
    assert "Traceback" not in err


def test_what_checks_clean_a_site_reads_and_what_a_site_refuses_does_not_check(policy, own, tmp_path):
    """A file with one byte that is not text, of which the rest is in order."""
    own.write_bytes(own.read_bytes().replace(b"a party may be", b"a p\xe1rty may be"))

    assert "border.yaml: line 30: not UTF-8 text" in policy("check", "border.yaml")[2]
    assert "border.yaml: line 30: not UTF-8 text" in policy("check", tmp_path)[2]
    with pytest.raises(CallerError, match="line 30: not UTF-8 text"):
        PolicyBook(tmp_path)


@pytest.mark.parametrize("name", ["more.yml", "more.YAML", "sub/more.yaml", "groups/more.yml"])
def test_a_file_that_looks_like_policy_and_would_not_be_read_is_refused_and_not_ignored(policy, own, tmp_path, name):
    book = PolicyBook(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(own.read_text().replace("id: eu-us-ordinary", "id: more"))

    status, out, err = policy("check", tmp_path)

    assert (status, "E-POLICY" in err) == (2, True)
    assert f"{name}: line 1: error: it looks like a policy file" in out
    with pytest.raises(CallerError, match=f"{name} looks like a policy file"):
        PolicyBook(tmp_path)
    with pytest.raises(CallerError, match=f"{name} looks like a policy file"):
        book.reload()


def test_all_files_of_a_site_are_checked_together_and_the_digest_is_told(policy, own, tmp_path):
    (tmp_path / "closed.yaml").write_text(
        "apiVersion: carnet/policy/v1\nmetadata: {id: closed, version: 1, owner: me}\nrules:\n"
        "  - {id: shut, at: [receipt], when: {purpose: x}, effect: deny, reason: no, remedy: none}\n"
    )

    status, out, _ = policy("check", tmp_path)

    assert status == 0
    assert "warning" not in out
    assert out.splitlines()[-1] == f"policy {PolicyBook(tmp_path).digest}: files 2, rules 11, signatures 0"
    assert "no rule of this file allows at receipt" in policy("check", "closed.yaml")[1]


@pytest.mark.parametrize(("change", "what"), [("id: other", "policy id eu-us-ordinary"), ("id: euus-001", "rule id euus-001")])
def test_an_id_that_stands_in_two_files_is_told_with_both(policy, own, tmp_path, change, what):
    text = own.read_text()
    if what.startswith("rule"):
        text = text.replace("id: eu-us-ordinary", "id: other")
    (tmp_path / "second.yaml").write_text(text)

    assert f"the {what} stands in border.yaml and in second.yaml" in policy("check", tmp_path)[2]


def test_a_role_that_is_nearly_a_usual_one_is_doubted(policy, own):
    own.write_text(own.read_text().replace("{role: legal}", "{role: leagl}", 1))

    status, out, _ = policy("check", "border.yaml")

    assert status == 0
    assert "the role leagl is not a usual one; is legal meant?" in out


def test_a_short_change_is_shown_with_both_values(policy, own):
    policy_text = own.read_text()
    (own.parent / "before.yaml").write_text(policy_text)
    own.write_text(policy_text.replace("hold_hours: 72", "hold_hours: 48", 1))

    assert policy("diff", "before.yaml", "border.yaml")[1].splitlines() == ["~ rule euus-010: hold_hours from 72 to 48"]


def test_a_missing_file_of_cases_is_named_and_a_mistake_in_one_is_said_to_be_there(policy, own):
    cases = own.with_name("border.cases.yaml")
    text = cases.read_text()
    cases.write_text(text.replace("lane: my-lane", "lnae: my-lane", 1))
    assert "border.cases.yaml: case " in policy("test", "border.yaml")[2]
    cases.unlink()
    assert policy("test", "border.yaml")[1].splitlines()[0].startswith("there is no border.cases.yaml")
    assert "border.yaml has no cases: no border.cases.yaml" in policy("explain", "border.yaml")[2]


def test_a_pack_that_does_not_exist_is_told_with_those_that_do(policy):
    status, _, err = policy("packs", "nosuch")

    assert (status, "no pack is called 'nosuch'" in err, "the packs are emergency-patch" in err) == (2, True, True)


def test_a_directory_that_cannot_be_read_is_one_clear_line(policy, own, tmp_path, monkeypatch):
    """The tests run as root, whom no mode keeps out: the disk fails instead."""
    (tmp_path / "broken").mkdir()
    listed = Path.iterdir

    def fails(self):
        if self.name == "broken":
            raise OSError(errno.EIO, "Input/output error")
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", fails)
    status, _, err = policy("check", tmp_path)

    assert (status, "broken cannot be read: input/output error [E-POLICY]" in err) == (2, True)
