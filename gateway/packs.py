"""Packs: policies that come with this version, each with its cases; and policy files with cases beside them, read alike.

A pack is a beginning, not legal advice: copy it, have it reviewed, put the names of your own lanes in.

Rules:      1. nothing here is in force anywhere until somebody copies it into a site's directory
Spec:       docs/policy.md section "Packs"
"""

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from carnet.errors import CallerError
from carnet.policy import Groups, Policy, combine, parse_policy
from carnet.policy.cases import Question, parse_cases, questions
from gateway.geography import load_groups, shipped_groups
from gateway.policies import CASES_SUFFIX
from gateway.policy_files import read_policy_file

_SUFFIX: Final = ".yaml"


@dataclass(frozen=True)
class TestedPolicy:
    """A policy and the cases beside it; the texts are what the files say, that of the cases empty without a file."""

    name: str
    text: str
    cases_name: str
    """The file of the cases, or the one that was looked for."""
    cases_text: str
    policy: Policy
    questions: tuple[Question, ...]


def pack_names() -> tuple[str, ...]:
    """Return the names of the packs."""
    names = sorted(entry.name for entry in _directory().iterdir())
    return tuple(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and not name.endswith(CASES_SUFFIX))


def read_tested(name_or_file: str, cases: Path | None = None) -> TestedPolicy:
    """Return a pack by its name, or a file with its cases; raise `CallerError` E-POLICY if either is not sound.

    The cases of `FILE.yaml` are in `FILE.cases.yaml` unless `cases` names another file; without a file there are none. Groups
    in a directory `groups` beside a file count as they would at a site.
    """
    if name_or_file in pack_names():
        directory = _directory()
        text = directory.joinpath(name_or_file + _SUFFIX).read_text("utf-8")
        beside = directory.joinpath(name_or_file + CASES_SUFFIX) if cases is None else cases
        return _tested(name_or_file, text, beside, shipped_groups())
    path = Path(name_or_file)
    if not path.exists() and path.suffix != _SUFFIX:
        raise CallerError(
            "E-POLICY", f"{name_or_file} is neither a pack nor a file", remedy=f"the packs are {', '.join(pack_names())}"
        )
    beside = cases or path.with_name(path.name.removesuffix(_SUFFIX) + CASES_SUFFIX)
    text = read_policy_file(path, str(path))
    return _tested(path.name, text, beside, load_groups(path.parent), needs_cases=cases is not None)


def pack(name: str) -> TestedPolicy:
    """Return the pack called `name`; raise `CallerError` E-USAGE if there is none."""
    if name not in pack_names():
        raise CallerError("E-USAGE", f"no pack is called {ascii(name)[:80]}", remedy=f"the packs are {', '.join(pack_names())}")
    return read_tested(name)


def _tested(name: str, text: str, cases: Traversable | Path, groups: Groups, *, needs_cases: bool = True) -> TestedPolicy:
    policy = combine([parse_policy(text, name, groups)], groups)
    if not needs_cases and isinstance(cases, Path) and not cases.exists():
        return TestedPolicy(name, text, cases.name, "", policy, ())
    said = read_policy_file(cases, str(cases))
    try:
        asked = questions(parse_cases(said, cases.name))
    except CallerError as error:
        named = error.problem if error.problem.startswith(cases.name) else f"{cases.name}: {error.problem}"
        raise CallerError(
            "E-POLICY", named, remedy="correct the file of cases; docs/policy.md says what may stand in it"
        ) from None
    return TestedPolicy(name, text, cases.name, said, policy, asked)


def _directory() -> Traversable:
    return files("gateway").joinpath("data/packs")
