"""What is missing: the shortest list of facts and approvals that would turn decisions into allows.

One question may be asked at several gates, and the list is the shortest that serves all of them. A decision tells for each rule
which of its conditions hold. From that a search goes through the ways in which rules that stand in the way come to apply no more,
and rules that allow come to apply: one condition of `when` says no, one alternative of `unless` says yes, persons approve. It
takes the cheapest way first, so what it finds first is the shortest.

Rules:      1. what is named was tried: policy itself, asked with an example of each value, allows, or asks for approvals alone
            2. a known fact is never to be said otherwise; a rule that stands on known facts has no list, but a remedy
            3. shortest means: fewest acts of people (`supplying.act`, and each role that approves), then fewest persons, then
               fewest facts. What nobody may vouch for comes last, what the site itself finds out counts for nothing
            4. exact within `LOOKED_MAX` answers. Beyond, the cheapest next step is taken without looking back: the list does
               turn the decision, and a shorter one may exist. Where that leads nowhere, it says that it does not know
            5. not exact: values are examples (`supplying`); facts that one act makes known together are looked at one by one
Spec:       docs/policy.md section "What is missing"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from heapq import heappop, heappush
from itertools import count
from typing import Final

from carnet.approval import GATES
from carnet.decision import Gate, Outcome
from carnet.policy.evaluation import PolicyDecision, RuleResult, Verdict, evaluate
from carnet.policy.facts import Fact, Facts, Supplier
from carnet.policy.matching import Answer, Assured, Matcher, Where, describe
from carnet.policy.open_rules import OpenCondition, OpenRule, RuleStanding, Supplied
from carnet.policy.rules import ENGINE, NO_PERMIT, UNCHANGED, ApprovalNeed, Policy
from carnet.policy.supplying import Offer, act, offers, people

FACTS_MISSING_MAX: Final = 32
"""Facts that one list names; a longer one helps nobody."""
LOOKED_MAX: Final = 100_000
"""Answers that one search looks at; about a tenth of a second of them."""
_CONDITIONS_NAMED_MAX = 4
_SAID: Final = (Answer.YES, Answer.NO)
_SIGNED: Final = (Supplier.PEOPLE, Supplier.LICENCE)
"""Whose word has to count: a role that the policy names has to sign."""

_Cost = tuple[int, int, int, int, tuple[str, ...]]


class Prospect(StrEnum):
    """What supplying more would do to a decision."""

    NOTHING = "nothing-missing"
    """It allows as it is."""
    LISTED = "listed"
    """What the list names would turn it."""
    CLOSED = "closed"
    """Nothing that is missing would: what a rule says about known facts has to change."""
    UNKNOWN = "unknown"
    """Not found out within bounds."""


@dataclass(frozen=True)
class MissingFact:
    """A fact to be supplied: who could, what is asked of it in words, and an example that would do."""

    name: str
    supplier: Supplier
    roles: tuple[str, ...]
    """Whose word counts, where it takes people's; nobody's if there is none."""
    wanted: str
    example: Fact
    gate: Gate
    """The first gate that needs it."""


@dataclass(frozen=True)
class Missing:
    """What decisions lack: `facts`, then `approvals` by gate of the holds that are left; both empty unless it is `LISTED`."""

    prospect: Prospect
    facts: tuple[MissingFact, ...] = ()
    approvals: tuple[tuple[Gate, ApprovalNeed], ...] = ()


def find_missing(
    policy: Policy, facts: Facts, decisions: Sequence[PolicyDecision], on: date | None = None, *, most: int = LOOKED_MAX
) -> Missing:
    """Return what is missing for all `decisions` to become allows: `policy` made them about `facts` on the day `on`.

    `most` is how many answers are looked at before the search is exact no more (rule 4).
    """
    if all(decision.outcome is Outcome.ALLOW for decision in decisions):
        return Missing(Prospect.NOTHING)
    asked = _Question(policy, facts, decisions, on, most)
    found, is_all = asked.search()
    if found is None:
        return Missing(Prospect.CLOSED if is_all else Prospect.UNKNOWN)
    if len(found.given.supplied) > FACTS_MISSING_MAX:
        return Missing(Prospect.UNKNOWN)
    supplied = {**facts, **asked.examples(found)}
    then = [evaluate(policy, decision.gate, supplied, on) for decision in decisions]
    if not all(_is_open(one) for one in then):
        return Missing(Prospect.UNKNOWN)
    approvals = tuple((one.gate, need) for one in then if one.outcome is Outcome.HOLD for need in one.approvals)
    return Missing(Prospect.LISTED, asked.told(found), approvals)


def _is_open(decision: PolicyDecision) -> bool:
    """Tell whether the decision allows, or waits for nothing but persons where persons are asked."""
    return decision.outcome is Outcome.ALLOW or (decision.gate in GATES and decision.is_satisfiable)


@dataclass(frozen=True)
class _Given:
    """What is supplied, and the rules whose approvals are given, by number."""

    supplied: Supplied
    accepted: frozenset[int] = frozenset()

    @property
    def key(self) -> tuple[tuple[tuple[str, int], ...], frozenset[int]]:
        """What tells them apart."""
        return tuple(sorted(self.supplied.items())), self.accepted


@dataclass(frozen=True)
class _State:
    """Where a search is: what is given, and how each rule stands then."""

    given: _Given
    standings: bytes


class _Question:
    """One search; what it looks at is counted, for that is what it costs."""

    def __init__(self, policy: Policy, facts: Facts, decisions: Sequence[PolicyDecision], on: date | None, most: int) -> None:
        self._policy = policy
        self._most = most
        self._gates = [decision.gate for decision in decisions]
        self._looked = 0
        results = [
            (decision.gate, one)
            for decision in decisions
            for one in decision.results
            if one.rule not in (NO_PERMIT, UNCHANGED) and _may_matter(one)
        ]
        asked: dict[str, dict[str, Matcher]] = {}
        for _, result in results:
            for given in result.inputs:
                if not isinstance(given.matcher, Where):
                    asked.setdefault(given.name, {}).setdefault(_key(given.matcher), given.matcher)
        self._matchers = {name: tuple(asked[name].values()) for name in sorted(asked)}
        made = {name: offers(name, facts.get(name), matchers, policy, on) for name, matchers in self._matchers.items()}
        # What would satisfy an expression is not searched for, so where one is asked nothing is known in full.
        reads_together = any(isinstance(given.matcher, Where) for _, result in results for given in result.inputs)
        self._is_all = all(one.is_all for one in made.values()) and not reads_together
        self._offers: dict[str, tuple[Offer, ...]] = {name: one.found for name, one in made.items() if one.found}
        self._everything = {name: (1 << len(found)) - 1 for name, found in self._offers.items()}
        self._fitting = {
            name: tuple(
                tuple(sum(1 << bit for bit, offer in enumerate(found) if offer.answers[place] is said) for said in _SAID)
                for place in range(len(self._matchers[name]))
            )
            for name, found in self._offers.items()
        }
        places = {name: {key: place for place, key in enumerate(asked[name])} for name in asked}
        read = (self._rule(gate, result, places) for gate, result in results)
        self._rules = [rule for rule in read if rule is not None]
        self._readers: dict[str, list[int]] = {}
        self._fewest = [self._reads(number, rule) for number, rule in enumerate(self._rules)]
        self._unheard = frozenset(name for name in self._offers if not people(name, policy))
        payments = {act(name) for name in self._offers} | {
            (rule.gate, one.role) for rule in self._rules for one in rule.approvals
        }
        self._bits = {one: 1 << bit for bit, one in enumerate(sorted(payments, key=str))}
        self._reach = [self._payments(rule) for rule in self._rules]
        self._is_undecided = any(one.rule == ENGINE for _, one in results)

    def search(self) -> tuple[_State | None, bool]:
        """Return the cheapest state in which nothing stands in the way; and whether all ways were looked at if there is none."""
        if self._is_undecided:
            return None, True
        start = _State(_Given({}), bytes(rule.standing({}) for rule in self._rules))
        queue = [(self._cost(start), 0, start)]
        seen, turn, is_all = {start.given.key}, count(1), self._is_all
        while queue:
            _, _, state = heappop(queue)
            ways = self._ways(state)
            if ways is None:
                return state, True
            for way in ways:
                if self._looked > self._most:
                    return self._descend(state), False
                if way.key in seen:
                    continue
                seen.add(way.key)
                then = self._moved(state, way)
                cost = self._cost(then)
                if cost[3] > FACTS_MISSING_MAX:
                    is_all = False
                    continue
                heappush(queue, (cost, next(turn), then))
        return None, is_all

    def examples(self, state: _State) -> dict[str, Fact]:
        """Return the facts of a state, each with the first offer that is left."""
        return {name: self._first(name, mask).fact for name, mask in state.given.supplied.items()}

    def told(self, state: _State) -> tuple[MissingFact, ...]:
        """Return the facts of a state in which nothing stands in the way, with what is asked of each."""
        chosen = {name: mask & -mask for name, mask in state.given.supplied.items()}
        found = []
        for name in sorted(chosen):
            good = chosen[name]
            for one in (1 << bit for bit in range(len(self._offers[name]))):
                if self._looked < 3 * self._most and self._is_open(self._with(state, {**chosen, name: one})):
                    good |= one
            offer = self._first(name, chosen[name])
            roles = people(name, self._policy) if offer.supplier in _SIGNED else ()
            closed = self._closed(self._with(state, {other: mask for other, mask in chosen.items() if other != name}))
            gate = next((one for one in self._gates if one in closed), self._gates[0])
            found.append(MissingFact(name, offer.supplier, roles, self._wanted(name, good), offer.fact, gate))
        return tuple(found)

    def _rule(self, gate: Gate, result: RuleResult, places: Mapping[str, Mapping[str, int]]) -> OpenRule | None:
        """Return the rule of a result, or None if it does not apply, whatever is supplied."""
        read: dict[int, list[OpenCondition]] = {}
        for given in result.inputs:
            fitting = None if isinstance(given.matcher, Where) else self._fitting.get(given.name)
            yes, no = (0, 0) if fitting is None else fitting[places[given.name][_key(given.matcher)]]
            read.setdefault(given.exempting, []).append(OpenCondition(given.name, given.answer, yes, no))
        rule = OpenRule(
            gate,
            result.effect,
            tuple(read.pop(0, ())),
            tuple(tuple(read[number]) for number in sorted(read)),
            result.approvals if gate in GATES and result.effect is Outcome.HOLD else (),
            is_over=result.verdict is Verdict.NOT_IN_FORCE,
        )
        return None if rule.is_ruled_out(self._everything) else rule

    def _reads(self, number: int, rule: OpenRule) -> int:
        """Note which facts the rule reads, and return how many of them could be supplied."""
        names = {one.name for one in rule.conditions if one.name in self._offers}
        for name in names:
            self._readers.setdefault(name, []).append(number)
        return len(names)

    def _payments(self, rule: OpenRule) -> int:
        """Return, as bits, the acts and roles one of which settles the rule at least; 0 if it may cost nothing."""
        names = {one.name for one in rule.conditions if one.name in self._offers}
        if any(self._offers[name][0].supplier is Supplier.SITE for name in names):
            return 0
        found = 0
        for payment in {act(name) for name in names} | {(rule.gate, one.role) for one in rule.approvals}:
            found |= self._bits[payment]
        return found

    def _moved(self, state: _State, given: _Given) -> _State:
        """Return the state with something else given: only rules that read a fact that differs are asked again."""
        before, after = state.given.supplied, given.supplied
        names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        standings = bytearray(state.standings)
        for number in {number for name in names for number in self._readers[name]}:
            self._looked += self._rules[number].size
            standings[number] = self._rules[number].standing(after)
        return _State(given, bytes(standings))

    def _with(self, state: _State, supplied: Supplied) -> _State:
        return self._moved(state, replace(state.given, supplied=supplied))

    def _in_the_way(self, state: _State) -> list[int]:
        """Return the rules that hold or deny, or may."""
        self._looked += 1 + len(self._rules) // 8
        found = []
        for number, standing in enumerate(state.standings):
            if standing == RuleStanding.NOT:
                continue
            rule = self._rules[number]
            is_fine = rule.permits or number in state.given.accepted
            if standing == RuleStanding.UNSURE or not is_fine:
                found.append(number)
        return found

    def _unpermitted(self, state: _State) -> list[Gate]:
        """Return the gates at which no rule allows."""
        granted = {
            rule.gate for rule, standing in zip(self._rules, state.standings, strict=True)
            if rule.permits and standing == RuleStanding.APPLIES
        }  # fmt: skip
        return [gate for gate in self._gates if gate not in granted and gate is not Gate.RECHECK]

    def _closed(self, state: _State) -> set[Gate]:
        """Return the gates that something stands in the way at."""
        return {self._rules[number].gate for number in self._in_the_way(state)} | set(self._unpermitted(state))

    def _is_open(self, state: _State) -> bool:
        return not self._in_the_way(state) and not self._unpermitted(state)

    def _ways(self, state: _State) -> list[_Given] | None:
        """Return what a next step would give; None if nothing stands in the way."""
        supplied, accepted = state.given.supplied, state.given.accepted
        ahead = self._in_the_way(state)
        if ahead:
            return self._settled(state, min(ahead, key=self._fewest.__getitem__))
        unpermitted = self._unpermitted(state)
        if not unpermitted:
            return None
        permits = [rule for rule in self._rules if rule.permits and rule.gate is unpermitted[0]]
        self._looked += sum(rule.size for rule in permits)
        return [_Given(made, accepted) for rule in permits for made in rule.applied(supplied, self._everything)]

    def _settled(self, state: _State, number: int) -> list[_Given]:
        """Return what a next step would give towards a rule that stands in the way no more."""
        rule, supplied, accepted = self._rules[number], state.given.supplied, state.given.accepted
        self._looked += rule.size * (1 + len(supplied))
        found = [_Given(made, accepted) for made in rule.ended(supplied, self._everything)]
        if rule.permits or (rule.approvals and not rule.is_over):
            if state.standings[number] == RuleStanding.APPLIES:
                found.append(_Given(supplied, accepted | {number}))
            else:
                found += [_Given(made, accepted) for made in rule.applied(supplied, self._everything)]
        return found

    def _descend(self, state: _State) -> _State | None:
        """Return a state in which nothing stands in the way, by the cheapest step each time, or None (rule 4)."""
        while self._looked < 2 * self._most:
            ways = self._ways(state)
            if ways is None:
                return self._needed(state)
            ahead = [way for way in ways if way.key != state.given.key]
            if not ahead:
                return None
            state = self._moved(state, min(ahead, key=self._price))
        return None

    def _needed(self, state: _State) -> _State:
        """Return the state without facts that nothing in it needs."""
        for name in sorted(state.given.supplied):
            without = self._with(state, {other: mask for other, mask in state.given.supplied.items() if other != name})
            if self._is_open(without):
                state = without
        return state

    def _cost(self, state: _State) -> _Cost:
        """Return the price, with what at least is still to come: of rules in the way that share no payment, one each."""
        unheard, paid, persons, facts, names = self._price(state.given)
        payments = self._paid(state.given)
        for number in self._in_the_way(state):
            reach = self._reach[number]
            if reach and not reach & payments:
                payments |= reach
                paid += 1
                facts += not self._rules[number].approvals
        return unheard, paid, persons, facts, names

    def _price(self, given: _Given) -> _Cost:
        """Return what all that is given costs (rule 3)."""
        by = {name: self._first(name, mask).supplier for name, mask in given.supplied.items()}
        unheard = sum(one in _SIGNED and name in self._unheard for name, one in by.items())
        counts: dict[tuple[Gate, str], int] = {}
        for number in given.accepted:
            for need in self._rules[number].approvals:
                asker = (self._rules[number].gate, need.role)
                counts[asker] = max(need.count, counts.get(asker, 0))
        return unheard, self._paid(given).bit_count(), sum(counts.values()), len(by), tuple(sorted(by))

    def _paid(self, given: _Given) -> int:
        """Return, as bits, the acts and the roles that what is given takes; what a site does itself is none."""
        found = 0
        for name, mask in given.supplied.items():
            if self._first(name, mask).supplier is not Supplier.SITE:
                found |= self._bits[act(name)]
        for number in given.accepted:
            for need in self._rules[number].approvals:
                found |= self._bits[self._rules[number].gate, need.role]
        return found

    def _first(self, name: str, mask: int) -> Offer:
        """Return the first offer that is left; a sender's come first."""
        return self._offers[name][(mask & -mask).bit_length() - 1]

    def _wanted(self, name: str, good: int) -> str:
        """Return in words what is asked of the fact, so that the offers in `good` fit and as few others as may be."""
        left = self._everything[name]
        if good == left:
            return "is known"
        said: list[str] = []
        for wanted in (Answer.YES, Answer.NO):
            for place, matcher in enumerate(self._matchers[name]):
                fitting = self._fitting[name][place][_SAID.index(wanted)]
                if not good & ~fitting and left & ~fitting and left != good and len(said) < _CONDITIONS_NAMED_MAX:
                    left &= fitting
                    said.append(describe(matcher) if wanted is Answer.YES else _denied(describe(matcher)))
        return " and ".join(said) or "has a value that fits more than one rule"


def _may_matter(result: RuleResult) -> bool:
    """Tell whether something that is missing may change the rule's part: no condition about a known fact rules it out."""
    return not any(
        not one.exempting and one.answer is Answer.NO and one.fact is not None and not isinstance(one.matcher, Assured)
        for one in result.inputs
    )


def _key(matcher: Matcher | Where) -> str:
    """Return what tells matchers apart: `True` and `1` ask different things."""
    return f"{type(matcher).__name__} {matcher!r}"


def _denied(said: str) -> str:
    return f"is not {said.removeprefix('is ')}" if said.startswith("is ") else f"does not fit {said.removeprefix('fits ')}"
