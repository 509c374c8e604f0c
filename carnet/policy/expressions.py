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
from textwrap import shorten
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
_UNKNOWN = re.compile(r"Undefined variable or function: '([^']*)'")
_SYNTAX = re.compile(r"<input>:1:([0-9]{1,4}): Syntax error: (.*?)(?: expecting |$)", re.MULTILINE)
_SAID_MAX: Final = 120
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
        raise CallerError("E-POLICY", f"no expression in CEL: {_syntax(error)}") from None
    names = sorted(name for variable in program.variables() if (name := _fact_named(variable, text)) is not None)
    return Expression(text, tuple(names), program)


def try_out(expression: Expression) -> str | None:
    """Try the expression on one value of each type; return why it seems to be wrong, or None.

    Raises:
        CallerError: E-POLICY if it calls a function that does not exist, or is neither true nor false.
    """
    known = {name: fact_type(name) for name in expression.names}
    try:
        said = expression.program.execute({_variable(name): _listed(_SAMPLES[kind]) for name, kind in known.items() if kind})
    except _FAILURES as error:
        unknown = _UNKNOWN.match(str(error))
        if unknown is not None:
            raise CallerError("E-POLICY", f"CEL has no function called {ascii(unknown[1])[1:-1][:80]}") from None
        return f"its expression, tried on one value of each type, fails: {_first_sentence(error)}"
    if not isinstance(said, bool):
        raise CallerError("E-POLICY", "the expression is neither true nor false")
    return None


def _syntax(error: Exception) -> str:
    """Return where the parser stopped, and at what; without all that it would have taken instead."""
    found = _SYNTAX.search(str(error))
    return _first_sentence(error) if found is None else f"at character {int(found[1]) + 1}, {ascii(found[2])[1:-1][:80]}"


def _first_sentence(error: Exception) -> str:
    """Return what the library says, without its advice, cut between words."""
    said = ascii(" ".join(str(error).split()).partition(". ")[0])[1:-1]
    return shorten(said, _SAID_MAX, placeholder=" ...")


def _fact_named(variable: str, text: str) -> str | None:
    """Return the fact of a variable of `text`, None for what a macro binds; raise `CallerError` E-POLICY for else (rule 1)."""
    if len(variable) == 1:
        return None
    found = _facts().get(variable)
    if found is None and _LABEL.fullmatch(variable):
        found = LABEL_PREFIX + variable.removeprefix("label_")
    if found is None:
        dotted = next((name for name in FACTS if name.startswith(f"{variable}.") and name in text), None)
        more = f": write {_variable(dotted)} for {dotted}" if dotted is not None else ""
        raise CallerError("E-POLICY", f"the expression names {ascii(variable)[:80]}, which is no fact{more}")
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
