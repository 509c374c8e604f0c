"""Open rules: rules whose part in a decision something missing may change, how they stand, and what would settle them.

Rules:      1. a rule stands for sure if it does with every offer that is left  2. a step narrows what is left
            3. with one step after another every way to settle a rule is found
Spec:       docs/policy.md sections "How a decision is made" and "What is missing"
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import chain

from carnet.decision import Gate, Outcome
from carnet.policy.matching import Answer
from carnet.policy.rules import ApprovalNeed

Supplied = Mapping[str, int]
"""What is supplied, by name, each with the offers that are left as bits."""


class RuleStanding(IntEnum):
    """Whether a rule applies: for sure, for sure not, or neither."""

    NOT = 0
    UNSURE = 1
    APPLIES = 2


@dataclass(frozen=True)
class OpenCondition:
    """One condition: what it says now, and the offers of its fact that would make it say yes or no, as bits."""

    name: str
    now: Answer
    yes: int = 0
    no: int = 0

    def says(self, supplied: Supplied) -> Answer | None:
        """Return yes or no; None if it says neither, or either."""
        mask = supplied.get(self.name, 0)
        if not mask:
            return self.now if self.now in (Answer.YES, Answer.NO) else None
        if not mask & ~self.yes:
            return Answer.YES
        return Answer.NO if not mask & ~self.no else None

    def always(self, wanted: Answer, everything: Mapping[str, int]) -> bool:
        """Tell whether it says this now, and with every offer."""
        return self.now is wanted and not everything.get(self.name, 0) & ~(self.yes if wanted is Answer.YES else self.no)

    def made(self, supplied: Supplied, wanted: Answer, everything: Mapping[str, int]) -> dict[str, int] | None:
        """Return `supplied` so that the condition says what is wanted, or None if nothing that is left does that."""
        if self.says(supplied) is wanted:
            return dict(supplied)
        left = supplied.get(self.name, everything.get(self.name, 0)) & (self.yes if wanted is Answer.YES else self.no)
        return {**supplied, self.name: left} if left else None


@dataclass(frozen=True)
class OpenRule:
    """A rule that something missing may have a say in."""

    gate: Gate
    effect: Outcome
    when: tuple[OpenCondition, ...]
    exemptions: tuple[tuple[OpenCondition, ...], ...]
    approvals: tuple[ApprovalNeed, ...]
    is_over: bool
    """It stands in a policy that is over: it holds if it applies."""

    @property
    def permits(self) -> bool:
        """Whether it allows if it applies."""
        return self.effect is Outcome.ALLOW and not self.is_over

    @property
    def conditions(self) -> Iterator[OpenCondition]:
        """Every condition, of `when` and of all alternatives."""
        return chain(self.when, *self.exemptions)

    @cached_property
    def size(self) -> int:
        """How many answers it takes to know how it stands."""
        return 1 + len(self.when) + sum(len(alternative) for alternative in self.exemptions)

    def standing(self, supplied: Supplied) -> RuleStanding:
        """Return whether the rule applies for sure, for sure not, or neither."""
        whens = [one.says(supplied) for one in self.when]
        if Answer.NO in whens:
            return RuleStanding.NOT
        exempt = [[one.says(supplied) for one in alternative] for alternative in self.exemptions]
        if any(all(said is Answer.YES for said in alternative) for alternative in exempt):
            return RuleStanding.NOT
        sure = all(said is Answer.YES for said in whens) and all(Answer.NO in alternative for alternative in exempt)
        return RuleStanding.APPLIES if sure else RuleStanding.UNSURE

    def is_ruled_out(self, everything: Mapping[str, int]) -> bool:
        """Tell whether the rule does not apply, whatever is supplied."""
        return any(one.always(Answer.NO, everything) for one in self.when) or any(
            all(one.always(Answer.YES, everything) for one in alternative) for alternative in self.exemptions
        )

    def ended(self, supplied: Supplied, everything: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """Yield what would keep the rule from applying: one condition that says no, or one alternative that exempts."""
        for one in self.when:
            made = one.made(supplied, Answer.NO, everything)
            if made is not None:
                yield made
        for alternative in self.exemptions:
            made = _all_say_yes(alternative, supplied, everything)
            if made is not None:
                yield made

    def applied(self, supplied: Supplied, everything: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """Yield steps towards the rule's applying: all conditions, and no to the first alternative that is not settled."""
        made = _all_say_yes(self.when, supplied, everything)
        if made is None:
            return
        for alternative in self.exemptions:
            if not any(one.says(made) is Answer.NO for one in alternative):
                tried = (one.made(made, Answer.NO, everything) for one in alternative)
                yield from (one for one in tried if one is not None)
                return
        yield made


def _all_say_yes(
    conditions: tuple[OpenCondition, ...], supplied: Supplied, everything: Mapping[str, int]
) -> dict[str, int] | None:
    made: dict[str, int] | None = dict(supplied)
    for one in conditions:
        if made is None:
            return None
        made = one.made(made, Answer.YES, everything)
    return made
