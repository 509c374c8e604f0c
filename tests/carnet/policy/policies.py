"""Policies and facts that the tests of this directory share."""

from datetime import date

from carnet.policy import Assurance, Fact, Groups, Policy, combine, make_fact, parse_groups, parse_policy

HEAD = "apiVersion: carnet/policy/v1\nmetadata: {id: test, version: 1, owner: tests}\n"
ALLOW_ALL = "{id: all, at: [offer, release, receipt], effect: allow, reason: tests}"

DAY = date(2026, 12, 1)
CODES = """
apiVersion: carnet/groups/v1
id: codes
effective_from: 2026-01-01
effective_until: 2029-12-31
source: ISO 3166-1
reviewed_by: tests
reviewed_on: 2026-01-01
codes: [DE, FR, GB, KH, RU, UA, US]
"""
LISTS = """
apiVersion: carnet/groups/v1
id: lists
effective_from: 2026-11-01
effective_until: 2027-01-31
source: a gazette
reviewed_by: tests
reviewed_on: 2026-11-01
groups:
  OURS: {title: ours, members: [{code: DE}, {code: FR}]}
  BARRED:
    title: barred
    members:
      - {code: RU}
      - {code: UA-43, note: Crimea}
      - {code: KH, until: 2026-12-01}
      - {code: GB, since: 2026-12-24}
"""
GROUPS = Groups([parse_groups(CODES, "codes.yaml"), parse_groups(LISTS, "lists.yaml")])


def rule(text: str) -> str:
    """Complete a rule: id, gate, reason and remedy unless `text` gives them."""
    parts = [text]
    for name, value in (("id", "r1"), ("at", "[offer]"), ("reason", "because"), ("remedy", "do otherwise"), ("effect", "allow")):
        if f"{name}:" not in text:
            parts.append(f"{name}: {value}")
    return "{" + ", ".join(part for part in parts if part) + "}"


def source(*rules: str, defaults: str = "") -> str:
    """Return the text of a policy file with these rules."""
    return HEAD + (f"defaults: {defaults}\n" if defaults else "") + "rules:\n" + "".join(f"  - {text}\n" for text in rules)


def policy(*rules: str, defaults: str = "") -> Policy:
    """Return the policy with these rules."""
    return combine([parse_policy(source(*rules, defaults=defaults), "test.yaml", GROUPS)], GROUPS)


def facts(**values: object) -> dict[str, Fact]:
    """Return declared facts; `_` in a keyword stands for `.`."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {name: make_fact(name, value, Assurance.DECLARED, "waybill") for name, value in named.items()}  # type: ignore[arg-type]
