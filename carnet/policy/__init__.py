"""Policy: facts and rules in, a decision with its reasons out.

The gateway decides with it, the command line checks and explains with it, an auditor replays with it; all must come to the
same answer, so it is pure and lives here. Start with `rules` (what a file says), then `evaluation`.

Rules:      1. fails closed: nothing here can turn a doubt into an allow  2. no module here reads a file, a clock or a network
Spec:       docs/policy.md; DESIGN section 8
"""

from carnet.policy.checking import Finding, check_policy, gates_without_permit, parse_policy
from carnet.policy.evaluation import PolicyDecision, evaluate, undecided
from carnet.policy.facts import Assurance, Fact, Facts, make_fact
from carnet.policy.groups import NO_GROUPS, GroupFile, Groups, parse_groups
from carnet.policy.rules import Policy, PolicyFile, Rule, combine

__all__ = [
    "NO_GROUPS",
    "Assurance",
    "Fact",
    "Facts",
    "Finding",
    "GroupFile",
    "Groups",
    "Policy",
    "PolicyDecision",
    "PolicyFile",
    "Rule",
    "check_policy",
    "combine",
    "evaluate",
    "gates_without_permit",
    "make_fact",
    "parse_groups",
    "parse_policy",
    "undecided",
]
