"""The policy that docs/policy.md shows, and the cases that it shows, are what they say they are."""

import re
from pathlib import Path

from carnet.policy import check_policy, combine, parse_policy
from carnet.policy.cases import parse_cases, questions, run_cases
from gateway.geography import shipped_groups

SHOWN = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[2] / "docs/policy.md").read_text("utf-8"), re.DOTALL)


def shown(form: str) -> str:
    [found] = [block for block in SHOWN if f"apiVersion: carnet/{form}/v1" in block]
    return found


def test_the_first_policy_of_the_document_is_in_order_and_its_cases_test_all_of_it():
    text = shown("policy")
    report = run_cases(combine([parse_policy(text, "shown")]), questions(parse_cases(shown("cases"), "shown")))

    assert check_policy(text, shipped_groups()) == []
    assert report.problems == ()
