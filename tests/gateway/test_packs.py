"""The packs that come with this version: each is sound, tested by its cases, dated, and cites what it rests on."""

from datetime import date

import pytest

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError
from carnet.policy import check_policy
from carnet.policy.cases import run_cases
from gateway.geography import load_groups, shipped_groups
from gateway.packs import pack_names, read_tested

TODAY = date(2026, 12, 1)


def test_there_are_the_six():
    assert pack_names() == (
        "emergency-patch",
        "eu-dual-use",
        "eu-us-ordinary",
        "gdpr-transfer",
        "us-ally-itar",
        "us-cn-patch",
    )


@pytest.mark.parametrize("name", pack_names())
def test_a_pack_passes_its_cases_and_each_rule_would_be_missed(name):
    tested = read_tested(name)

    assert run_cases(tested.policy, tested.questions).problems == ()


@pytest.mark.parametrize("name", pack_names())
def test_a_pack_has_no_error_and_says_who_reviewed_it_and_until_when_it_stands(name):
    tested = read_tested(name)
    told = tested.policy.files[0].metadata

    assert [finding for finding in check_policy(tested.text, shipped_groups()) if finding.is_error] == []
    assert told.id == name
    assert None not in (told.effective_from, told.effective_until, told.reviewed_by, told.reviewed_on)


@pytest.mark.parametrize("name", pack_names())
def test_every_rule_of_a_pack_speaks_of_its_own_lane_only(name):
    lanes = {rule.when.get("lane") for file in read_tested(name).policy.files for rule in file.rules}

    assert len(lanes - {None}) == len(lanes) == 1


@pytest.mark.parametrize("name", pack_names())
def test_no_pack_asks_for_approvals_of_every_pull_which_nobody_can_give(name):
    rules = [rule for file in read_tested(name).policy.files for rule in file.rules if rule.approvals and Gate.RELEASE in rule.at]

    assert [rule.id for rule in rules if not set(rule.when) - {"lane"}] == []


@pytest.mark.parametrize("name", pack_names())
def test_every_refusal_of_a_pack_that_rests_on_law_cites_it(name):
    ours = {
        "emer-001",
        "emer-002",
        "euus-001",
        "euus-050",
        "emer-020",
        "emer-021",
        "emer-022",
        "emer-030",
        "emer-040",
        "itar-030",
        "uscn-040",
    }
    """What a company asks of itself, not the law."""
    rules = [rule for file in read_tested(name).policy.files for rule in file.rules if rule.effect is not Outcome.ALLOW]

    assert [rule.id for rule in rules if not rule.cite and rule.id not in ours] == []


def test_the_groups_that_come_with_this_version_stand_today_and_name_their_sources():
    known = shipped_groups()

    assert known.outdated(known.names, TODAY) == []
    assert len([code for file in known.files for code in file.codes]) == 249
    assert all(file.source and file.reviewed_by for file in known.files)


def test_the_two_american_lists_are_not_one_set():
    groups = {name: group for file in shipped_groups().files for name, group in file.groups.items()}

    def members(*names: str) -> set[str]:
        return {one.code for name in names for one in groups[name].members if one.counts_on(TODAY.isoformat())}

    assert members("ITAR_126_1_T1", "ITAR_126_1_T2") - members("EAR_D5") == {"CY", "ET"}
    assert members("EAR_D5") - members("ITAR_126_1_T1", "ITAR_126_1_T2") == set()


def test_a_file_of_the_site_stands_in_place_of_the_one_of_its_id(tmp_path):
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "doj.yaml").write_text(
        "apiVersion: carnet/groups/v1\nid: us-doj\neffective_from: 2026-01-01\neffective_until: 2026-12-31\nsource: a gazette\n"
        "reviewed_by: me\nreviewed_on: 2026-01-01\ngroups:\n  DOJ_CONCERN: {title: mine, members: [{code: KP}]}\n"
    )

    known = load_groups(tmp_path)

    assert known.names == shipped_groups().names
    assert known.digest != shipped_groups().digest
    assert known.standing("CN", ("DOJ_CONCERN",), TODAY).name == "OUT"


@pytest.mark.parametrize("text", ["groups: [", "apiVersion: carnet/groups/v1\n", "\xff"])
def test_a_bad_file_of_the_site_is_named(tmp_path, text):
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "mine.yaml").write_bytes(text.encode("latin-1"))

    with pytest.raises(CallerError, match=r"groups/mine\.yaml: "):
        load_groups(tmp_path)


def test_what_is_neither_a_pack_nor_a_file_is_refused_and_the_packs_are_named():
    with pytest.raises(CallerError, match="eu-us is neither a pack nor a file") as refused:
        read_tested("eu-us")

    assert "eu-us-ordinary" in str(refused.value.remedy)
