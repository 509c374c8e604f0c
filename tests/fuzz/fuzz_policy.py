"""Fuzz targets of policy files: whatever an author saves is checked or refused, and what loads decides."""

from pathlib import Path

from carnet.decision import Gate
from carnet.policy import Assurance, check_policy, combine, evaluate, make_fact, parse_policy
from carnet.policy.explanation import lines, obligations, reason_views, reasons
from carnet.policy.source import parse_yaml
from gateway.policies import CASES_SUFFIX
from tests.fuzz.drive import Target

DIRECTORY = Path(__file__).parents[2] / "docs/examples/policies"
EXAMPLES = sorted(path for path in DIRECTORY.glob("*.yaml") if not path.name.endswith(CASES_SUFFIX))
FACTS = {
    name: make_fact(name, value, Assurance.DECLARED, "waybill")
    for name, value in {"lane": "us-eu", "artifact.kind": "image", "artifact.size": 5, "data.categories": ["none"]}.items()
}


def yaml_value(data: bytes) -> None:
    """The strict subset: a value, or a problem with a line."""
    parse_yaml(data.decode("utf-8", "replace"))


def findings(data: bytes) -> None:
    """Checking never raises, and a file without errors loads."""
    text = data.decode("utf-8", "replace")
    if not any(finding.is_error for finding in check_policy(text)):
        parse_policy(text, "x.yaml")


def decision(data: bytes) -> None:
    """What loads decides at every gate, with reasons that fit into the signed decision."""
    policy = combine([parse_policy(data.decode("utf-8", "replace"), "x.yaml")])
    for gate in Gate:
        found = evaluate(policy, gate, FACTS)
        assert found.deciding
        assert reasons(found)
        assert reason_views(found)
        assert lines(found)
        obligations(found)


def targets() -> list[Target]:
    """Return the targets of policy files."""
    seeds = [path.read_bytes() for path in EXAMPLES]
    return [
        Target("policy-yaml", yaml_value, seeds),
        Target("policy-check", findings, seeds),
        Target("policy-decision", decision, seeds),
    ]
