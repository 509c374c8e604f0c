"""Expressions: what a rule asks of several facts together, in CEL, where matchers of one fact do not reach.

A fact stands under its name with `_` for `.`: `origin.operator` is `origin_operator`. Which facts an expression reads is known
before it runs, so one that is missing is told by its name, and nothing is ever decided from half of what was asked.

Rules:      1. every name is a fact, or one letter that a macro binds  2. a missing fact is not a value: the answer is missing
            3. what is not true or false, or fails, is an error of the rule, which contributes `on_error`
            4. at most EXPRESSION_CHARS_MAX characters and two macros, so the work is bounded by what the facts hold
Spec:       docs/policy.md section "Expressions"; https://cel.dev
Example:    >>> read_expression("origin_operator != destination_operator").names
            ('destination.operator', 'origin.operator')
"""

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from carnet.errors import CallerError
from carnet.policy.facts import FACTS, LABEL_PREFIX, Fact, Facts, FactType, FactValue, fact_type
from carnet.policy.matching import Answer, Where

if TYPE_CHECKING:
    from cel import Program

EXPRESSION_CHARS_MAX: Final = 500
_MACROS_MAX: Final = 2
_MACRO = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")
_LABEL = re.compile(r"label_[a-z0-9_]+")
_FAILURES: Final = (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError)
_SAMPLES: Final[dict[FactType, FactValue]] = {
    FactType.TEXT: "x",
    FactType.TEXTS: ("x",),
    FactType.NUMBER: 1,
    FactType.FLAG: True,
    FactType.CODE: "DE",
    FactType.CODES: ("DE",),
}


@dataclass(frozen=True)
class Expression:
    """One expression made ready: its text, the facts it reads, and the compiled program."""

    text: str
    names: tuple[str, ...]
    program: "Program" = field(compare=False, repr=False)

    @property
    def asked(self) -> Where:
        """What explanations say that is asked of each fact."""
        return Where(self.text)

    def answer(self, facts: Facts) -> Answer:
        """Return what it says about `facts`: missing if one of its facts is, an error if it fails. Never raises."""
        if any(name not in facts for name in self.names):
            return Answer.MISSING
        try:
            said = self.program.execute({_variable(name): _plain(facts[name]) for name in self.names})
        except _FAILURES:
            return Answer.ERROR
        if not isinstance(said, bool):
            return Answer.ERROR
        return Answer.YES if said else Answer.NO


@cache
def read_expression(text: str) -> Expression:
    """Return the expression in `text`; raise `CallerError` E-POLICY if it is none, too long, or names what is no fact."""
    from cel import compile as compile_expression

    if len(text) > EXPRESSION_CHARS_MAX:
        raise CallerError("E-POLICY", f"an expression of {len(text)} characters, at most {EXPRESSION_CHARS_MAX} are read")
    if len(_MACRO.findall(text)) > _MACROS_MAX:
        raise CallerError("E-POLICY", f"an expression with more than {_MACROS_MAX} macros (all, exists, map, filter)")
    try:
        program = compile_expression(text)
    except _FAILURES as error:
        said = " ".join(str(error).split())
        raise CallerError("E-POLICY", f"no expression in CEL: {ascii(said)[1:-1][:200]}") from None
    names = sorted(name for variable in program.variables() if (name := _fact_named(variable)) is not None)
    return Expression(text, tuple(names), program)


def doubt_about(expression: Expression) -> str | None:
    """Return why the expression seems to be wrong, tried on one value of each type, or None."""
    known = {name: fact_type(name) for name in expression.names}
    try:
        said = expression.program.execute({_variable(name): _listed(_SAMPLES[kind]) for name, kind in known.items() if kind})
    except _FAILURES as error:
        return f"tried on one value of each type it fails: {ascii(' '.join(str(error).split()))[1:-1][:120]}"
    return None if isinstance(said, bool) else "it is neither true nor false"


def _fact_named(variable: str) -> str | None:
    """Return the fact of a variable, None for what a macro binds; raise `CallerError` E-POLICY for anything else (rule 1)."""
    if len(variable) == 1:
        return None
    found = _facts().get(variable)
    if found is None and _LABEL.fullmatch(variable):
        found = LABEL_PREFIX + variable.removeprefix("label_")
    if found is None:
        raise CallerError("E-POLICY", f"the expression names {ascii(variable)[:80]}, which is no fact")
    return found


@cache
def _facts() -> dict[str, str]:
    return {_variable(name): name for name in FACTS}


def _variable(name: str) -> str:
    return name.replace(".", "_")


def _plain(fact: Fact) -> object:
    return _listed(fact.value)


def _listed(value: FactValue) -> object:
    """Return the value without the type that its source gave it."""
    if isinstance(value, tuple):
        return [str(member) for member in value]
    return str(value) if isinstance(value, str) else value
