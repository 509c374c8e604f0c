"""Policies and facts that the tests of this directory share."""

from carnet.policy import Assurance, Fact, Policy, combine, make_fact, parse_policy

HEAD = "apiVersion: carnet/policy/v1\nmetadata: {id: test, version: 1, owner: tests}\n"
ALLOW_ALL = "{id: all, at: [offer, release, receipt], effect: allow, reason: tests}"


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
    return combine([parse_policy(source(*rules, defaults=defaults), "test.yaml")])


def facts(**values: object) -> dict[str, Fact]:
    """Return declared facts; `_` in a keyword stands for `.`."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {name: make_fact(name, value, Assurance.DECLARED, "waybill") for name, value in named.items()}  # type: ignore[arg-type]
